"""What each parser of foreign bytes takes at its peak, on the worst input of the size that it accepts."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.parsers
import botocore.session
import docker.errors
import pytest
import requests
import urllib3
from builders import a_job
from fake_images import digest_of, packed
from memory import grows_by_less_than

from orchestrator.config.store import S3
from orchestrator.errors import HostUnreachable, ImageError, InputError
from orchestrator.executors.bounded_http import (
    ANSWER_LIMIT_BYTES,
    ANSWER_LIMIT_VALUES,
    ResponseTooLarge,
    lines,
    take_whole,
)
from orchestrator.executors.docker.client import MESSAGE_LIMIT_BYTES, Client
from orchestrator.executors.docker.config import FILE_LIMIT_BYTES, read_json
from orchestrator.executors.kubernetes.cluster import ANSWER_LIMIT_BYTES as LISTING_BYTES
from orchestrator.executors.kubernetes.cluster import ANSWER_LIMIT_VALUES as LISTING_VALUES
from orchestrator.executors.kubernetes.cluster import _object, _read, _Room
from orchestrator.executors.kubernetes.kubeconfig import Unusable
from orchestrator.executors.kubernetes.lines import LINE_LIMIT_BYTES as WATCH_LINE_BYTES
from orchestrator.executors.kubernetes.lines import whole_lines
from orchestrator.executors.kubernetes.plugin import ANSWER_LIMIT_BYTES as PLUGIN_BYTES
from orchestrator.executors.kubernetes.plugin import _issued
from orchestrator.images.vouched import Vouched
from orchestrator.results.foreign import read_rows
from orchestrator.results.from_store import _claimed
from orchestrator.results.judge import MAX_ENVIRONMENT_BYTES, MAX_RESULT_BYTES, Termination, environment_text, judge
from orchestrator.store.bucket import ANSWER_LIMIT_BYTES as STORE_BYTES
from orchestrator.store.bucket import ANSWER_LIMIT_TAGS as STORE_TAGS
from orchestrator.store.bucket import Bucket
from orchestrator.store.result_store import (
    MANIFEST_LIMIT_BYTES,
    MANIFEST_LIMIT_VALUES,
    MOST_ROWS,
    ROWS_LIMIT_BYTES,
    _is_same_run,
)
from runner.schema import COLUMNS, Event, Job
from runner.wire.result_bundle import LIMIT_BYTES, ResultBundle

pytestmark = pytest.mark.live  # a peak of memory takes seconds to reach

EMPTY = json.loads(ResultBundle("r", "j", "").to_bytes())


def repeated(text: bytes, size: int, before: bytes = b"[", after: bytes = b"1]") -> bytes:
    return before + text * ((size - len(before) - len(after)) // len(text)) + after


def bundle_with(member: bytes) -> bytes:
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
BUNDLES = {
    "lists": bundle_with(repeated(b"[],", ROOM)),
    "objects": bundle_with(repeated(b"{},", ROOM)),
    "members": b"{" + b",".join(b'"%d":1' % number for number in range(1_000_000)) + b"}",
    "deep": bundle_with(nested(ROOM)),
    "text": bundle_with(repeated(b"x", ROOM, b'"', b'\\ud83d\\ude00"')),
    "escapes": bundle_with(repeated(b"\\n", ROOM, b'"', b'"')),
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


@pytest.mark.parametrize("kind", BUNDLES)
def test_a_bundle_takes_memory_in_proportion_to_its_size(kind: str) -> None:
    with grows_by_less_than(200), pytest.raises(ValueError, match=r"bundle|members"):
        ResultBundle.from_bytes(BUNDLES[kind])


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
        assert not _is_same_run(data, [a_job()])
    most = repeated(b"{},", 2 * MANIFEST_LIMIT_VALUES, b'{"jobs":[', b"1]}")
    with grows_by_less_than(200):
        assert not _is_same_run(most, [a_job()])


HEADER = ",".join(COLUMNS).encode() + b"\n"


def stored_rows(count: int, **cells: bytes) -> bytes:
    """A store's results.csv of alike rows."""
    return HEADER + (b",".join(cells.get(name, b"") for name in COLUMNS) + b"\n") * count


