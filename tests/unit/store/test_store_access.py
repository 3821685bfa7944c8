"""A store is called with the credentials that are meant, or not at all; its address means what it means to `aws`."""

from __future__ import annotations

import http.server
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from paths import ROOT

from orchestrator.config import S3, Collect
from orchestrator.errors import BadResult, HostUnreachable, InputError
from orchestrator.executors.finding import Grade
from orchestrator.results import from_store
from orchestrator.store import bucket
from orchestrator.store.bucket import Bucket
from orchestrator.store.check import check_store
from orchestrator.store.result_store import S3ResultStore
from runner.wire.tokens import TOKEN_VARIABLES

KEYS = {"Version": 1, "AccessKeyId": "AKIAGOOD", "SecretAccessKey": "s3cr3t"}


class Listing(http.server.BaseHTTPRequestHandler):
    """An empty bucket, which says for whom it was listed."""

    asked: ClassVar[list[tuple[str, str]]]
    body: ClassVar[bytes] = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    code: ClassVar[int] = 200

    def do_GET(self) -> None:
        key = (self.headers.get("Authorization") or "").partition("Credential=")[2].partition("/")[0]
        type(self).asked.append((self.path, key))
        self.send_response(self.code)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def listing() -> Iterator[tuple[type[Listing], str]]:
    class Own(Listing):
        asked: ClassVar = []

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Own, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of AWS' configuration, and nothing else of this machine's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "config"


def program(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return path


def by_process(aws: Path, *lines: str) -> None:
    aws.write_text(f"[profile p]\ncredential_process = {program(aws.parent / 'process', *lines)} --secret hunter2\n")


def opened(url: str = "http://127.0.0.1:1", **more: Any) -> Bucket:
    return Bucket(S3(**{"bucket": "bench", "endpoint_url": url, "region": "us-east-1", "profile": "p", **more}))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["echo 'token expired' >&2; exit 3"], "process failed with exit code 3: token expired"),
        (["exit 0"], "process printed nothing"),
        (["echo s3cr3t"], "process printed no JSON object"),
        (["echo '[]'"], "process printed no JSON object"),
        (["echo '{}'"], "Unsupported version"),
        ([f"echo '{json.dumps({**KEYS, 'AccessKeyId': ''})}'"], "custom-process gives is an empty key"),
        ([f"echo '{json.dumps({'Version': 1, 'AccessKeyId': 'A'})}'"], "Missing required key"),
        ([f"echo '{json.dumps({**KEYS, 'Expiration': 'soon'})}'"], "Unknown string format"),
        (["head -c 2000000 /dev/zero"], "process printed more than"),
    ],
)
def test_a_credential_process_that_gives_none_is_an_error_in_its_words(aws: Path, lines: list[str], said: str) -> None:
    by_process(aws, *lines)
    with pytest.raises(InputError, match=f"s3://bench: no credentials could be loaded: .*{said}") as raised:
        opened()
    assert "s3cr3t" not in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_credential_process_that_is_not_there_is_an_error(aws: Path) -> None:
    aws.write_text("[profile p]\ncredential_process = /no/such --x\n")
    with pytest.raises(InputError, match="/no/such could not be started: No such file or directory"):
        opened()


def test_a_credential_process_that_does_not_end_is_ended(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "PROCESS_TIMEOUT_S", 0.3)
    by_process(aws, "sleep 300")
    with pytest.raises(InputError, match="process did not end within 0 s"):
        opened()


def test_a_credential_process_of_a_source_profile_is_bounded_too(aws: Path) -> None:
    by_process(aws, "echo no network >&2; exit 1")
    role = "[profile r]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = p\nregion = eu-west-1\n"
    aws.write_text(aws.read_text() + role)
    with pytest.raises(InputError, match="process failed with exit code 1: no network"):
        opened(profile="r")


