"""A registry that lies costs the images that are its own: no other image changes, and no other party's login leaks."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from canary import Canary
from docker.errors import ImageNotFound
from lying_engine import chunked, endless, http, in_chunks
from lying_registry import MANIFEST, Lie, LyingRegistry, digest_of
from recorder import Recorder

from orchestrator import images
from orchestrator.errors import HostUnreachable, ImageError
from orchestrator.executors.docker.connection import Connection
from orchestrator.images import recipe
from orchestrator.images.record import Record
from runner.wire.tokens import TOKEN_VARIABLES

pytestmark = [pytest.mark.docker, pytest.mark.images]


@dataclass
class Secrets:
    """own: of the registry that is pushed to. others: of another one that config.json knows, and of the hub."""

    own: Canary
    others: tuple[Canary, ...]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def registry(recorder: Recorder) -> Iterator[LyingRegistry]:
    made = LyingRegistry(recorder, "registry")
    yield made
    made.close()


@pytest.fixture
def elsewhere(recorder: Recorder, registry: LyingRegistry) -> Iterator[LyingRegistry]:
    """Another machine, to which nobody has logged in, though it has the same blobs."""
    made = LyingRegistry(recorder, "elsewhere")
    made.blobs, made.manifests = registry.blobs, registry.manifests
    yield made
    made.close()


@pytest.fixture(autouse=True)
def secrets(registry: LyingRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Secrets:
    made = Secrets(Canary(), (Canary(), Canary()))
    registry.login = f"me:{made.own.text}"
    logins = {registry.address: made.own, "ghcr.io": made.others[0]}
    auths = {name: {"auth": base64.b64encode(f"me:{its.text}".encode()).decode()} for name, its in logins.items()}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in TOKEN_VARIABLES:
        monkeypatch.setenv(name, made.others[1].text)
    return made


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, first: Connection) -> Iterator[str]:
    """Puts a recipe of a few bytes, on no base, in place of the runner's; its image's name."""
    files = {
        "Dockerfile": b"ARG BASE=python:3.11-slim-bookworm\nFROM scratch\nCOPY runner/ /opt/runner\n",
        "runner/mark": Canary().text.encode(),
    }
    monkeypatch.setattr(recipe, "recipe", lambda _: files)
    yield images.reference("cpu")
    without_own(first)


@pytest.fixture
def others(first: Connection, small: str) -> Iterator[dict[str, str]]:
    """The images of other people on the engine, by name, to compare with `tags` later."""
    with first.api() as api:
        api.tag("python:3.11-slim-bookworm", "shop/db", "16")
        yield tags(first)
        api.remove_image("shop/db:16", noprune=True)


def tags(connection: Connection) -> dict[str, str]:
    """All images by name, without ours."""
    with connection.api() as api:
        return {
            tag: one["Id"] for one in api.images() for tag in one["RepoTags"] or () if "sd-orchestrator/" not in tag
        }


def outcome(call: Callable[[], images.ImageInfo | None]) -> images.ImageInfo | None:
    """The image that came; None also where none did and a short error says why."""
    try:
        return call()
    except (ImageError, HostUnreachable) as error:
        return None if len(str(error)) < 3000 else pytest.fail(str(error)[:100])


def without_own(connection: Connection) -> None:
    """As if nothing of ours had been built or pulled there."""
    with connection.api() as api:
        for one in api.images():
            for tag in (*(one["RepoTags"] or ()), *(one["RepoDigests"] or ())):
                if "sd-orchestrator/" in tag:
                    with contextlib.suppress(ImageNotFound):  # its digest went with its last tag
                        api.remove_image(tag, force=True)


def instead(answer: bytes) -> Lie:
    return lambda honest: [answer]


def changed(old: bytes, new: bytes) -> Lie:
    return lambda honest: [honest.replace(old, new)]


def head(honest: bytes, digest: str) -> bytes:
    """The beginning of an answer, with another digest in it."""
    lines = [line for line in honest.split(b"\r\n\r\n")[0].split(b"\r\n") if not line.startswith(b"Docker-Content-D")]
    return b"\r\n".join([*lines, f"Docker-Content-Digest: {digest}".encode(), b"", b""])


EVIL_CONFIG = json.dumps(
    {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
).encode()
EVIL = json.dumps({
    "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
    "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(EVIL_CONFIG),
               "digest": digest_of(EVIL_CONFIG)},
}).encode()  # fmt: skip
OTHER_ARCHITECTURE = json.dumps({
    "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
    "manifests": [{"mediaType": MANIFEST, "size": len(EVIL), "digest": digest_of(EVIL),
                   "platform": {"architecture": "s390x", "os": "linux"}}],
}).encode()  # fmt: skip
A_MANIFEST = f"Content-Type: {MANIFEST}"

PULLS: dict[str, tuple[str, Lie]] = {
    "another manifest than its digest": ("GET .*/manifests/sha256", instead(http(EVIL, A_MANIFEST))),
    "another manifest, called by the digest": (
        "GET .*/manifests/sha256",
        lambda honest: [honest.replace(honest.partition(b"\r\n\r\n")[2], EVIL.ljust(len(honest)))[: len(honest)]],
    ),
    "an image of another architecture": (
        "GET .*/manifests/sha256",
        instead(http(OTHER_ARCHITECTURE, "Content-Type: application/vnd.docker.distribution.manifest.list.v2+json")),
    ),
    "other layers and another configuration": (
        "GET .*/blobs/",
        lambda honest: [honest[:-20] + bytes(20)],
    ),
    "an error inside a 200": ("GET .*/manifests/", instead(http(b'{"errors": [{"code": "DENIED"}]}', A_MANIFEST))),
    "a manifest of brackets": ("GET .*/manifests/", instead(http(b"[" * 1_000_000, A_MANIFEST))),
    "a manifest of 16 MiB": ("GET .*/manifests/", instead(http(b" " * (16 << 20), A_MANIFEST))),
    "half a layer": ("GET .*/blobs/", lambda honest: [honest[: len(honest) // 2]]),
    "no HTTP": ("GET .*/manifests/", instead(b"SSH-2.0-OpenSSH_9.2\r\n" * 100)),
    "a redirect in a circle": ("GET .*/blobs/", instead(http(b"", "Location: ?", status="307 T"))),
    "an answer for nobody": ("GET .*/manifests/", instead(http(b"", status="403 Forbidden"))),
}


@pytest.mark.parametrize("lie", PULLS)
def test_a_pull_that_is_lied_to_brings_the_image_that_was_pushed_or_none(
    first: Connection, small: str, registry: LyingRegistry, others: dict[str, str], lie: str
) -> None:
    built = images.build(first, "cpu")
    images.push(first, small, registry.address)
    without_own(first)
    pattern, told = PULLS[lie]
    registry.lies[pattern] = told
    assert outcome(lambda: images.pull(first, small, registry.address)) is None
    assert images.find(first, small) is None
    assert tags(first) == others
    registry.lies.clear()
    assert getattr(images.pull(first, small, registry.address), "id", None) == built.id


PUSHES: dict[str, tuple[str, Lie]] = {
    "another digest for the tag": ("HEAD|GET .*/manifests/", lambda honest: [head(honest, digest_of(EVIL))]),
    "a digest that is none": ("HEAD|GET .*/manifests/", lambda honest: [head(honest, "sha256:../../x")]),
    "an upload to be sent for ever": ("PATCH", lambda honest: [honest.replace(b"202", b"500")]),
    "it has every layer already": ("HEAD .*/blobs/", instead(http(b"", "Docker-Content-Digest: sha256:" + "0" * 64))),
    "a manifest that it refuses": ("PUT .*/manifests/", instead(http(b"{", status="500 No"))),
    "no registry": ("/v2/", instead(http(b"<html>"))),
    "an error inside a 201": ("PUT .*/manifests/", instead(http(b'{"errors": [{"code": "DENIED"}]}', status="201 C"))),
}


@pytest.mark.parametrize("lie", PUSHES)
def test_a_push_that_is_lied_to_is_an_error_or_known_by_the_engines_digest(
    first: Connection, small: str, registry: LyingRegistry, others: dict[str, str], lie: str
) -> None:
    images.build(first, "cpu")
    pattern, told = PUSHES[lie]
    registry.lies[pattern] = told
    published = images.publish({"first": first}, ["cpu"], registry.address)["cpu"]
    registry.lies.clear()
    assert isinstance(images.publish({"first": first}, ["cpu"], registry.address)["cpu"], str)
    if isinstance(published, Exception):
        assert isinstance(published, ImageError)
        assert len(str(published)) < 3000
    else:
        _, _, digest = published.partition("@")
        assert digest in map(digest_of, registry.manifests.values()) or not registry.manifests
        assert digest != digest_of(EVIL)
    assert tags(first) == others


def test_a_tag_that_somebody_moved_since_the_push_is_not_pulled(
    first: Connection, small: str, registry: LyingRegistry, others: dict[str, str]
) -> None:
    built = images.build(first, "cpu")
    images.push(first, small, registry.address)
    without_own(first)
    registry.blobs[digest_of(EVIL_CONFIG)] = EVIL_CONFIG
    for name in [name for name in registry.manifests if "@" not in name]:
        registry.manifests[name] = EVIL
    pulled = images.pull(first, small, registry.address)
    assert pulled is not None
    assert pulled.id == built.id
    assert tags(first) == others


def test_a_tag_that_is_moved_during_a_push_is_an_error(first: Connection, small: str, registry: LyingRegistry) -> None:
    images.build(first, "cpu")
    registry.manifests[f"sd-orchestrator/cpu@{digest_of(EVIL)}"] = EVIL
    registry.lies["(HEAD|GET) .*/manifests/[^s]"] = instead(
        http(EVIL, A_MANIFEST, f"Docker-Content-Digest: {digest_of(EVIL)}")
    )
    with pytest.raises(ImageError, match="who else writes there"):
        images.push(first, small, registry.address)
    assert Record.of_user().digest(f"{registry.address}/{images.reference('cpu')}-amd64") is None


def test_a_redirect_of_a_registry_carries_no_login(
    first: Connection,
    small: str,
    registry: LyingRegistry,
    elsewhere: LyingRegistry,
    recorder: Recorder,
    secrets: Secrets,
) -> None:
    built = images.build(first, "cpu")
    images.push(first, small, registry.address)
    without_own(first)
    registry.lies["GET .*/blobs/"] = lambda honest: [
        http(b"", f"Location: http://{elsewhere.address}{registry.asked[-1].split()[1]}", status="307 T")
    ]
    pulled = images.pull(first, small, registry.address)
    assert pulled is not None
    assert pulled.id == built.id
    assert any("/blobs/" in path for path in elsewhere.asked)
    assert recorder.who_saw(secrets.own) == {"registry"}
    assert [recorder.who_saw(secret) for secret in secrets.others] == [set(), set()]


def test_a_realm_elsewhere_is_handed_the_registrys_own_login_at_most(
    first: Connection,
    small: str,
    registry: LyingRegistry,
    elsewhere: LyingRegistry,
    recorder: Recorder,
    secrets: Secrets,
) -> None:
    registry.realm, registry.token = f"http://{elsewhere.address}/token", Canary().text
    elsewhere.token = registry.token
    images.build(first, "cpu")
    images.push(first, small, registry.address)
    assert recorder.who_saw(secrets.own) <= {"registry", "elsewhere"}
    assert any(path.startswith("GET /token") for path in elsewhere.asked)
    assert [recorder.who_saw(secret) for secret in secrets.others] == [set(), set()]


@pytest.mark.parametrize("what", ["token", "ping"])
def test_an_answer_of_a_registry_without_end_is_an_error(
    first: Connection, small: str, registry: LyingRegistry, what: str, others: dict[str, str]
) -> None:
    images.build(first, "cpu")
    registry.realm = f"http://{registry.address}/token"
    where = {"token": "GET /token", "ping": "GET /v2/$"}[what]
    registry.lies[where] = lambda _: endless(chunked(), again=in_chunks(b"[" * 65536))()
    error = images.publish({"first": first}, ["cpu"], registry.address)["cpu"]
    assert isinstance(error, ImageError)
    assert len(str(error)) < 3000
    assert tags(first) == others