TRIALS, TEXT = b"1" + b";1" * 400_000, "😀".encode() + b"x" * 10**6


@pytest.mark.parametrize(
    ("count", "cells"),
    [(MOST_ROWS - 1, {}), (9, {"trials": TRIALS}), (64, {"error": TEXT})],
    ids=["rows", "trials", "text"],
)
def test_the_rows_of_a_store_take_bounded_memory(count: int, cells: dict[str, bytes]) -> None:
    data = stored_rows(count, **cells)
    assert len(data) < ROWS_LIMIT_BYTES
    with grows_by_less_than(350):
        assert len(_claimed(data)) == count


@pytest.mark.parametrize(
    "data",
    [stored_rows(MOST_ROWS), stored_rows(11, trials=TRIALS), HEADER + b"\r" * 10**5],
    ids=["rows", "trials", "line ends"],
)
def test_more_rows_of_a_store_than_a_run_has_are_refused_unread(data: bytes) -> None:
    with grows_by_less_than(5), pytest.raises(ValueError, match="more than 50000 rows, or 4000000 trials"):
        _claimed(data)


@pytest.mark.parametrize(
    ("parser", "data", "megabytes"),
    [
        (lambda data: judge(a_job(), data, Termination(0)), HEADER + b"," * (MAX_RESULT_BYTES - 2000) + b"\n", 300),
        (lambda data: judge(a_job(), data, Termination(0)), HEADER + b"\n" * (MAX_RESULT_BYTES - 2000), 50),
        (lambda data: judge(a_job(), data, Termination(0)), HEADER + b'"' * (MAX_RESULT_BYTES - 2000) + b"\n", 50),
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


def answer_of(body: bytes) -> requests.Response:
    """An engine's answer whose body is still to be read."""
    response = requests.Response()
    response.status_code = 200
    response.raw = urllib3.HTTPResponse(io.BytesIO(body), preload_content=False)
    return response


MARKS = (b",", b"{", b"[")
MANY = {"lists": b"[],", "objects": b"{},", "numbers": b"1.5,", "deep": b"[" * 900 + b"]" * 900 + b",", "text": b"x"}


@pytest.mark.parametrize("kind", MANY)
def test_a_listing_or_an_inspect_of_an_engine_takes_bounded_memory(kind: str) -> None:
    quote = b'"' if kind == "text" else b""
    after = b'"]' if quote else b"1]"
    most = ANSWER_LIMIT_BYTES if quote else ANSWER_LIMIT_VALUES // sum(map(MANY[kind].count, MARKS)) * len(MANY[kind])
    with grows_by_less_than(150):
        response = answer_of(repeated(MANY[kind], min(most, ANSWER_LIMIT_BYTES) - 2000, b"[" + quote, after))
        take_whole(response)
        assert response.json()
    body = repeated(MANY[kind], 2 * ANSWER_LIMIT_BYTES, b"[" + quote, after)
    for size in (len(body), ANSWER_LIMIT_BYTES - 10) if not quote else (len(body),):
        with grows_by_less_than(40), pytest.raises(ResponseTooLarge):
            take_whole(answer_of(body[:size]))


class Endlessly(io.RawIOBase):
    """A body without end."""

    def __init__(self, piece: bytes) -> None:
        self.piece = piece

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = len(buffer)
        buffer[:] = (self.piece * (count // len(self.piece) + 1))[:count]
        return count


def endless(piece: bytes) -> requests.Response:
    response = answer_of(b"")
    response.raw = urllib3.HTTPResponse(io.BufferedReader(Endlessly(piece)), preload_content=False)
    return response


def test_an_engines_events_take_bounded_memory() -> None:
    with grows_by_less_than(30), pytest.raises(ResponseTooLarge, match="a line of more than"):
        list(lines(endless(b"x")))
    with grows_by_less_than(30):
        for _ in itertools.islice(lines(endless(b'{"id":"a"}\n')), 300_000):
            pass


def test_what_an_engine_says_of_a_build_takes_bounded_memory() -> None:
    client = Client("unix:///nowhere", "1.41", 5)
    try:
        with grows_by_less_than(90), pytest.raises(ResponseTooLarge, match="a line of more than 1048576 bytes"):
            list(client._stream_helper(endless(b"x"), decode=True))
        message = repeated(b"[],", MESSAGE_LIMIT_BYTES - 10, b'{"stream":[', b"1]}\r\n")
        with grows_by_less_than(90):
            assert sum(1 for _ in client._stream_helper(answer_of(message * 3), decode=True)) == 3  # keeps none of them
        said = list(client._stream_helper(answer_of(b'{"stream":"a"}\r\n\r\n{"error":"b"}'), decode=True))
        refused = answer_of(b'{"message":"no space left"}')
        refused.status_code = 500
        take_whole(refused, stream=True)
        with pytest.raises(docker.errors.APIError, match="no space left"):
            list(client._stream_helper(refused, decode=True))
        assert said == [{"stream": "a"}, {"error": "b"}]
    finally:
        client.close()


@pytest.mark.parametrize("kind", MANY)
def test_a_clusters_listing_takes_bounded_memory(kind: str) -> None:
    most = {"text": LISTING_BYTES, "deep": LISTING_VALUES}.get(kind, LISTING_VALUES // 2 * len(MANY[kind]))
    size = min(most, LISTING_BYTES) - 200
    quote = b'"' if kind == "text" else b""
    body = repeated(MANY[kind], size, b'{"items":[' + quote, (quote or b"1") + b"]}")
    response = answer_of(body).raw
    del body
    with grows_by_less_than(500):
        _object(_read(response), _Room())
    with grows_by_less_than(200), pytest.raises(ResponseTooLarge):
        _read(endless(b"[],").raw)
    with grows_by_less_than(60), pytest.raises(ResponseTooLarge):
        _object(b"[" + b"{}," * LISTING_VALUES + b"1]", _Room())


def test_a_clusters_watch_takes_bounded_memory() -> None:
    with grows_by_less_than(40):
        for _ in itertools.islice(whole_lines(endless(b"x").raw), 20):
            pass
    with grows_by_less_than(150):
        json.loads(repeated(b"[],", WATCH_LINE_BYTES, b'{"object":[', b"1]}"))


@pytest.mark.parametrize("item", [b"[],", b"{},", b"1.5,"])
def test_what_a_credential_plugin_prints_takes_bounded_memory(item: bytes) -> None:
    answer = repeated(item, PLUGIN_BYTES, b'{"kind":[', b"1]}")
    with grows_by_less_than(40), pytest.raises(Unusable, match="printed no ExecCredential"):
        _issued(answer, "client.authentication.k8s.io/v1", "user u", "plugin")


def test_dockers_settings_take_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(repeated(b"[],", FILE_LIMIT_BYTES - 10, b'{"auths":[', b"1]}"))
    with grows_by_less_than(200):
        assert read_json(path)
    with path.open("ab") as file:
        file.truncate(64 * FILE_LIMIT_BYTES)
    with grows_by_less_than(30), pytest.raises(InputError, match="is larger than 4 MiB"):
        read_json(path)


def test_a_stores_listing_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    bucket = Bucket(S3(bucket="bucket", prefix="p", endpoint_url="http://127.0.0.1:9", region="us-east-1"))
    page = {"Contents": [{"Key": f"p/{'k' * 100}{number}"} for number in range(1000)]}
    with grows_by_less_than(250), pytest.raises(HostUnreachable, match="lists more, or for longer"):
        bucket._listed(itertools.repeat(page), "Contents", "Key")


@pytest.mark.parametrize(
    "tag", [b"<a/>", b"<Contents><Key>k</Key></Contents>", b"<Contents>" * 10 + b"</Contents>" * 10]
)
def test_a_page_of_a_stores_listing_takes_bounded_memory(tag: bytes) -> None:
    tags = STORE_TAGS // tag.count(b"<") - 2
    filler = b"x" * ((STORE_BYTES - tags * len(tag)) - 100)
    body = b"<ListBucketResult><Prefix>" + filler + b"</Prefix>" + tag * tags + b"</ListBucketResult>"
    operation = botocore.session.get_session().get_service_model("s3").operation_model("ListObjectsV2")
    parser = botocore.parsers.create_parser("rest-xml")
    answer = {"body": body, "headers": {}, "status_code": 200}
    with grows_by_less_than(150):
        parser.parse(answer, operation.output_shape)
