"""A report with something in each of its sections, for tests of the page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

from builders import a_row, around, rounds

from orchestrator.report import values
from orchestrator.report.model import (
    About,
    Environment,
    Fact,
    Failure,
    Picture,
    Report,
    RunInfo,
    Sentence,
    SourceFile,
    Strip,
    Table,
)
from orchestrator.table import Metric, compare
from runner.schema import Row, Status, Validity

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="600" height="300"><rect width="600" height="300" fill="{}"/></svg>'
)
# What tries to become markup, a script, a link, a template's expression, another order of characters or a control.
HOSTILE = (
    "<img src=x onerror=\"document.title='attacked'\">",
    "</script><script>document.title='attacked'</script>",
    "javascript:document.title='attacked'",
    "{{7*7}}{% raw %}${7*7}",
    "\"'><svg onload=document.title='attacked'>",
    "a\u202egnp.exe\u2028\u2029\x1b[31m\x00\x07\ud800",
    "long" * 3000,
    "--><!-- ]]> &lt; &#60;",
)


def rows() -> list[Row]:
    """Two hosts and engines, two batch sizes; one case out of memory, one throttled, one not planned."""
    return [
        *rounds("gpu1", "eager", 1, 1.50, energy_j=400.0),
        *rounds("gpu1", "eager", 4, 4.80, energy_j=350.0),
        *rounds("gpu1", "graph", 1, 1.00, energy_j=300.0),
        *rounds("gpu1", "graph", 4, 3.90, energy_j=290.0),
        *rounds("gpu2", "eager", 1, 2.25),
        *rounds("gpu2", "graph", 1, 1.20),
        a_row("gpu2", "graph", 4, status=Status.OOM, error="tried to allocate 34.75 GiB"),
        a_row("gpu2", "compile", 1, around(0.9), validity=Validity.THROTTLED),
    ]


def a_table(
    rows: Iterable[Row],
    metrics: Sequence[Metric] = (Metric.LATENCY, Metric.THROUGHPUT, Metric.ENERGY),
    baselines: Sequence[str | None] = (None, "gpu1"),
) -> Table:
    rows = list(rows)
    return values.table([[compare(rows, metric, name) for name in baselines] for metric in metrics])


def a_report(table: Table | None = None, **fields: Any) -> Report:
    given = {
        "title": "Two hosts",
        "version": "1.2.3",
        "generated": "2026-11-29T03:00:00+00:00",
        "runs": (
            RunInfo(
                "20261129-first",
                "done",
                "2026-11-29T02:00:00+00:00",
                "2026-11-29T03:00:00+00:00",
                "1 h",
                ("gpu1", "gpu2"),
                {"ok": 7, "oom": 1},
                "orchestrator submit matrix.yaml",
                (SourceFile("matrix.yaml", "name: first\nsteps: 50\n"),),
                ("runner@sha256:abc",),
                ("torch 2.11.0",),
            ),
        ),
        "answer": (
            Sentence(About.FASTEST, "Fastest: graph half on gpu1, 1.000 s per call."),
            Sentence(About.NOT_FITTING, "graph half, 4 images per call, does not fit on gpu2."),
            Sentence(About.CAVEAT, "1 value is throttled."),
        ),
        "table": a_table(rows()) if table is None else table,
        "pictures": (
            Picture("latency", "Latency by engine", "graph is fastest", SVG.format("#eef"), SVG.format("#223")),
        ),
        "strips": (Strip("graph half on gpu1", "two astronauts", PIXEL, 400, 200, (("PSNR", "59.8 dB"),)),),
        "environment": Environment(
            ("gpu1", "gpu2"), (Fact("driver", ("580", "590"), True), Fact("torch", ("2.11.0", None)))
        ),
        "failures": (
            Failure(
                "20261129-first",
                "gpu2",
                "graph, half, samples 4",
                "oom",
                "tried to allocate 34.75 GiB",
                is_fault=False,
                job="abc123",
                log=("loading", "  out of memory"),
                log_path="runs/20261129-first/jobs/abc123/log.txt",
            ),
        ),
        "notes": ("Cost: no price.",),
    }
    return Report(**{**given, **fields})


def a_hostile_report() -> Report:
    """Hostile text in every field that a host, a file or a user fills."""
    h = HOSTILE
    names = [text.replace("\ud800", "")[:300] for text in h]
    hostile_rows = [
        a_row(name, "eager", 1, around(1.0), model=other, error=text, device=name, settings=f"k{i}={text[:50]}")
        for i, (name, other, text) in enumerate(zip(names, reversed(names), h))
    ] + [a_row(names[0], name, 2, error=text, status=Status.FAILED) for name, text in zip(names, h)]
    text = " ".join(h)
    return a_report(
        a_table(hostile_rows, (Metric.LATENCY,), (None,)),
        title=h[0] + h[1],
        runs=(RunInfo(text, text, text, text, text, h, {text: 1}, text, (SourceFile(text, text),), h, h),),
        answer=tuple(Sentence(about, text) for about in About),
        pictures=(Picture(text, text, text, SVG.format("#eef")),),
        strips=(Strip(text, text, PIXEL, 10, 10, ((text, text),)),),
        environment=Environment(h, tuple(Fact(each, h, differs=i % 2 == 0) for i, each in enumerate(h))),
        failures=tuple(Failure(each, each, each, each, each, True, each, h, each) for each in h),
        notes=h,
    )
