"""Resolves a host entry to a Docker engine: address and TLS files, from the entry, the environment or a context.

A named engine that is not found is an error; the local engine never takes its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from orchestrator.config import DockerHost, Tls
from orchestrator.config.address import LOCAL_SOCKET, engine_url, is_loopback
from orchestrator.config.known import docker_contexts
from orchestrator.errors import InputError
from orchestrator.executors.docker.config import DockerConfig, read_json

ENCRYPTED = (
    "tls key: {} is protected by a passphrase; write one without: openssl rsa -in KEY -out NEW, and chmod 600 it"
)


@dataclass(frozen=True)
class Endpoint:
    """Where an engine listens. origin: the setting that named it, for messages."""

    url: str
    tls: Tls | None = None
    origin: str = "url"

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)


def resolve(host: DockerHost, environ: Mapping[str, str], home: Path) -> Endpoint:
    """Returns the engine that a host entry names. Reads files, does not connect.

    Without `url` and `context` it is the docker command's own choice: DOCKER_HOST, DOCKER_CONTEXT, the current
    context. Raises InputError with every problem found.
    """
    config = DockerConfig.of(environ, home)
    folder = config.folder
    if host.url:
        endpoint = Endpoint(host.url, _expanded(host.tls, home))
    elif host.context and host.context != "default":
        endpoint = _from_context(host, host.context, folder)
    elif environ.get("DOCKER_HOST", "").strip() or host.context:
        endpoint = _from_environment(environ, folder)
    else:
        name = environ.get("DOCKER_CONTEXT") or config.current_context()
        endpoint = _from_environment(environ, folder) if name == "default" else _from_context(host, name, folder)
    try:
        endpoint = replace(endpoint, url=engine_url(endpoint.url, tls=endpoint.tls is not None))
    except ValueError as error:
        raise InputError(f"host {host.name}: {endpoint.origin} {error}") from None
    if endpoint.tls is not None and not endpoint.url.startswith("tcp://"):
        endpoint = replace(endpoint, tls=None)
    problems = [f"host {host.name}: {problem}" for problem in (*_plain(endpoint, host), *_tls_problems(endpoint))]
    if problems:
        raise InputError(problems)
    return endpoint


def _expanded(tls: Tls | None, home: Path) -> Tls | None:
    if tls is None:
        return None
    return Tls(**{name: path.replace("~", str(home), 1) if path.startswith("~/") else path for name, path in tls})


def _from_environment(environ: Mapping[str, str], folder: Path) -> Endpoint:
    url = environ.get("DOCKER_HOST", "").strip()
    if not url:
        return Endpoint(LOCAL_SOCKET, origin="the default socket")
    material = Path(environ.get("DOCKER_CERT_PATH") or folder)
    # DOCKER_TLS alone asks for TLS without verification; here the engine's certificate is always verified
    verified = environ.get("DOCKER_TLS_VERIFY") or environ.get("DOCKER_TLS")
    return Endpoint(url, _tls_in(material) if verified else None, origin="DOCKER_HOST")


def _from_context(host: DockerHost, name: str, folder: Path) -> Endpoint:
    # the folder is named by the hash of the context's name: https://github.com/docker/cli/blob/master/cli/context/store
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = read_json(folder / "contexts" / "meta" / digest / "meta.json")
    url: Any = meta
    for key in ("Endpoints", "docker", "Host"):
        url = url.get(key) if isinstance(url, dict) else None
    if not isinstance(url, str) or not url:
        known = ", ".join(docker_contexts(folder))
        raise InputError(
            f"host {host.name}: there is no Docker context {name!r} (known: {known}); see docker context ls"
        )
    material = folder / "contexts" / "tls" / digest / "docker"
    return Endpoint(url, _tls_in(material) if material.is_dir() else None, origin=f"the Docker context {name!r}")


def _tls_in(folder: Path) -> Tls:
    """Returns the TLS files under Docker's own file names."""
    return Tls(ca=str(folder / "ca.pem"), cert=str(folder / "cert.pem"), key=str(folder / "key.pem"))


def _plain(endpoint: Endpoint, host: DockerHost) -> list[str]:
    """Returns why an address without TLS is refused, whichever setting named it."""
    if not endpoint.url.startswith("tcp://") or endpoint.tls or host.insecure or is_loopback(endpoint.url):
        return []
    return [
        f"{endpoint.origin} {endpoint.url} is without TLS: anyone who can reach that port has root access; fix: TLS "
        "(DOCKER_TLS_VERIFY=1 with DOCKER_CERT_PATH, or docker context create with ca, cert and key), an ssh:// "
        f"address, or insecure: true under {host.name} in hosts.yaml"
    ]


def _tls_problems(endpoint: Endpoint) -> list[str]:
    """Lists unusable TLS files. The inventory has checked already that `url: tcp://…` has tls."""
    if endpoint.tls is None:
        return []
    problems = [f"tls {name}: there is no file {path}" for name, path in endpoint.tls if not Path(path).is_file()]
    return problems or ([ENCRYPTED.format(endpoint.tls.key)] if _is_encrypted(Path(endpoint.tls.key)) else [])


def _is_encrypted(key: Path) -> bool:
    """Whether a key has a passphrase: OpenSSL would prompt for it on the terminal, where nobody may be."""
    try:
        with key.open("rb") as file:
            return b"ENCRYPTED" in file.read(4096)
    except OSError:  # the client reports it
        return False
