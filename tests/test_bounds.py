"""What each parser of foreign bytes takes at its peak, on the worst input of the size that it accepts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from fake_engine import job_of
from memory import grows_by_less_than
from test_images import digest_of, packed

from orchestrator.collect import MAX_ENVIRONMENT_BYTES, MAX_RESULT_BYTES, Ending, environment_text, judge
from orchestrator.errors import ImageError, InputError
from orchestrator.foreign import read_rows
from orchestrator.images.vouched import Vouched
from orchestrator.store.inbox import MANIFEST_LIMIT_BYTES, MANIFEST_LIMIT_VALUES, _is_same_run
from runner.parcel import LIMIT_BYTES, Parcel
from runner.schema import COLUMNS, Event, Job

EMPTY = json.loads(Parcel("r", "j", "").to_bytes())


def repeated(text: bytes, size: int, before: bytes = b"[", after: bytes = b"1]") -> bytes:
    return before + text * ((size - len(before) - len(after)) // len(text)) + after


def parcel_with(member: bytes) -> bytes:
    return json.dumps(EMPTY).encode()[:-1] + b', "more": ' + member + b"}"


def nested(size: int) -> bytes:
    """Lists one in another, as deep as Python follows, beside each other."""
    return repeated(b"[" * 900 + b"]" * 900 + b",", size)


ROOM = LIMIT_BYTES - 1000
ENVIRONMENTS = {
    "lists": repeated(b"[],", MAX_ENVIRONMENT_BYTES),
    "objects": repeated(b"{},", MAX_ENVIRONMENT_BYTES),
    "numbers": repeated(b"1.5,", MAX_ENVIRONMENT_BYTES),
    "deep": nested(MAX_ENVIRONMENT_BYTES),
    "deep and wide": b"[" * 900 + repeated(b"1,", MAX_ENVIRONMENT_BYTES - 1800) + b"]" * 900,
    "text": repeated(b"x", MAX_ENVIRONMENT_BYTES, b'["', b'"]'),
    "escapes": repeated(b"\\n", MAX_ENVIRONMENT_BYTES, b'["', b'"]'),
}
PARCELS = {
    "lists": parcel_with(repeated(b"[],", ROOM)),
    "objects": parcel_with(repeated(b"{},", ROOM)),
    "members": b"{" + b",".join(b'"%d":1' % number for number in range(1_000_000)) + b"}",
    "deep": parcel_with(nested(ROOM)),
    "text": parcel_with(repeated(b"x", ROOM, b'"', b'\\ud83d\\ude00"')),
    "escapes": parcel_with(repeated(b"\\n", ROOM, b'"', b'"')),
    "spaces": repeated(b" ", ROOM, b"{", b"}"),
}


@pytest.mark.parametrize("kind", ENVIRONMENTS)
def test_an_environment_takes_little_memory_and_disk(kind: str) -> None:
    with grows_by_less_than(30):
        text = environment_text(ENVIRONMENTS[kind])
    assert len(text or "") < 2 * MAX_ENVIRONMENT_BYTES


def test_an_environment_of_a_usual_shape_is_kept() -> None:
    usual = {"packages": {f"package{i}": "1.0" for i in range(400)}, "gpus": [{"name": "A100", "memory": {"total": 1}}]}
    assert json.loads(environment_text(json.dumps(usual).encode()) or "") == usual


@pytest.mark.parametrize("kind", PARCELS)
def test_a_parcel_takes_memory_in_proportion_to_its_size(kind: str) -> None:
    with grows_by_less_than(200), pytest.raises(ValueError, match=r"parcel|members"):
        Parcel.from_bytes(PARCELS[kind])


@pytest.mark.parametrize("item", [b"[],", b"{},", b"1.5,"])
def test_small_files_of_an_images_archive_take_bounded_memory(item: bytes) -> None:
    config = repeated(item, 2**20, b'{"rootfs":{"diff_ids":[', b"1]}}")
    files = {f"{n}": config[:-1] + b" " * n + b"}" for n in range(14)}
    archive = packed({name: content[: 2**20] for name, content in files.items()} | {"c": config})
    image_id = digest_of(config)
    with grows_by_less_than(40), pytest.raises(ImageError, match="more values than any"):
        for _ in Vouched("x:y", image_id, 10).passed(archive[at : at + 65536] for at in range(0, len(archive), 65536)):
            pass


@pytest.mark.parametrize("kind", ["lists", "objects", "deep", "text"])
def test_a_run_of_a_store_takes_bounded_memory(kind: str) -> None:
    items = {"lists": b"[],", "objects": b"{},", "deep": b"[" * 900 + b"]" * 900 + b",", "text": b"x"}
    before, after = (b'{"jobs":"', b'"}') if kind == "text" else (b'{"jobs":[', b"1]}")
    data = repeated(items[kind], MANIFEST_LIMIT_BYTES, before, after)
    with grows_by_less_than(200):
        assert not _is_same_run(data, [job_of()])
    most = repeated(b"{},", 2 * MANIFEST_LIMIT_VALUES, b'{"jobs":[', b"1]}")
    with grows_by_less_than(200):
        assert not _is_same_run(most, [job_of()])


HEADER = ",".join(COLUMNS).encode() + b"\n"


@pytest.mark.parametrize(
    ("parser", "data", "megabytes"),
    [
        (lambda data: judge(job_of(), data, Ending(0)), HEADER + b"," * (MAX_RESULT_BYTES - 2000) + b"\n", 300),
        (lambda data: judge(job_of(), data, Ending(0)), HEADER + b"\n" * (MAX_RESULT_BYTES - 2000), 50),
        (lambda data: judge(job_of(), data, Ending(0)), HEADER + b'"' * (MAX_RESULT_BYTES - 2000) + b"\n", 50),
        (lambda data: Event.from_line(data.decode()), b'{"kind":"trial","at":[' + b"[]," * 20_000 + b"1]}", 30),
        (lambda data: read_rows(data.decode(), "x.csv"), HEADER + b"," * (4 << 20), 100),
    ],
    ids=["cells", "lines", "quotes", "event", "import"],
)
def test_a_table_or_a_line_takes_bounded_memory(parser: Callable[[bytes], Any], data: bytes, megabytes: int) -> None:
    with grows_by_less_than(megabytes), contextlib.suppress(InputError):
        parser(data)


def test_a_job_that_is_no_job_takes_bounded_memory() -> None:
    with grows_by_less_than(100), pytest.raises(ValueError, match="not a job"):
        Job.from_json(repeated(b"[],", 2 << 20))
