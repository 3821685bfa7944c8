"""The table fits a terminal's width, whatever the hosts and axes are, and never breaks or cuts a number."""

from __future__ import annotations

import io
import itertools

import pytest
from builders import a_row, rounds
from rich.console import Console

from orchestrator.report.reasons import CUT, LONGEST_REASON
from orchestrator.report.table_text import table_text
from orchestrator.report.terminal import terminal
from orchestrator.table import Comparison, compare
from runner.schema import Row, Status, Validity

ERROR = (
    "OutOfMemoryError: CUDA out of memory. Tried to allocate 34.75 GiB. GPU 0 has a total capacity of 139.80 GiB of "
    "which 32.50 GiB is free. Including non-PyTorch memory, this process has 107.29 GiB memory in use. Of the "
    "allocated memory 63.05 GiB is allocated by PyTorch"
)


def printed(comparison: Comparison, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    terminal(comparison, console)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def rows_of(hosts: int, name: str) -> list[Row]:
    rows = []
    for number, engine, samples in itertools.product(range(hosts), ("eager", "compile"), (1, 16)):
        host, middle = name.format(number), (1 + number / 10) * samples**3 * (1.0 if engine == "eager" else 0.8)
        if (number, samples) == (1, 16):
            rows.append(a_row(host, engine, samples, status=Status.OOM, error=ERROR))
        elif (number, engine, samples) == (0, "compile", 16):
            rows += rounds(host, engine, samples, middle, validity=Validity.THROTTLED)
        else:
            rows += rounds(host, engine, samples, middle)
    return rows


@pytest.mark.parametrize(
    "name", ["gpu{}", "gpu-node-{}.eu-central-1.compute.example.internal", "{}" + "x" * 90, "机器" * 30 + "{}"]
)
@pytest.mark.parametrize("hosts", [1, 2, 8])
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_every_line_fits_and_every_number_is_whole(width: int, hosts: int, name: str) -> None:
    comparison = compare(rows_of(hosts, name))
    lines = printed(comparison, width)
    measure = Console(width=width)
    assert max(measure.measure(line).maximum for line in lines if line) <= width
    text = "\n".join(lines)
    for line in table_text(comparison).lines:
        for cell in line.cells:
            assert cell.value.strip() in text
            assert cell.ratio in text


@pytest.mark.parametrize("width", [60, 80])
def test_more_axes_than_fit_share_one_column(width: int) -> None:
    short = rounds("gpu1", model="/srv/sd", steps=20, scheduler="pndm", guidance=7.5, seed=0, autocast=True)
    long = rounds("gpu1", model="runwayml/sd", steps=50, scheduler="euler-ancestral", guidance=1.0, seed=42)
    lines = printed(compare([*short, *long]), width)
    assert max(map(len, lines)) <= width
    start = next(i for i, line in enumerate(lines) if line.startswith("case "))
    labels = " ".join(line[: lines[start].index("gpu1")].strip() for line in lines[start + 2 : lines.index("", start)])
    assert "steps 20, scheduler pndm, guidance 7.5, seed 0, autocast yes" in labels
    assert "steps 50, scheduler euler-ancestral, guidance 1, seed 42, autocast no" in labels


def test_a_long_host_wraps_between_the_parts_of_its_name() -> None:
    lines = printed(compare(rows_of(2, "gpu-node-{}.eu-central-1.compute.example.internal")), 80)
    heading = lines[lines.index("") + 1 :][:3]
    assert [line.split()[-2:] for line in heading] == [
        ["gpu-node-0.eu-", "gpu-node-1.eu-"],
        ["central-1.compute.", "central-1.compute."],
        ["example.internal", "example.internal"],
    ]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_footnote_takes_two_lines_at_most_and_ends_after_a_word(width: int) -> None:
    lines = printed(compare(rows_of(2, "gpu{}")), width)
    first = next(i for i, line in enumerate(lines) if line.startswith("[1]"))
    last = next(i for i, line in enumerate(lines) if line.startswith("value:"))
    assert last - first <= 2
    note = " ".join(lines[first:last])
    assert note.endswith(" …")
    assert f"oom: {ERROR}".startswith(note.removeprefix("[1] ").removesuffix(" …"))
    assert f"oom: {ERROR}"[len(note) - 6] == " "
    assert CUT in " ".join(lines)


def test_a_short_footnote_is_whole_and_no_legend_speaks_of_a_cut() -> None:
    lines = printed(compare([a_row("a", status=Status.OOM, error="20.1 GB"), *rounds("b")]), 80)
    assert "[1] oom: 20.1 GB" in lines
    assert CUT not in " ".join(lines)


def test_a_footnote_of_markdown_is_cut_too() -> None:
    words = table_text(compare(rows_of(2, "gpu{}")))
    assert all(len(note) <= LONGEST_REASON for note in words.footnotes)
    assert CUT in words.legend
