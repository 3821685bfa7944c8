"""The engines for CPUs side by side, and how soon a warm runner goes on.

Each engine is loaded and warmed up in a process of its own; then they take turns, one call each, so that whatever else
the machine does meets them all. A ratio is the median of those within a turn.

  taskset -c 0,1 python benchmarks/cpu.py --threads 2 --turns 10
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
READY = "READY"


def serve(flags: argparse.Namespace) -> None:
    """One engine: warms up, then makes a call for each line that comes in, and answers with its seconds."""
    from runner import engines
    from runner.schema import Case, Device, Job, Precision

    job = Job(
        run="benchmark",
        id="",
        host="",
        device=Device.CPU,
        engine=flags.engines,
        precision=Precision.SINGLE,
        model=flags.model,
        cases=(Case("", 1),),
        prompt="a photo of an astronaut riding a horse on mars",
        steps=flags.steps,
        threads=flags.threads,
    )
    session = engines.find(job.engine).load(job, None)
    for _ in range(3):
        session.generate(1)
    print(READY, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        session.generate(1)
        print(f"{time.perf_counter() - start}", flush=True)


class Server:
    def __init__(self, engine: str, flags: argparse.Namespace) -> None:
        words = [sys.executable, __file__, "--alone", "--engines", engine]
        for name in ("model", "steps", "threads"):
            words += [f"--{name}", str(getattr(flags, name))]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while (line := self._line()) != READY:
            if not line:
                raise SystemExit(f"{engine} ended before it was ready")

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def call_s(self) -> float:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._line())


def compare(flags: argparse.Namespace) -> None:
    names = flags.engines.split(",")
    servers = {name: Server(name, flags) for name in names}
    turns = [{name: server.call_s() for name, server in servers.items()} for _ in range(flags.turns)]
    for server in servers.values():
        assert server.process.stdin
        server.process.stdin.close()
    for name in names:
        seconds = [turn[name] for turn in turns]
        ratios = sorted(turn[name] / turn[names[0]] for turn in turns)
        print(
            f"{name:12} {statistics.median(seconds):.3f} s ({min(seconds):.3f} to {max(seconds):.3f})  "
            f"of {names[0]}: {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})",
            flush=True,
        )


def gaps(flags: argparse.Namespace) -> None:
    """Seconds from one case's row to the next case's first call, in the same process and in the next job's new one."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "runner", "--output_file", f"{folder}/rows.csv", "--model", "synthetic:tiny"]
        words += ["--device", "cpu", "--steps", "2", "--warmup", "0", "--threads", str(flags.threads), "--repeats", "1"]
        words += ["--samples", "1,2", "--autocast", "yes"]
        done = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    same, new, ended = [], [], None
    for event in events:
        if event["kind"] == "case_ended":
            ended = event["at"]
        elif event["kind"] == "loading" and ended is not None:
            new.append(event["at"] - ended)
            ended = None
        elif event["kind"] == "case_started" and ended is not None:
            same.append(event["at"] - ended)
    print(f"from a row to the next case's first call: {max(same):.3f} s at most, of {len(same)}")
    print(f"from a job's last row to the next job's loading, in a new process: {max(new):.3f} s, of {len(new)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", default="eager,onnxruntime,openvino", help="the first is what the others divide")
    parser.add_argument("--model", default="synthetic:small")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(flags.threads)
    if flags.alone:
        serve(flags)
        return
    gaps(flags)
    compare(flags)


if __name__ == "__main__":
    main()
