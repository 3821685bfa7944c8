"""How what an engine raises becomes a row."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from builders import a_job
from fake_engine import FakeEngine, FakeSession

from runner import engines
from runner.errors import LoadError, Unsupported
from runner.jobs import worker
from runner.jobs.worker import Message, message_of, run_cases, status_of
from runner.measuring.measure import BrokenImage
from runner.schema import Job, Row, Status


class OutOfMemoryError(RuntimeError):
    """Named as PyTorch's."""


class OrtError(Exception):
    """onnxruntime's errors derive from Exception alone."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unsupported("no"), Status.UNSUPPORTED),
        (OutOfMemoryError("CUDA"), Status.OOM),
        (MemoryError(), Status.OOM),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"), Status.OOM),
        (RuntimeError("CUDA error: out of memory"), Status.OOM),
        (OrtError("BFCArena: Failed to allocate memory for requested buffer of size 12"), Status.OOM),
        (OrtError("std::bad_alloc"), Status.OOM),
        (RuntimeError("shapes do not match"), Status.FAILED),
        (LoadError("the folder about memory is not there"), Status.FAILED),
        (BrokenImage("black"), Status.FAILED),
    ],
)
def test_every_error_has_its_status(error: Exception, status: Status) -> None:
    assert status_of(error) is status


def test_a_message_is_one_line_with_the_class_of_unexplained_errors() -> None:
    assert message_of(RuntimeError("one\n  two")) == "RuntimeError: one two"
    assert message_of(MemoryError()) == "MemoryError"
    assert message_of(LoadError("set HF_TOKEN")) == "set HF_TOKEN"
    assert len(message_of(ValueError("x" * 10_000))) < 600


def rows_of(prompt: str, capsys: pytest.CaptureFixture[str]) -> tuple[list[Row], str]:
    said: list[Message] = []
    job = a_job(prompt, samples=(1, 2))
    run_cases(job, job.cases, FakeEngine(), None, said.append)
    return [message for message in said if isinstance(message, Row)], capsys.readouterr().err


def test_a_remark_on_the_weights_stands_in_every_row_of_the_job() -> None:
    said: list[Message] = []
    job = a_job("1:tell-token", samples=(1, 2))
    run_cases(job, job.cases, FakeEngine(), None, said.append, remark_on=lambda _: "weights: the variant ema")
    failed, ok = [message.error for message in said if isinstance(message, Row)]
    assert ok == "weights: the variant ema"
    assert failed == "weights: the variant ema; RuntimeError: cannot log in with None"


def test_a_case_that_raises_is_a_row_with_a_traceback_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    rows, log = rows_of("1:tell-token", capsys)
    assert [row.status for row in rows] == [Status.FAILED, Status.OK]
    assert rows[0].error == "RuntimeError: cannot log in with None"
    assert "Traceback" in log


def test_a_black_image_is_failed_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    rows, log = rows_of("2:black", capsys)
    assert [row.status for row in rows] == [Status.OK, Status.FAILED]
    assert (rows[1].latency, rows[1].trials) == (None, None)
    assert "Traceback" not in log


def test_a_missing_engine_is_an_unsupported_row_for_every_case(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> engines.Engine:
        raise Unsupported(f"engine {name!r} is not installed here")

    monkeypatch.setattr(engines, "find", missing)
    said: list[Message] = []
    worker.work(a_job(), a_job().cases, None, said.append)
    assert [(row.status, row.error) for row in said if isinstance(row, Row)] == [
        (Status.UNSUPPORTED, "engine 'eager' is not installed here")
    ] * 3


def test_the_identity_of_the_weights_stands_in_every_row_of_the_job() -> None:
    said: list[Message] = []
    job = a_job(samples=(1, 2))
    run_cases(job, job.cases, FakeEngine(), None, said.append, weights_of=lambda _: "sha256:abc")
    assert [message.weights for message in said if isinstance(message, Row)] == ["sha256:abc"] * 2


class LoadingEngine(FakeEngine):
    """Loads for five seconds by a clock of its own, and its device finishes two later."""

    def __init__(self) -> None:
        self.now = 100.0

    def load(self, job: Job, token: str | None) -> FakeSession:
        session = super().load(job, token)
        self.now += 5
        session.synchronize = lambda: setattr(self, "now", self.now + 2)  # type: ignore[method-assign]
        return session


def test_the_load_time_ends_when_the_device_has_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, said = LoadingEngine(), list[Message]()

    def slowly(_: Job) -> None:
        engine.now += 1000

    monkeypatch.setattr(worker, "time", SimpleNamespace(time=lambda: 0.0, perf_counter=lambda: engine.now))
    job = a_job(samples=(1, 2))
    run_cases(job, job.cases, engine, None, said.append, remark_on=slowly, weights_of=slowly)
    assert [row.load_s for row in said if isinstance(row, Row)] == [7.0, 7.0]
