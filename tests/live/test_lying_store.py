"""A store that somebody else owns answers what none does: a message, bounded memory, and no call to anywhere else."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from builders import a_job
from lying_engine import Answer, LyingEngine, chunked, endless, http, in_chunks
from memory import grows_by_less_than

from orchestrator.config import S3
from orchestrator.errors import HostUnreachable, InputError
from orchestrator.results import from_store
from orchestrator.store import bucket
from orchestrator.store.bucket import Bucket
from orchestrator.store.result_store import S3ResultStore

# live: each lie takes a second; filters: connections that the client keeps for its next call
pytestmark = [
    pytest.mark.live,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
BOMB = f'<!DOCTYPE x [<!ENTITY l0 "lol">{LAUGHS}]><ListBucketResult><Prefix>&l9;</Prefix></ListBucketResult>'.encode()
OUTSIDE = (
    b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><ListBucketResult><Prefix>&e;</Prefix></ListBucketResult>'
)


def manifest(**job: object) -> bytes:
    made = json.loads(replace(a_job(), run="r").to_json())
    return json.dumps({"version": 1, "jobs": [{**made, **job}]}).encode()


LIES: dict[str, Answer] = {
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a page of HTML": http(b"<html><script>alert(1)</script>", "Content-Type: text/html"),
    "an endless object": endless(chunked(), again=in_chunks(b"[" * 2**16)),
    "a packed object": http(gzip.compress(b"[" * (100 << 20)), "Content-Encoding: gzip"),
    "lists in lists": http(b"[" * 100_000),
    "a number of many digits": http(b'{"version": ' + b"9" * 10_000 + b"}"),
    "a list": http(b"[]"),
    "null": http(b"null"),
    "jobs that are text": http(b'{"version": 1, "jobs": "x"}'),
    "jobs that are numbers": http(b'{"version": 1, "jobs": [1]}'),
    "jobs that are an object": http(b'{"version": 1, "jobs": {"a": 1}}'),
    "jobs that are null": http(b'{"version": 1, "jobs": null}'),
    "a job whose name is a path": http(manifest(id="../../other")),
    "a job whose host is a path": http(manifest(host="/etc")),
    "a job whose name moves the cursor": http(manifest(id="\x1b[2J")),
    "a job without a name": http(manifest(id="")),
    "a job with a zero byte": http(manifest(id="a\0b")),
    "cases that are paths": http(manifest(cases=[{"id": "../x", "samples": 1}])),
    "a refusal that is a bomb": http(BOMB, status="403 Forbidden"),
    "a refusal in escapes": http(
        b"<Error><Code>\xc2\x9b2J</Code><Message>\xe2\x80\xae</Message></Error>", status="400 x"
    ),
    "half a refusal": http(b"<Error><Code>", status="403 Forbidden"),
}
LISTINGS: dict[str, Answer] = {
    "a bomb of entities": http(BOMB),
    "an entity that is a file": http(OUTSIDE),
    "an endless page": endless(chunked(), again=in_chunks(b"<Contents><Key>sd/r/j</Key></Contents>" * 1000)),
    "a packed page": http(gzip.compress(b" " * (100 << 20)), "Content-Encoding: gzip"),
    "a page in lists of lists": http(b"<ListBucketResult>" + b"<a>" * 40_000),
    "half a page": http(b"<ListBucketResult><Contents>"),
}


@pytest.fixture
def liar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LyingEngine]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    made = LyingEngine()
    made.honest = {}
    for name, value in {
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "AKIAGOOD",
        "AWS_SECRET_ACCESS_KEY": "s3cr3t",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{made.port}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(bucket, "MOST_TRIES", 1)
    monkeypatch.setattr(Bucket.get.retry, "wait", lambda *_: 0)
    yield made
    made.close()


@pytest.mark.parametrize("lie", LIES)
def test_a_run_of_a_store_that_lies_is_one_message(liar: LyingEngine, lie: str) -> None:
    liar.answers = {r"run\.json": LIES[lie]}
    with grows_by_less_than(150), pytest.raises((InputError, HostUnreachable)) as raised:
        from_store.read("s3://bench/sd/r")
    assert len(str(raised.value)) < 2500
    assert not {"\x1b", "\x9b", "\u202e", "\0"} & set(str(raised.value))


def test_an_object_that_comes_in_chunks_without_its_length_is_read(liar: LyingEngine) -> None:
    liar.answers = {r"run\.json": chunked() + in_chunks(b"honest") + b"0\r\n\r\n"}
    assert Bucket(S3(bucket="bench", prefix="sd")).get("r/run.json", 100) == b"honest"


def test_an_object_whose_chunks_do_not_end_as_they_must_is_not_read(liar: LyingEngine) -> None:
    liar.answers = {r"run\.json": chunked() + in_chunks(b"honest") + b"\r\n\r\n"}
    with pytest.raises(HostUnreachable, match=r"the connection was cut within r/run\.json"):
        Bucket(S3(bucket="bench", prefix="sd")).get("r/run.json", 100)


@pytest.mark.parametrize("head", ["HTTP/1.0 200 OK", "HTTP/1.1 200 OK\r\nConnection: close"])
def test_an_object_that_ends_where_its_connection_does_is_not_read(liar: LyingEngine, head: str) -> None:
    liar.answers = {r"run\.json": f"{head}\r\n\r\nhon".encode()}
    with pytest.raises(HostUnreachable, match=r"neither the length of r/run\.json nor where it ends; fix: "):
        Bucket(S3(bucket="bench", prefix="sd")).get("r/run.json", 100)


@pytest.mark.parametrize("lie", LISTINGS)
def test_a_listing_of_a_store_that_lies_is_one_message(liar: LyingEngine, lie: str) -> None:
    liar.answers = {r"list-type=2": LISTINGS[lie]}
    opened = Bucket(S3(bucket="bench", prefix="sd"))
    with grows_by_less_than(150), pytest.raises((InputError, HostUnreachable)) as raised:
        opened.keys("r")
    assert "root:" not in str(raised.value)


@pytest.mark.parametrize("status", ["301 x", "307 x", "308 x"])
@pytest.mark.parametrize("call", ["get", "put", "list"])
def test_a_store_cannot_send_its_caller_elsewhere(liar: LyingEngine, status: str, call: str) -> None:
    other = LyingEngine()
    try:
        there = f"http://127.0.0.1:{other.port}"
        body = f"<Error><Code>PermanentRedirect</Code><Endpoint>127.0.0.1:{other.port}</Endpoint></Error>".encode()
        headers = (f"Location: {there}/x", "x-amz-bucket-region: eu-west-1", f"Refresh: 0; url={there}")
        liar.answers = {"": http(body, *headers, status=status)}
        opened = Bucket(S3(bucket="bench", prefix="sd"))
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: opened.get("r/x", 10_000),
            "put": lambda: opened.put("r/x", b"secret"),
            "list": lambda: opened.keys("r"),
        }
        with contextlib.suppress(InputError, HostUnreachable):
            calls[call]()
        assert liar.asked
        assert other.asked == []
    finally:
        other.close()


def test_removing_a_run_deletes_no_key_of_another_that_is_listed(liar: LyingEngine) -> None:
    keys = ["sd/r/j/1/parcel.json", "sd/other/run.json", "../x", "sd/r/../other/y", "sd/r2/z"]
    contents = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in keys)
    page = f"<ListBucketResult>{contents}<IsTruncated>false</IsTruncated></ListBucketResult>".encode()
    liar.answers = {r"list-type=2": http(page), "": b"HTTP/1.1 204 No Content\r\n\r\n"}
    S3ResultStore.known(S3(bucket="bench", prefix="sd")).remove("r")
    deleted = [path for path in liar.asked if "list-type" not in path]
    assert all(path.startswith("/bench/sd/r/") for path in deleted), deleted
    assert not [path for path in deleted if "/../" in path], deleted
