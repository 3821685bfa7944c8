"""A store is called with the credentials that are meant, or not at all; its address means what it means to `aws`."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from orchestrator.config import S3
from orchestrator.errors import HostUnreachable, InputError
from orchestrator.store import bucket
from orchestrator.store.bucket import Bucket
from runner.tokens import TOKEN_VARIABLES

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
    with pytest.raises(InputError, match=f"s3://bench: no credentials could be had: .*{said}") as raised:
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
            "no credentials could be had: .*(SSO|token)",
        ),
        (
            "[profile p]\nrole_arn = arn:aws:iam::1:role/x\nweb_identity_token_file = /no/such\n",
            "no credentials could be had: .*No such file",
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
