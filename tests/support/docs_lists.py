"""The lists in docs/ that are made from declarations: `python tests/support/docs_lists.py` writes them.

A page marks a list's place with `<!-- list: NAME, from FILE -->` and `<!-- end -->`; what stands between is replaced.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.frames import Column
from orchestrator.hosts.kinds import KINDS
from orchestrator.report import axis_columns, changes_records, records
from orchestrator.report.changes_formats import ChangesFormat
from orchestrator.report.formats import Format
from orchestrator.scheduling import metrics_file
from orchestrator.table.metric import Metric
from runner.catalog import ENGINES, FAMILIES, MODELS, SYNTHETIC, Device, Precision
from runner.schema import COLUMN

DOCS = Path(__file__).parents[2] / "docs"
PLACE = re.compile(r"(<!-- list: ([\w ]+), from ([\w/.]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(cells)} |"


def code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def columns() -> Iterator[str]:
    for section, declared in itertools.groupby(COLUMN.values(), lambda column: column.section):
        rows = [(f"`{it.name}`", it.type_name, it.unit, it.set_by.value, it.meaning) for it in declared]
        yield from (f"## {section}", "", *table(("column", "type", "unit", "set by", "meaning"), rows), "")


def metrics() -> Iterator[str]:
    rows = [
        (
            f"`{it.value}`",
            it.declared.value,
            it.unit,
            it.declared.better.value,
            "any" if it.declared.is_per_image else "all" if "samples" in it.declared.spans else "equal",
            it.declared.source,
        )
        for it in Metric
    ]
    yield from table(("`--metric`", "value", "unit", "better", "batch sizes", "comes from"), rows)


def prometheus() -> Iterator[str]:
    def meaning(declared: metrics_file.Declared) -> str:
        known = [name for name in declared.labels if name in metrics_file.VALUES]
        values = "".join(f" `{name}`: {code(metrics_file.VALUES[name])}." for name in known)
        return declared.means + values

    rows = [
        (f"`{metrics_file.PREFIX}_{name}`", code(declared.labels), meaning(declared))
        for name, declared in metrics_file.DECLARED.items()
    ]
    yield from table(("metric", "labels", "meaning"), rows)


def _these(precisions: tuple[Precision, ...]) -> str:
    if precisions == tuple(Precision):
        return "all"
    return ", ".join(precision.value for precision in precisions)


def engines() -> Iterator[str]:
    rows = [
        (
            f"`{name}`",
            ", ".join({Device.CPU: "CPU", Device.CUDA: "GPU"}[device] for device in facts.devices),
            _these(facts.precisions),
            ", ".join(dict.fromkeys(facts.images.values())),
            f"`[{facts.extra}]`" if facts.extra else "only in its image",
            ", ".join(facts.families) if len(facts.families) < len(FAMILIES) else "all",
            facts.summary,
        )
        for name, facts in ENGINES.items()
    ]
    yield from table(("engine", "on", "precision", "image", "extra", "models", "what it is"), rows)


def models() -> Iterator[str]:
    rows = [
        (
            f"`{SYNTHETIC}{name}`",
            f"`{it.hub}`" if it.hub else "for tests",
            f"`{FAMILIES[it.family].pipeline}`",
            f"{it.image}×{it.image}",
            f"{it.steps}",
            f"{it.guidance:g}",
            f"`{it.scheduler}`",
            f"`{it.precision.value}`",
        )
        for name, it in MODELS.items()
    ]
    yield from table(("model", "original", "pipeline", "image", "steps", "guidance", "scheduler", "precision"), rows)


def precisions() -> Iterator[str]:
    rows = [
        (
            f"`{it.value}`",
            it.facts.summary,
            ", ".join(name for name, facts in ENGINES.items() if it in facts.precisions),
            "yes" if it.facts.on_cpu else "no",
            ".".join(map(str, it.facts.capability)) if it.facts.capability > (0, 0) else "any",
        )
        for it in Precision
    ]
    yield from table(("`precision`", "what it is", "engines", "on a CPU", "on a GPU of compute capability"), rows)


def host_kinds() -> Iterator[str]:
    yield from table(("`kind`", "what the host is"), [(f"`{name}`", kind.summary) for name, kind in KINDS.items()])


def formats() -> Iterator[str]:
    yield from table(("`-o`", "what it writes"), [(f"`{it.value}`", it.summary) for it in Format])


def cells() -> Iterator[str]:
    yield from _records((*axis_columns.axes((), ()), *records.CELL))


def changes() -> Iterator[str]:
    yield from _records(changes_records.CHANGE)


def _records(columns: Iterable[Column]) -> Iterator[str]:
    rows = [(f"`{column.name}`", column.type_name, column.meaning) for column in columns]
    yield from table(("column", "type", "meaning"), rows)


def compare_formats() -> Iterator[str]:
    yield from table(("`-o`", "what it writes"), [(f"`{it.value}`", it.summary) for it in ChangesFormat])


LISTS: Mapping[str, Callable[[], Iterable[str]]] = {
    "cells": cells,
    "changes": changes,
    "columns": columns,
    "compare formats": compare_formats,
    "engines": engines,
    "formats": formats,
    "host kinds": host_kinds,
    "metrics": metrics,
    "models": models,
    "precisions": precisions,
    "prometheus": prometheus,
}


def page(text: str) -> str:
    """The page with each of its lists as the declarations have it."""

    def made(match: re.Match[str]) -> str:
        lines = "\n".join(LISTS[match[2]]()).strip("\n")
        return f"{match[1]}\n{lines}\n\n{match[4]}"

    return PLACE.sub(made, text)


def main() -> None:
    for file in DOCS.glob("*.md"):
        text = file.read_text(encoding="utf-8")
        if page(text) != text:
            file.write_text(page(text), encoding="utf-8")


if __name__ == "__main__":
    main()
