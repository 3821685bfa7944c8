"""One target for each parser of bytes that others choose: bytes in; an error in the end is one that a caller expects.

A target asserts what its parser promises beside that: one row for each case, text that is harmless, a number of bytes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from docker.errors import NotFound
from urllib3.exceptions import ProtocolError

from orchestrator import config
from orchestrator.config import yamlfile
from orchestrator.config.address import engine_url
from orchestrator.errors import BadResult, InputError
from orchestrator.executors import bounded_http, gpus
from orchestrator.executors.docker import archive, events, logs
from orchestrator.results import foreign
from orchestrator.results.judge import Termination, environment_text, judge
from orchestrator.sanitize import clean, harmless, printable
from orchestrator.scheduling.progress import Board
from orchestrator.scheduling.updates import Update
from runner.schema import Case, Device, Event, Job, Precision, Row, SchemaError, Status, format_rows, parse_rows
from runner.wire import frames
from runner.wire.result_bundle import Receipt, ResultBundle, UploadStatus

JOB = Job(
    run="r",
    id="j",
    host="h",
    device=Device.CPU,
    engine="eager",
    precision=Precision.SINGLE,
    model="synthetic:tiny",
    cases=(Case("c1", 1), Case("c2", 2), Case("c3", "max")),
    prompt="p",
    steps=1,
)


def results(data: bytes) -> None:
    """results.csv of a job."""
    judged = judge(JOB, data, Termination(exit_code=0))
    assert [row.case for row in judged.rows] == [case.id for case in JOB.cases]
    assert parse_rows(format_rows(judged.rows)) == list(judged.rows)


def members(data: bytes) -> None:
    """The tar stream in which an engine sends a file."""
    step = 1 + data[0] if data else 1
    parts = [data[at : at + step] for at in range(1, len(data), step)]
    with contextlib.suppress(BadResult):
        assert len(archive.read_member(parts, archive.PathStat("f", 5, 0o644), 1000)) <= 1000


def stats(data: bytes) -> None:
    """What an engine says of a path before it sends it."""
    with contextlib.suppress(BadResult):
        archive.check_stat(archive.PathStat.from_header(data.decode("latin-1")))


def said(data: bytes) -> None:
    """A line that a runner prints, and what a watcher makes of it."""
    event = Event.from_line(data.decode(errors="replace"))
    if event is not None:
        assert Event.from_line(event.to_json()) == event
        Board([JOB], []).update(Update("h", JOB, event=event))


def messages(data: bytes) -> None:
    """An engine's log stream, in which standard output and error are interleaved."""
    with contextlib.suppress(ProtocolError):
        assert sum(len(text) for _, text in logs._messages([data[:7], data[7:]])) <= len(data)


def frames_of_a_log(data: bytes) -> None:
    """A pod's log, in which the runner's files are."""
    found = frames.read(data.decode(errors="replace").splitlines(), "s")
    assert sum(len(text.encode(errors="replace")) for text in found.files.values()) <= 4 * len(data)


def bundles(data: bytes) -> None:
    """What a job left in a store."""
    whole = None
    with contextlib.suppress(ValueError):
        whole = ResultBundle.from_bytes(data)
    if whole is not None:
        assert ResultBundle.from_bytes(whole.to_bytes()) == whole
        assert whole.results.encode().decode() == whole.results


def receipts(data: bytes) -> None:
    """What a runner says of its delivery to a store."""
    receipt = Receipt.from_line(data.decode(errors="replace"))
    assert receipt is None or Receipt.from_line(receipt.to_line()) == receipt


def engine_events(data: bytes) -> None:
    """An engine's event stream: lines, each of which is settled by looking at what it names."""

    def inspect(name: object) -> None:
        raise NotFound("no such container")

    api: Any = SimpleNamespace(inspect_container=inspect)
    nobody: Any = SimpleNamespace()
    changes, raw = events.Changes(nobody), io.BytesIO(data)
    response: Any = SimpleNamespace(raw=SimpleNamespace(read1=lambda size, decode_content: raw.read(size)))
    with contextlib.suppress(bounded_http.ResponseTooLarge):
        for line in bounded_http.lines(response):
            # what is read amiss becomes a host that does not answer: connection.MALFORMED
            with contextlib.suppress(LookupError, TypeError, AttributeError, ValueError, RecursionError):
                changes._settle(api, line)


def probes(data: bytes) -> None:
    """What a runner says of the GPUs that it saw."""
    with contextlib.suppress(ValueError):
        gpus.parse_probe(data.decode(errors="replace"))


def environments(data: bytes) -> None:
    """environment.json of a job."""
    text = environment_text(data)
    assert text is None or json.loads(text) is not ...


def jobs(data: bytes) -> None:
    """job.json, by which a runner is told what to do; and the plan in a journal."""
    with contextlib.suppress(SchemaError):
        job = Job.from_json(data)
        assert Job.from_json(job.to_json()) == job


