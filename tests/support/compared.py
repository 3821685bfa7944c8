"""Rows whose comparison has every kind of cell, and a text that attacks whatever shows it."""

from __future__ import annotations

from builders import a_row, rounds

from runner.schema import Status, Validity

ROWS = [
    *rounds("a100", "eager", 1, 1.5, load_s=3.0, first_call_s=2.0),
    *rounds("a100", "eager", 4, 5.2),
    *rounds("a100", "onnxruntime", 1, 1.496),
    *(
        a_row("a100", "onnxruntime", 4, (s,), round=i, validity=Validity.THROTTLED, error="the clock fell to 1200 MHz")
        for i, s in enumerate((1.85, 2.0, 2.3), start=1)
    ),
    *rounds("rtx3090", "eager", 1, 2.25, load_s=3.0, first_call_s=2.0),
    a_row("rtx3090", "eager", 4, status=Status.OOM, error="tried to allocate 20.1 GB"),
    *rounds("rtx3090", "onnxruntime", 1, 1.1, load_s=9.0, first_call_s=40.0),
]
HOSTILE = '\x1b]0;owned\x07\x1b[31m[red]=HYPERLINK("x")|`rm`<script>\u202e\n*a*'
