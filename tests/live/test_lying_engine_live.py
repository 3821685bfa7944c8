"""An engine that lies costs its own host's jobs: no hang, no gigabytes, no traceback, nothing sent elsewhere."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lying_engine import (
    Answer,
    LyingEngine,
    as_json,
    chunked,
    ended_container,
    endless,
    http,
    in_chunks,
)
from memory import grows_by_less_than

from orchestrator.config import DockerHost
from orchestrator.errors import BadResult, HostUnfit, HostUnreachable, StartError
from orchestrator.executors import bounded_http
from orchestrator.executors.contract import Attempt, State
from orchestrator.executors.docker import logs
from orchestrator.executors.docker.executor import DockerExecutor

pytestmark = pytest.mark.live
# Generous: what is refused at 8 MiB of JSON has been 8 MiB, and its pieces, and perhaps objects of it.
BOUND_MB = 400
ATTEMPT = Attempt("r", "j", 1)
CHUNK = in_chunks(b"x" * 65536)
BOMB = gzip.compress(b"\0" * (256 << 20))


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[LyingEngine]:
    engine = LyingEngine(tmp_path / "d.sock")
    yield engine
    engine.close()


@pytest.fixture
def executor(liar: LyingEngine) -> Iterator[DockerExecutor]:
    made = DockerExecutor(DockerHost(name="liar", url=liar.url, gpus="none"))
    yield made
    made.close()


NO_ENGINES_ANSWERS: dict[str, Answer] = {
    "JSON without end": endless(chunked(), again=in_chunks(b"[" * 65536)),
    "a length beyond all bounds": endless(
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", again=b" " * 65536
    ),
    "a chunk's length without end": endless(chunked(), again=b"0" * 65536),
    "a header without end": endless(b"HTTP/1.1 200 OK\r\nX: ", again=b"x" * 65536),
    "headers without end": endless(b"HTTP/1.1 200 OK\r\n", again=b"X: y\r\n"),
    "brackets": http(b"[" * 1_000_000),
    "a number without end": http(b"1" * 1_000_000),
    "what is packed and unpacks to 256 MB": http(BOMB, "Content-Encoding: gzip"),
    "no JSON": http(b"\xff\xfe<html>"),
    "nothing": http(),
    "another shape": as_json({"a": [1]}),
    "a list of other things": as_json([1, None, []]),
    "labels that are none": as_json([{"Id": "i", "Names": ["/i"], "State": "exited", "Labels": None}]),
    "a status that is none": b"HTTP/1.1 999999 \r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n" * 100,
    "a refusal without end": endless(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", again=CHUNK),
}


def outcome(call: Callable[[], object]) -> tuple[str, object]:
    """What went wrong, by the message of an error of ours, or what came of it."""
    try:
        return "", call()
    except (HostUnreachable, HostUnfit, StartError, BadResult) as error:
        return str(error), None


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("where", [r"/version", r"/info", r"/containers/json"])
@pytest.mark.parametrize("what", NO_ENGINES_ANSWERS)
def test_what_no_engine_answers_is_a_host_that_does_not(
    liar: LyingEngine, executor: DockerExecutor, what: str, where: str
) -> None:
    liar.answers[where] = NO_ENGINES_ANSWERS[what]
    with grows_by_less_than(BOUND_MB):
        said, seen = outcome(lambda: (executor.info(), executor.observe())[1])
    assert said.startswith("host liar: ") or where == "/info" or seen == {}


def test_an_answer_that_trickles_is_given_up(
    liar: LyingEngine, executor: DockerExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_http, "ANSWER_TIMEOUT_S", 2.0)

    def trickle() -> Iterator[bytes]:
        yield chunked()
        while True:
            time.sleep(0.05)
            yield in_chunks(b" ")

    liar.answers["/containers/json"] = trickle
    with pytest.raises(HostUnreachable, match="not complete after"):
        executor.observe()


def test_an_engine_cannot_send_its_caller_elsewhere() -> None:
    """Docker's client follows a redirect, with a request's body, to whatever machine it names."""
    liar, other = LyingEngine(), LyingEngine()
    liar.answers["/"] = http(b"", f"Location: {other.url.replace('tcp', 'http')}/info", status="307 Temporary Redirect")
    made = DockerExecutor(DockerHost(name="liar", url=liar.url, gpus="none"))
    try:
        with pytest.raises(HostUnreachable):
            made.info()
        assert liar.asked
        assert other.asked == []
    finally:
        made.close()
        liar.close()
        other.close()


# --- a file


def stat(size: int = 5, mode: int = 0o644) -> str:
    fields = {"name": "results.csv", "size": size, "mode": mode, "mtime": "", "linkTarget": ""}
    return "X-Docker-Container-Path-Stat: " + base64.b64encode(json.dumps(fields).encode()).decode()


def tar_of(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT)


def device(name: str) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.devmajor, member.devminor = tarfile.CHRTYPE, 1, 5
    return member.tobuf(tarfile.PAX_FORMAT) + bytes(1024)


def pax(text: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("pax")
        member.type, member.size = tarfile.XHDTYPE, len(text)
        archive.addfile(member, io.BytesIO(text))
    return out.getvalue()


NO_FILES: dict[str, Answer] = {
    "a file without end": endless(chunked(stat()), in_chunks(tar_of("results.csv", 10**12)), again=CHUNK),
    "a size that is not kept": endless(chunked(stat(10**12)), again=CHUNK),
    "a chunk's length without end": endless(chunked(stat()), again=b"0" * 65536),
    "what is packed": http(BOMB, stat(), "Content-Encoding: gzip"),
    "long names without end": endless(chunked(stat()), again=in_chunks(pax(b"30 path=" + b"x" * 21 + b"\n"))),
    "a path's record without end": http(pax(b"9" * 4000 + b" path=x\n"), stat()),
    "a sparse map": http(pax(b"27 GNU.sparse.map=0,1,5,9,\n" * 100), stat()),
    "a negative size": http(tar_of("x", 0).replace(b"00000000000\x00", b"\xff" * 12, 1), stat()),
    "a device that its stat calls a file": http(device("results.csv"), stat()),
    "less than its member says": http(tar_of("results.csv", 9000) + b"x" * 5000, stat(9000)),
    "no stat": http(tar_of("results.csv", 0)),
    "a stat of brackets": http(b"", "X-Docker-Container-Path-Stat: " + base64.b64encode(b"[" * 20_000).decode()),
    "nothing": http(b"", stat()),
}


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("what", NO_FILES)
def test_a_file_that_is_none_is_a_bad_result(liar: LyingEngine, executor: DockerExecutor, what: str) -> None:
    liar.answers["/archive"] = NO_FILES[what]
    with grows_by_less_than(BOUND_MB), pytest.raises((BadResult, HostUnreachable)):
        executor.fetch(ATTEMPT, "results.csv")


# --- a log, and events


def frame(text: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BxxxL", 1, len(text) if length is None else length) + text


LOGS: dict[str, Answer] = {
    "a line without end": endless(chunked(), again=in_chunks(frame(b"2026-01-01T00:00:00Z " + b"x" * 16384))),
    "a message without end": endless(chunked(), in_chunks(frame(b"", 2**32 - 1)), again=CHUNK),
    "stamps without end": endless(chunked(), again=in_chunks(frame(b"x" * 16384))),
    "a stamp of another time": http(frame(b"\xff\xfe 9999\n") * 3),
    "no frames": http(b"just text"),
    "a chunk's length without end": endless(chunked(), again=b"0" * 65536),
}


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("what", LOGS)
def test_a_log_that_is_none_is_cut_or_refused(liar: LyingEngine, executor: DockerExecutor, what: str) -> None:
    liar.answers["/logs"] = LOGS[what]
    longest = 0
    with grows_by_less_than(BOUND_MB):
        try:
            for count, line in enumerate(executor.log(ATTEMPT)):
                longest = max(longest, len(line))
                if count > 1000:
                    break
        except HostUnreachable:
            pass
    assert longest <= logs.LINE_LIMIT_BYTES + logs.MESSAGE_LIMIT_BYTES


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize(
    "said",
    [b"x" * 65536, b"[" * 65000 + b"\n", b'{"id": ["a"]}\n', b"[1]\n", b"null\n", b'{"id": "../../info"}\n', b"\xff\n"],
    ids=["a line without end", "brackets", "a list", "another", "null", "a path", "no text"],
)
def test_events_that_are_none_wake_and_do_no_harm(liar: LyingEngine, executor: DockerExecutor, said: bytes) -> None:
    crashed: list[object] = []
    before, threading.excepthook = threading.excepthook, lambda arguments: crashed.append(arguments)
    liar.answers["/events"] = endless(chunked(), again=in_chunks(said))
    try:
        with grows_by_less_than(BOUND_MB):
            for _ in range(20):
                executor.wait(0.1)
    finally:
        threading.excepthook = before
    assert crashed == []


# --- what a container's own words cannot do


def test_a_container_whose_labels_are_no_names_is_not_taken_for_an_attempt(
    liar: LyingEngine, executor: DockerExecutor
) -> None:
    foreign = Attempt("../../etc", "x\x1b[2J", 1)
    liar.answers["/containers/json"] = as_json([ended_container(foreign), ended_container(ATTEMPT)])
    liar.answers["/containers/c"] = as_json({"State": {"Status": "exited", "ExitCode": 0}})
    assert {attempt: seen.state for attempt, seen in executor.observe().items()} == {ATTEMPT: State.EXITED}


def test_an_exec_that_never_ends_is_given_up(
    liar: LyingEngine, executor: DockerExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.executors.docker.secret.HAND_OVER_TIMEOUT_S", 1)
    labels = ended_container(ATTEMPT)["Labels"]
    env = ["RUNNER_TOKEN_FILE=/run/orchestrator/token"]
    liar.answers = {
        r"/containers/[^/]+/json": as_json({"State": {"Status": "running"}, "Config": {"Labels": labels, "Env": env}}),
        r"/containers/[^/]+/exec": as_json({"Id": "e"}),
        r"/exec/e/start": endless(b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n", again=b"x" * 65536),
        r"/exec/e/json": as_json({"ExitCode": None}),
    }
    with grows_by_less_than(BOUND_MB):
        said, _ = outcome(lambda: executor.start(ATTEMPT, "hf_canary"))
    assert "hf_canary" not in said
