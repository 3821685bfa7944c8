"""Fuzzes one target: `one.py TARGET CORPUS [libFuzzer's options]`. Ends with 77 or another code where it fails."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["orchestrator", "runner"]):
    from targets import TARGETS, seeds


def main(name: str, corpus: Path, options: list[str]) -> None:
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([name, str(corpus), *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