def plain_yaml(data: bytes) -> None:
    """Any YAML, before anybody looks at what it means."""
    with contextlib.suppress(InputError):
        yamlfile.parse(data, "f.yaml")


def _file(data: bytes) -> Path:
    path = Path(tempfile.gettempdir()) / f"fuzz-{os.getpid()}.yaml"
    path.write_bytes(data)
    return path


def hosts(data: bytes) -> None:
    """hosts.yaml."""
    with contextlib.suppress(InputError):
        for name in config.load_hosts(_file(data)):
            assert "/" not in name
            assert name.isascii()


def matrices(data: bytes) -> None:
    """matrix.yaml."""
    with contextlib.suppress(InputError):
        assert config.load_matrix(_file(data)).points


def overrides(data: bytes) -> None:
    """What stands behind `--set`."""
    with contextlib.suppress(InputError):
        config.load_matrix(None, [data.decode(errors="surrogateescape")])


def foreign_rows(data: bytes) -> None:
    """A CSV that somebody else wrote."""
    with contextlib.suppress(InputError):
        rows = foreign.read_rows(data.decode(errors="replace"), "f.csv")
        assert parse_rows(format_rows(rows))


def addresses(data: bytes) -> None:
    """An engine's address, also from the environment and from Docker's contexts."""
    with contextlib.suppress(ValueError):
        engine_url(data.decode(errors="surrogateescape"))


def texts(data: bytes) -> None:
    """Text for a terminal, a spreadsheet, a page."""
    text = data.decode(errors="surrogateescape")
    once = harmless(text, 50)
    assert harmless(once, 50) == once
    assert not set("\x1b\x9b\n\r\0\u202e") & set((once or "") + clean(text) + printable(text).replace("\n", ""))


def _good_rows() -> bytes:
    size, calls = {"height": 64, "width": 64}, {"repeats": 3, "trials": (1.0, 2.0, 3.0), "latency": 2.0}
    good: dict[str, Any] = {**size, **calls, "latency_median": 2.0, "throughput": 30.0}
    return format_rows([Row.of(JOB, JOB.cases[0], Status.OK, **good)]).encode()


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__.replace("_", "-"): target
    for target in (
        *(
            results,
            members,
            stats,
            said,
            messages,
            frames_of_a_log,
            bundles,
            receipts,
            engine_events,
            probes,
            environments,
            jobs,
        ),
        *(plain_yaml, hosts, matrices, overrides, foreign_rows, addresses, texts),
    )
}


def seeds(name: str) -> Iterator[bytes]:
    """What is right, to begin with: a fuzzer finds its way from there."""
    root = Path(__file__).parents[2]
    match name:
        case "results" | "foreign-rows":
            yield _good_rows()
            yield (root / "tests/data/lambda-benchmark.csv").read_bytes()[:2000]
        case "members":
            yield b"\x40" + archive.pack({"results.csv": b"hello"})
            yield b"\xff" + archive.pack({"f": b"x" * 600}, ["folder"])
        case "stats":
            yield b"eyJuYW1lIjogInIiLCAic2l6ZSI6IDUsICJtb2RlIjogNDIwfQ=="
        case "said":
            yield b'{"kind":"trial","at":1.5,"case":"c1","trial":1,"of":3,"latency_s":0.5,"status":"ok"}'
        case "messages":
            yield b"\x01\0\0\0\0\0\0\x05hello\x02\0\0\0\0\0\0\x01\n"
        case "frames-of-a-log":
            out = io.StringIO()
            written = frames.FrameWriter(out, "s")
            written.put("results.csv", "a,b\n")
            written.add("results.csv", "1,2\n")
            written.end()
            yield out.getvalue().encode()
        case "bundles":
            yield ResultBundle("r", "j", "a,b\n", "{}", 1).to_bytes()
        case "receipts":
            yield Receipt(UploadStatus.STORED, "0" * 64, 100).to_line().encode()
        case "engine-events":
            yield b'{"status":"die","id":"c0ffee","Actor":{"Attributes":{}}}\n' * 2
        case "probes":
            yield b'noise\n{"gpus": [{"index": 0, "uuid": "GPU-1", "name": "x", "mig": [{"uuid": "MIG-1"}]}]}'
        case "environments" | "jobs":
            yield JOB.to_json().encode()
        case "plain-yaml" | "hosts" | "matrices":
            for path in (*root.glob("*.yaml"), *root.glob("examples/**/*.yaml")):
                yield path.read_bytes()
            yield b"a: &x [1, 2]\nb: {<<: {c: *x}}\n"
        case "overrides":
            yield b"engine=eager,compile"
            yield b"until={rel_ci: 0.01}"
        case "addresses":
            yield b"ssh://me@desk:22/run/docker.sock"
            yield b"tcp://[::1]:2376"
        case "texts":
            yield "=a \x1b]0;x\x07\u202e\uff1d".encode()
