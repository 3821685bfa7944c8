"""`samples: max`: how the largest batch is found, and what becomes of the row."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_engine
import psutil
import pytest
from builders import a_job
from hypothesis import example, given
from hypothesis import strategies as st

from runner.jobs import search as search_module
from runner.jobs.run import run_job
from runner.jobs.search import FINENESS, BatchResult, Bounds, bounded, largest, search
from runner.schema import MAX, MOST_SAMPLES, Case, Device, Event, EventKind, Job, Row, Status, parse_rows
from runner.telemetry import limits
from runner.wire.output import EventStream, RowFile

OOM = BatchResult(Status.OOM, "no more")


def fitting(
    most: int, tried: list[int] | None = None, memory_gb: Callable[[int], float | None] = lambda _: None
) -> Callable[[int], BatchResult]:
    def attempt(samples: int) -> BatchResult:
        if tried is not None:
            tried.append(samples)
        return BatchResult(Status.OK, memory_gb=memory_gb(samples)) if samples <= most else OOM

    return attempt


@example(272, 1000.0, [0.0, 0.0, 0.0, 0.0, 0.0, 1e-309])  # images that take next to nothing
@given(st.integers(1, MOST_SAMPLES), st.none() | st.floats(0.001, 1000), st.lists(st.floats(0, 100), min_size=5))
def test_the_result_fits_and_is_within_3_percent_of_the_largest_batch(
    most: int, room_gb: float | None, memory: list[float]
) -> None:
    bounds, tried = Bounds(room_gb), list[int]()
    search(bounds, fitting(most, tried, lambda samples: memory[samples.bit_length() % len(memory)]))
    assert most - max(0, most // FINENESS) <= bounds.fits <= most
    assert len(tried) == len(set(tried)) <= 20


@pytest.mark.parametrize("most", [72, 272, 275, 1000, 4000])
@pytest.mark.parametrize("off", [0.99, 1.0, 1.01])
def test_with_constant_memory_per_image_few_tries_are_needed(most: int, off: float) -> None:
    bounds, tried = Bounds(room_gb=2.7 + most * 0.5 * off), list[int]()
    bounds.learn(4, BatchResult(Status.OK, memory_gb=2.7 + 4 * 0.5))
    bounds.learn(16, BatchResult(Status.OK, memory_gb=2.7 + 16 * 0.5))
    search(bounds, fitting(most, tried))
    assert most - most // FINENESS <= bounds.fits <= most
    assert len(tried) <= 4


@pytest.mark.parametrize("most", [1, 2, 3, 28, 31, 63])
def test_small_batches_are_found_exactly(most: int) -> None:
    bounds = Bounds()
    search(bounds, fitting(most))
    assert (bounds.fits, bounds.fails) == (most, most + 1)


def test_the_search_begins_where_the_numbered_batches_end() -> None:
    bounds, tried = Bounds(), list[int]()
    bounds.learn(16, BatchResult(Status.OK))
    bounds.learn(64, OOM)
    search(bounds, fitting(28, tried))
    assert bounds.fits == 28
    assert min(tried) > 16
    assert max(tried) < 64


def test_no_larger_batch_than_the_cap_is_tried() -> None:
    bounds, tried = Bounds(), list[int]()
    search(bounds, fitting(10**9, tried))
    assert bounds.fits == max(tried) == MOST_SAMPLES
    assert "no larger batch is tried" in bounds.remark()


def case_row(samples: int, status: Status, error: str | None = None) -> Row:
    return Row.of(a_job(), Case("cmax", samples), status, error)


def test_a_batch_that_passes_only_its_try_is_replaced_by_a_smaller_one() -> None:
    measured: list[int] = []

    def measure(samples: int) -> Row:
        measured.append(samples)
        return case_row(samples, Status.OK if samples <= 26 else Status.OOM)

    row = largest(a_job(), Case("cmax", MAX), Bounds(), fitting(28), measure)
    assert (row.n_samples, row.samples_asked, row.status) == (26, MAX, Status.OK)
    assert measured == [28, 27, 26]


def test_a_failed_measurement_other_than_oom_is_the_result() -> None:
    row = largest(
        a_job(), Case("c", MAX), Bounds(), fitting(3), lambda samples: case_row(samples, Status.FAILED, "black")
    )
    assert (row.status, row.error, row.batch) == (Status.FAILED, "black", "max (3)")


def test_a_search_out_of_time_measures_the_largest_known_batch() -> None:
    def attempt(samples: int) -> BatchResult:
        return BatchResult(Status.OK) if samples < 8 else BatchResult(Status.TIMEOUT, "too long")

    row = largest(a_job(), Case("c", MAX), Bounds(), attempt, lambda samples: case_row(samples, Status.OK))
    assert (row.status, row.n_samples, row.samples_asked) == (Status.OK, 4, MAX)
    assert row.error == "max: 4 fit, and 8 are timeout (too long)"


def outcome(tmp_path: Path, prompt: str, *samples: Any, **fields: Any) -> tuple[list[Row], list[Event], str]:
    job = a_job(prompt, samples, **fields)
    with RowFile.fresh(tmp_path / "rows.csv") as file, (tmp_path / "events").open("w") as events:
        run_job(job, file, EventStream(events), work=fake_engine.work, processes=fake_engine.processes())
    said = [Event.from_line(line) for line in (tmp_path / "events").read_text().splitlines()]
    return parse_rows((tmp_path / "rows.csv").read_text()), [event for event in said if event], prompt


def test_the_largest_batch_is_measured_after_the_numbered_ones(tmp_path: Path) -> None:
    rows, events, _ = outcome(tmp_path, "above-5:out-of-memory", 1, 2, MAX)
    assert [(row.case, row.n_samples, row.samples_asked) for row in rows] == [
        ("c1", 1, "1"),
        ("c2", 2, "2"),
        ("cmax", 5, "max"),
    ]
    found = rows[2]
    assert (found.status, found.steps, found.repeats) == (Status.OK, 4, 3)
    assert found.work == a_job("above-5:out-of-memory").work(5, 8, 8)
    assert found.throughput == pytest.approx(60 * 5 / (found.latency_median or 0))
    assert found.error == "max: 5 fit, and 6 are oom (MemoryError)"
    ended = [event.case for event in events if event.kind is EventKind.CASE_ENDED]
    assert ended == ["c1", "c2", "cmax"]
    assert [event.kind for event in events].count(EventKind.JOB_ENDED) == 1
    assert events[-1].kind is EventKind.JOB_ENDED


def test_a_killed_try_costs_only_itself_and_is_reported(tmp_path: Path) -> None:
    rows, *_ = outcome(tmp_path, "above-3:signal=11", MAX)
    assert [(row.status, row.n_samples) for row in rows] == [(Status.OK, 3)]
    assert rows[0].error == "max: 3 fit, and 4 are failed (the process was killed by SIGSEGV)"


@pytest.mark.parametrize(
    ("prompt", "status", "reason"),
    [
        ("above-0:out-of-memory", Status.OOM, "MemoryError"),
        ("load:unsupported", Status.UNSUPPORTED, "not on this moon"),
        ("load:missing", Status.FAILED, "there is no such model"),
    ],
)
def test_if_one_image_does_not_fit_the_row_says_why(tmp_path: Path, prompt: str, status: Status, reason: str) -> None:
    rows, *_ = outcome(tmp_path, prompt, MAX)
    assert [(row.status, row.error, row.n_samples, row.work) for row in rows] == [(status, reason, None, None)]
    assert rows[0].batch == "max"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts mappings on Linux alone")
def test_a_try_on_a_cpu_fails_before_the_machine_is_out_of_memory() -> None:
    read, write = os.pipe()
    if (child := os.fork()) == 0:

        def allocate(*_: Any) -> None:
            try:
                bytearray(400 * 2**20)
            except MemoryError:
                os.write(write, b"MemoryError")

        bounded(allocate, 300 * 2**20, a_job(), (), None, lambda _: None)
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 20) == b"MemoryError"


@pytest.mark.parametrize(("limit", "expected"), [(None, 9_000), (20_000, 9_000), (5_000, 4_500)])
def test_a_try_may_take_nine_tenths_of_free_memory_or_of_the_limit(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, expected: int
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10_000))
    monkeypatch.setattr(limits, "memory_limit_bytes", lambda: limit)
    assert search_module.free_bytes() == expected


def test_a_try_makes_two_calls_of_at_most_four_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Job] = []
    monkeypatch.setattr(search_module, "supervise", lambda job, *_: asked.append(job))
    for steps in (50, 2):
        job = a_job(steps=steps, cases=(Case("c", MAX),), repeats=9, rel_ci=0.01, max_repeats=30, device=Device.CUDA)
        search_module.Tries(job, job.cases[0], None, lambda _: None, lambda *_: None, None)(3)
    assert [(job.steps, job.warmup, job.repeats, job.rel_ci) for job in asked] == [(4, 0, 1, None), (2, 0, 1, None)]


@pytest.mark.live
def test_a_hanging_try_ends_with_the_time_limit_of_the_search(tmp_path: Path) -> None:
    for limit_s in (4, 30):  # a busy machine may be slow once
        folder = tmp_path / str(limit_s)
        folder.mkdir()
        rows, *_ = outcome(folder, "above-2:hang", MAX, timeout_s=float(limit_s))
        if [row.status for row in rows] == [Status.OK]:
            break
    assert [row.status for row in rows] == [Status.OK]
    assert f"max: {rows[0].n_samples} fit" in str(rows[0].error)
    assert f"are timeout (the search took longer than the {limit_s} s that a case may take)" in str(rows[0].error)


def test_max_survives_the_jobs_json_and_is_the_largest_of_all() -> None:
    job = a_job(cases=(Case("a", 4096), Case("b", MAX)))
    assert Job.from_json(job.to_json()) == job
    assert max(job.cases, key=lambda case: case.size).samples == MAX
    assert job.timed_parts == 3
