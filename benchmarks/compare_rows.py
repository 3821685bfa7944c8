"""How long a comparison of many rows takes, as a multiple of reading the same rows from their CSV.

Rows of 50 hosts, 5 engines, 2 precisions, 4 batch sizes, with 3 rounds each. Every part is done several times, in
turns; the table shows the medians of CPU time. "Another baseline" and "another layout" compare rows that are
prepared already, as a report does.

  python benchmarks/compare_rows.py
  python benchmarks/compare_rows.py --rows 2000 --turns 3
"""

from __future__ import annotations

import argparse
import io
import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402

from orchestrator.report.document import to_json  # noqa: E402
from orchestrator.report.terminal import terminal  # noqa: E402
from orchestrator.table import Prepared, View  # noqa: E402
from runner.schema import Row, Status, Validity, format_rows, parse_rows  # noqa: E402

HOSTS, TRIALS = 50, 7
ENGINES, PRECISIONS, SAMPLES = (
    ("eager", "compile", "graph", "onnxruntime", "openvino"),
    ("single", "half"),
    (1, 2, 4, 8),
)


def rows() -> Iterator[Row]:
    """Rows of identical cases but for their scatter, host by host, without an end."""
    draw = random.Random(0)
    for round_ in itertools.count(1):
        for host, engine, precision, samples in itertools.product(range(HOSTS), ENGINES, PRECISIONS, SAMPLES):
            middle = samples**0.5 * draw.gauss(1, 0.01)
            trials = tuple(middle * draw.gauss(1, 0.005) for _ in range(TRIALS))
            yield Row(
                device="NVIDIA H200", precision=precision, autocast=False, xformers=False, runtime="pytorch",
                n_samples=samples, latency=statistics.mean(trials), latency_median=statistics.median(trials),
                trials=trials, memory=3.0, run="first", host=f"host{host}", engine=engine, model="synthetic:tiny",
                steps=50, height=512, width=512, work=f"w{samples}", status=Status.OK, validity=Validity.VALID,
                round=round_, job=f"{host}-{engine}-{precision}",
            )  # fmt: skip


def seconds(what: Callable[[], object]) -> float:
    start = time.process_time()
    what()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    many = list(itertools.islice(rows(), asked.rows))
    text = format_rows(many)
    prepared = Prepared(many)
    comparison = prepared.compare()
    parts: dict[str, Callable[[], object]] = {
        "reading the rows": lambda: parse_rows(text),
        "preparing": lambda: Prepared(many),
        "preparing, comparing": lambda: Prepared(many).compare(),
        "another baseline": lambda: prepared.compare(baseline="host1"),
        "another layout": lambda: prepared.compare(view=View(rows=("host",), columns=("engine",))),
        "printing": lambda: terminal(comparison, Console(file=io.StringIO(), width=160)),
        "as JSON": lambda: to_json(comparison),
    }
    taken: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(asked.turns):
        for name, what in parts.items():
            taken[name].append(seconds(what))
    base = statistics.median(taken["reading the rows"])
    print(f"{len(many)} rows, {len(comparison.lines)} lines, {len(comparison.columns)} columns")
    for name, times in taken.items():
        print(f"{name:<22} {statistics.median(times):6.2f} s  {statistics.median(times) / base:5.2f} ×")


if __name__ == "__main__":
    main()