def test_a_credential_process_gets_none_of_our_tokens(
    aws: Path, listing: tuple[type[Listing], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TOKEN_VARIABLES:
        monkeypatch.setenv(name, "hf_secret")
    by_process(aws, f"env > {aws.parent}/seen", f"echo '{json.dumps(KEYS)}'")
    opened(listing[1]).folders()
    assert listing[0].asked[0][1] == "AKIAGOOD"
    assert "hf_secret" not in (aws.parent / "seen").read_text()
    assert "HOME=" in (aws.parent / "seen").read_text()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[profile other]\n", r"The config profile \(p\) could not be found; aws configure list-profiles"),
        ("[profile p]\nregion = eu-west-1\n", "no credentials found"),
        ("[profile p]\naws_access_key_id = A\n", "Partial credentials found"),
        ("[profile p]\naws_access_key_id =\naws_secret_access_key =\n", "an empty key|no credentials"),
        ("[profile p\n", "Unable to parse config file"),
        (
            "[profile p]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n"
            "[sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://x.example\n",
            "no credentials could be loaded: .*(SSO|token)",
        ),
        (
            "[profile p]\nrole_arn = arn:aws:iam::1:role/x\nweb_identity_token_file = /no/such\n",
            "no credentials could be loaded: .*No such file",
        ),
    ],
)
def test_a_profile_without_usable_credentials_is_an_error(
    aws: Path, config: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOTHER")  # which a profile that was named does not fall back to
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    aws.write_text(config)
    with pytest.raises(InputError, match=said):
        opened()


def test_a_named_profile_without_keys_is_not_this_machines_role(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OfMachine:
        method = "iam-role"

    with pytest.raises(ValueError, match=r"profile p has none, and this machine's own \(iam-role\) are not taken"):
        bucket._must_be_usable(OfMachine(), "p")


def test_no_credentials_at_all_make_no_call(listing: tuple[type[Listing], str]) -> None:
    with pytest.raises(InputError, match="no credentials found; set AWS_PROFILE"):
        opened(listing[1], profile=None).folders()
    assert listing[0].asked == []


def test_a_hiccup_in_a_run_is_a_store_that_does_not_answer(aws: Path, listing: tuple[type[Listing], str]) -> None:
    broken, next_key = aws.parent / "broken", aws.parent / "next"
    next_key.write_text(json.dumps({**KEYS, "AccessKeyId": "AKIAONE"}))
    by_process(aws, f"[ -e {broken} ] && {{ echo 'no network' >&2; exit 1; }}", f"cat {next_key}")
    one = opened(listing[1])
    assert one.folders() == []
    broken.touch()
    next_key.write_text(json.dumps({**KEYS, "AccessKeyId": "AKIATWO"}))
    listing[0].code, body = 400, listing[0].body
    listing[0].body = b"<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>"
    with pytest.raises(HostUnreachable, match="the credentials have expired"):
        one.folders()
    listing[0].code, listing[0].body = 200, body
    with pytest.raises(HostUnreachable, match="process failed with exit code 1: no network"):
        one.folders()
    broken.unlink()
    assert one.folders() == []
    assert [key for _, key in listing[0].asked] == ["AKIAONE", "AKIAONE", "AKIATWO"]


# --- addresses


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAGOOD")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")


def where(**fields: Any) -> S3:
    return S3(**{"bucket": "bench", "prefix": "sd", **fields})


def address(**fields: Any) -> str:
    """Of one object, without what signs it."""
    return (
        Bucket(where(**fields)).presigned_put("r/parcel.json", "application/json", 60, new=False).url.partition("?")[0]
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"endpoint_url": "https://gw.example/s3/"}, "https://gw.example/s3/bench/sd/r/parcel.json"),
        ({"endpoint_url": "https://gw.example:443"}, "https://gw.example/bench/sd/r/parcel.json"),
        ({"endpoint_url": "http://gw.example:80/", "insecure": True}, "http://gw.example/bench/sd/r/parcel.json"),
        ({"endpoint_url": "https://[fd00::1]:9000"}, "https://[fd00::1]:9000/bench/sd/r/parcel.json"),
        ({"endpoint_url": "https://gw.example", "addressing": "virtual"}, "https://bench.gw.example/sd/r/parcel.json"),
        ({"bucket": "my.bench"}, "https://s3.amazonaws.com/my.bench/sd/r/parcel.json"),
        ({}, "https://bench.s3.amazonaws.com/sd/r/parcel.json"),
        ({"prefix": "a b/50%/ü+c/"}, "https://bench.s3.amazonaws.com/a%20b/50%25/%C3%BC%2Bc/r/parcel.json"),
    ],
)
def test_a_stores_address_means_what_it_means_to_aws(keys: None, fields: dict[str, Any], expected: str) -> None:
    assert address(**{"region": "us-east-1", **fields}) == expected


@pytest.mark.parametrize("prefix", ["/a", "a//b", "a/../b", ".", "a\nb", "a\u202eb", "x" * 701])
def test_a_prefix_that_is_no_folder_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        where(prefix=prefix)


