"""Fuzzes every target for a while, one after another: `python tests/fuzz [SECONDS] [TARGET...]`.

Prints a line for each with its executions. Exit code 1 where one fails; its input lies in .fuzz/ then. What a run finds
of interest stays in .fuzz/corpus, where the next one begins.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
STATE = HERE.parents[1] / ".fuzz"
OPTIONS = ("-print_final_stats=1", "-timeout=30", "-rss_limit_mb=1024", "-max_len=20000")


def main(words: list[str]) -> int:
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("there is no atheris for this Python or system; it is for Linux and Python 3.11 to 3.13", file=sys.stderr)
        return 2
    from targets import TARGETS

    seconds = int(words[0]) if words else 10
    unknown = set(words[1:]) - TARGETS.keys()
    if unknown:
        print(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    failed = [name for name in words[1:] or TARGETS if not fuzz(name, seconds)]
    return int(bool(failed))


def fuzz(name: str, seconds: int) -> bool:
    """Whether nothing was found."""
    corpus = STATE / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    options = [*OPTIONS, f"-max_total_time={seconds}", f"-artifact_prefix={STATE}/{name}-"]
    ended = subprocess.run(
        [sys.executable, str(HERE / "one.py"), name, str(corpus), *options],
        capture_output=True,
        text=True,
        errors="replace",
    )
    counted = re.search(r"number_of_executed_units: (\d+)", ended.stderr)
    runs = int(counted[1]) if counted else 0
    print(
        f"{name:16} {seconds:5} s {runs:10,} executions  {'FAILED' if ended.returncode else 'nothing found'}",
        flush=True,
    )
    if ended.returncode:
        print((ended.stdout + ended.stderr)[-3000:])
    return ended.returncode == 0 and runs > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
