"""Files of rows for property tests: any rows, and any damage to a file."""

from __future__ import annotations

import dataclasses
from typing import Any

from builders import a_job, ok_row
from hypothesis import strategies as st

from orchestrator.results.validate import made_harmless
from runner.schema import COLUMN, format_rows

JOB = a_job(height=8, width=8)
GOOD = ok_row(JOB, JOB.cases[0])


def values(name: str) -> st.SearchStrategy[Any]:
    kind = COLUMN[name].kind
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: st.one_of(st.sampled_from(["a", "a b", "a, b", "x; y", "=1", "a;-1", "'a"]), st.text(max_size=12)),
        int: st.integers(-(10**20), 10**20),
        float: st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 100)),
        bool: st.booleans(),
    }
    if kind in plain:
        return st.none() | plain[kind]
    if COLUMN[name].type_name == "numbers":
        return st.none() | st.lists(plain[float], min_size=1, max_size=4).map(tuple)
    return st.none() | st.sampled_from(list(kind))


NAMED = ("host", "error", "steps", "seed", "latency", "psnr", "trials", "autocast", "status", "n_samples")
ROWS = st.lists(
    st.builds(lambda **cells: dataclasses.replace(GOOD, **cells), **{name: values(name) for name in NAMED}), max_size=3
)
PIECES = st.sampled_from(
    [b"", b",", b'"', b"\n", b"\r", b"\r\n", b";", b".", b"0", b"9", b"-", b"+", b"=", b"e", b"nan", b" ", b"\xff"]
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """Files as they are written, most with a few bytes replaced."""
    data = format_rows(map(made_harmless, draw(ROWS))).encode()
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(PIECES) + data[place + draw(st.integers(0, 2)) :]
    return data
