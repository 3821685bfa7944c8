"""Engines and a registry in memory, whose images are dictionaries."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import requests
from docker.errors import APIError, ImageNotFound, NotFound

from orchestrator import images
from orchestrator.errors import HostUnreachable
from orchestrator.executors.docker.endpoint import Endpoint


@dataclass
class Registry:
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    says: str = ""


Stand_in: Any = object  # it passes for whatever it is taken for


@dataclass
class FakeEngine(Stand_in):  # type: ignore[misc]
    """A Connection and its client at once: an engine whose images are a dictionary.

    damage: what becomes of a layer on its way in. sends: what it sends in place of an image.
    says: lines of a build, which waits while `held`. dead: no answer.
    """

    host_name: str
    arch: str = "amd64"
    registry: Registry = field(default_factory=Registry)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    damage: Callable[[bytes], bytes] = bytes
    sends: Callable[[bytes, bytes], bytes] | None = None
    says: tuple[dict[str, Any], ...] = ({"stream": "Step 1/1 : FROM base\n"},)
    dead: bool = False
    timeout: int = 60
    done: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    held: threading.Event | None = None

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("unix:///fake.sock")

    @contextmanager
    def api(self) -> Iterator[FakeEngine]:
        if self.dead:
            raise HostUnreachable(f"host {self.host_name}: its engine did not answer")
        yield self

    def streams_closed(self) -> AbstractContextManager[None]:
        return nullcontext()

    def version(self) -> Mapping[str, str]:
        return {"Arch": self.arch}

    def inspect_image(self, name: str) -> dict[str, Any]:
        if name not in self.images:
            raise ImageNotFound(name)
        return self.images[name]

    def build(self, *, tag: str, fileobj: Any, **_: Any) -> Iterator[dict[str, Any]]:
        with self.lock:
            self.done.append(f"build {tag}")
        fileobj.read()
        if self.held:
            self.held.wait(30)
        yield from self.says
        self._take(tag, f"{tag} for {self.arch}".encode())

    def get_image(self, image_id: str) -> Iterator[bytes]:
        image = next(image for image in self.images.values() if image["Id"] == image_id)
        self.done.append(f"save {image_id}")
        yield (self.sends or saved)(image["config"], image["layer"])

    def load_image(self, data: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        with tarfile.open(fileobj=io.BytesIO(b"".join(data))) as tar:
            said = {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}  # type: ignore[union-attr]
        for entry in json.loads(said["manifest.json"]):
            layer = self.damage(said[entry["Layers"][0]])
            for name in entry["RepoTags"]:
                self._take(name, layer)
        yield {"stream": "Loaded image"}

    def remove_image(self, name: str, **_: Any) -> None:
        del self.images[name]

    def info(self) -> dict[str, Any]:
        return {"DriverStatus": [["Backing Filesystem", "extfs"]]}

    def inspect_distribution(self, name: str, *_: Any) -> dict[str, Any]:
        if name not in self.registry.images:
            raise APIError("none", response=_answer(404))
        return {"Descriptor": {"digest": self.registry.says or self.digest(self.registry.images[name])}}

    def tag(self, image: str, repository: str, tag: str) -> None:
        self.images[f"{repository}:{tag}"] = self.inspect_image(image)

    def push(self, repository: str, tag: str, **_: Any) -> Iterator[dict[str, Any]]:
        self.done.append(f"push {repository}:{tag}")
        if repository.startswith("locked"):
            yield {"error": "denied: requested access to the resource is denied"}
        image = self.registry.images[f"{repository}:{tag}"] = self.images[f"{repository}:{tag}"]
        yield {"aux": {"Digest": self.digest(image)}}

    def pull(self, repository: str, tag: str, **_: Any) -> Iterator[dict[str, Any]]:
        self.done.append(f"pull {repository}@{tag}")
        had = [i for i in self.registry.images.values() if tag == self.digest(i)]
        if not had:
            raise NotFound("manifest unknown")
        self.images[f"{repository}@{tag}"] = had[0]
        yield {"status": "Pulling"}

    def digest(self, image: Mapping[str, Any]) -> str:
        """As a registry has it."""
        return digest_of(image["config"] + b"as a manifest")

    def _take(self, name: str, layer: bytes) -> None:
        config = json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]}}).encode()
        self.images[name] = {
            "Id": digest_of(config),
            "Size": 1,
            "RootFS": {"Layers": [digest_of(layer)]},
            "config": config,
            "layer": layer,
        }


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _answer(status: int) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    return response


def packed(files: Mapping[str, bytes], *more: tarfile.TarInfo) -> bytes:
    """A tar file of these."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for entry in more:
            tar.addfile(entry)
    return out.getvalue()


def saved(config: bytes, layer: bytes, tags: tuple[str, ...] = (), **more: bytes) -> bytes:
    """As `docker save` makes it."""
    manifest = [{"Config": "config.json", "RepoTags": [*tags], "Layers": ["1/layer.tar"]}]
    return packed({"1/layer.tar": layer, "config.json": config, **more, "manifest.json": json.dumps(manifest).encode()})


def ensured(*engines: FakeEngine, flavours: Iterable[str] = ("cpu",), **how: Any) -> Mapping[tuple[str, str], Any]:
    connections: dict[str, Any] = {engine.host_name: engine for engine in engines}
    return images.ensure(connections, dict.fromkeys(connections, tuple(flavours)), **how)


CPU = images.reference("cpu")