def test_the_environment_and_the_profile_name_a_store_as_for_aws(
    keys: None, aws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.write_text(
        "[profile p]\nregion = eu-west-3\nservices = s\ns3 =\n  addressing_style = virtual\n"
        "[services s]\ns3 =\n  endpoint_url = https://of-service.example\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "p")
    assert address() == "https://bench.of-service.example/sd/r/parcel.json"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://general.example/")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://of-s3.example")
    assert address(addressing="path") == "https://of-s3.example/bench/sd/r/parcel.json"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert address() == "https://bench.s3.eu-west-3.amazonaws.com/sd/r/parcel.json"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert address() == "https://bench.s3.eu-west-1.amazonaws.com/sd/r/parcel.json"
    assert address(region="eu-north-1") == "https://bench.s3.eu-north-1.amazonaws.com/sd/r/parcel.json"


def test_an_http_store_beyond_this_machine_must_be_allowed(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"http://10.0.0.5:9000: without TLS, .* insecure: true"):
        Collect(s3=where(endpoint_url="http://10.0.0.5:9000"))
    assert Collect(s3=where(endpoint_url="http://10.0.0.5:9000", insecure=True)).s3.insecure
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://10.0.0.5:9000")
    for use in (S3ResultStore.open, S3ResultStore.known):
        with pytest.raises(InputError, match=r"at http://10.0.0.5:9000: without TLS"):
            use(where())
    assert [finding.grade for finding in check_store(where())] == [Grade.PROBLEM]
    assert S3ResultStore.known(where(insecure=True)).bucket.endpoint == "http://10.0.0.5:9000"


def test_results_of_an_http_store_beyond_this_machine_are_read_where_that_is_said(
    keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://10.0.0.5:9000")
    with pytest.raises(InputError, match=r"at http://10.0.0.5:9000: without TLS, .*, or ORCHESTRATOR_INSECURE_STORE=1"):
        from_store.read("s3://bench/sd")
    monkeypatch.setenv("ORCHESTRATOR_INSECURE_STORE", "1")
    assert from_store._opened("s3://bench/sd", "bench", "sd").endpoint == "http://10.0.0.5:9000"


def test_the_docs_examples_of_stores_are_taken() -> None:
    text = (ROOT / "docs" / "s3.md").read_text()
    found = re.findall(r"collect: (\{s3: .*\}\})", text)
    assert len(found) >= 3
    for each in found:
        Collect.model_validate(yaml.safe_load(each))


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("s3://bench", ("bench", "")),
        ("s3://bench/team/sd/", ("bench", "team/sd")),
        ("s3://bench/a b/50%25/x?y#z+ü", ("bench", "a b/50%25/x?y#z+ü")),
    ],
)
def test_what_follows_a_bucket_is_a_keys_text(given: str, parts: tuple[str, str]) -> None:
    assert from_store._parts(given) == parts


# --- a store that lies


def listed(*keys: str, more: bool = False) -> bytes:
    """A page; each has the same token for the next, or a new one where `more`."""
    contents = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in keys)
    token = f"<NextContinuationToken>{os.urandom(8).hex()}</NextContinuationToken>" if more else ""
    truncated = str(more).lower()
    return f"<ListBucketResult>{contents}<IsTruncated>{truncated}</IsTruncated>{token}</ListBucketResult>".encode()


@pytest.fixture
def liar(keys: None, listing: tuple[type[Listing], str]) -> tuple[type[Listing], Bucket]:
    return listing[0], opened(listing[1], profile=None, prefix="sd")


def test_a_listing_without_end_is_read_no_further(
    liar: tuple[type[Listing], Bucket], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endlessly:
        def __get__(self, *_: object) -> bytes:
            return listed("sd/r/a", "sd/r/b", more=True)

    liar[0].body = Endlessly()  # type: ignore[assignment]
    monkeypatch.setattr(bucket, "LISTING_LIMIT_NAMES", 5)
    with pytest.raises(HostUnreachable, match="the store lists more, or for longer, than is read of one"):
        liar[1].keys("r")
    assert len(liar[0].asked) == 3


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"x" * (9 << 20), "an answer that is longer than it should be"),
        (b"<ListBucketResult>" + b"<Contents/>" * 60_000 + b"</ListBucketResult>", "has too many values"),
        (b"<ListBucketResult><Contents></Contents></ListBucketResult>", "sent a malformed response .KeyError: 'Key'"),
        (b"SSH-2.0", "asks to retry later: 500"),  # as botocore takes it
    ],
)
def test_a_listing_that_is_none_is_a_store_that_does_not_answer(
    liar: tuple[type[Listing], Bucket], body: bytes, said: str
) -> None:
    liar[0].body = body
    with pytest.raises(HostUnreachable, match=said) as raised:
        liar[1].keys("r")
    assert len(str(raised.value)) < 1000


def test_a_refusal_without_end_is_not_read_whole_either(liar: tuple[type[Listing], Bucket]) -> None:
    liar[0].code, liar[0].body = 403, b"<Error><Message>" + b"x" * (9 << 20)
    with pytest.raises(HostUnreachable, match="longer than it should be"):
        liar[1].get("r/run.json", 100)


def test_keys_of_another_folder_than_was_asked_for_are_ignored(liar: tuple[type[Listing], Bucket]) -> None:
    liar[0].body = listed("sd/r/a", "sd/other/b", "../c", "sd/r/d")
    assert liar[1].keys("r") == ["r/a", "r/d"]


def test_an_object_is_read_to_its_limit_and_for_its_time(
    liar: tuple[type[Listing], Bucket], monkeypatch: pytest.MonkeyPatch
) -> None:
    liar[0].body = b"x" * 1000
    assert liar[1].get("r/a", 1000) == b"x" * 1000
    with pytest.raises(BadResult, match="larger than the 999 bytes"):
        liar[1].get("r/a", 999)
    monkeypatch.setattr(bucket, "OBJECT_TIMEOUT_S", -1.0)
    with pytest.raises(HostUnreachable, match=r"r/a is an answer that is not complete"):
        liar[1].get("r/a", 1000)


def test_https_to_a_store_without_tls_is_no_matter_of_certificates(
    keys: None, listing: tuple[type[Listing], str]
) -> None:
    with pytest.raises(InputError, match=r"speaks no TLS, and the address is https; fix: `endpoint_url: http://"):
        opened(listing[1].replace("http://", "https://"), profile=None).folders()
