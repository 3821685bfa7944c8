"""Lists arrive compressed where the kubeconfig allows it, and unpack to a bounded size."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.config import KubernetesHost
from orchestrator.executors.bounded_http import ResponseTooLarge, unpacked
from orchestrator.executors.kubernetes import context
from orchestrator.executors.kubernetes.manifest import selector, selector_of

TEXT = b"alike, " * 100_000


def pieces(body: bytes, size: int = 1000) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def test_a_compressed_body_unpacks_to_what_was_sent() -> None:
    assert b"".join(unpacked(pieces(gzip.compress(TEXT)), len(TEXT))) == TEXT


def test_a_compressed_body_beyond_the_limit_is_given_up_early() -> None:
    got: list[bytes] = []
    with pytest.raises(ResponseTooLarge):
        got.extend(unpacked(pieces(gzip.compress(bytes(2**24))), 2**20))
    assert sum(map(len, got)) <= 2**20


@pytest.mark.parametrize("body", [gzip.compress(TEXT)[:-20], b"no gzip at all", b""])
def test_a_broken_compressed_body_is_malformed(body: bytes) -> None:
    with pytest.raises(ValueError, match="compressed body"):
        list(unpacked(pieces(body), 10**9))


@pytest.mark.parametrize(("more", "compresses"), [({}, True), ({"disable-compression": True}, False)])
def test_disable_compression_of_the_kubeconfig_is_kept(tmp_path: Path, more: dict[str, Any], compresses: bool) -> None:
    whole = {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1", **more}}],
        "users": [{"name": "c", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(whole))
    found = context.resolve(KubernetesHost(name="lab"), {"KUBECONFIG": str(tmp_path / "config")})
    assert found.access(None).compresses is compresses


def test_one_selector_finds_the_objects_of_several_hosts() -> None:
    assert selector(KubernetesHost(name="a")) == "sd-orchestrator=job,sd-orchestrator.host=a"
    assert selector_of("a", "b") == "sd-orchestrator=job,sd-orchestrator.host in (a,b)"
