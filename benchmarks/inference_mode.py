"""How much more CPU time a call takes under `no_grad`, the pipeline's own mode, than under `inference_mode`.

Calls under both take turns in one process, and the CPU time of each is counted, which other work on the machine
disturbs least.

  python benchmarks/inference_mode.py --model tiny --steps 4 --turns 60
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="a synthetic model")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=60)
    flags = parser.parse_args()

    import torch

    from runner.models import synthetic

    torch.set_num_threads(flags.threads)
    pipe = synthetic.build(flags.model, torch.float32)
    pipe.set_progress_bar_config(disable=True)

    def cpu_s(inference: bool) -> float:
        start = time.process_time()
        with torch.inference_mode(inference):
            pipe(["a photo of an astronaut riding a horse on mars"], num_inference_steps=flags.steps)
        return time.process_time() - start

    for _ in range(2):
        cpu_s(True), cpu_s(False)
    gc.collect()
    gc.freeze()
    ratios = []
    for turn in range(flags.turns):
        times = {mode: cpu_s(mode) for mode in ((True, False) if turn % 2 else (False, True))}
        ratios.append(times[False] / times[True])
    low, _, high = statistics.quantiles(ratios, n=4)
    print(f"no_grad / inference_mode: median {statistics.median(ratios):.4f} (quartiles {low:.4f} to {high:.4f})")


if __name__ == "__main__":
    main()
