"""What a job that uses the network is told of it: proxies, the hub's address, an authority's certificates."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.config import DockerHost, Host
from orchestrator.config.env import PROXY_VARIABLES
from orchestrator.config.pod import FromObject
from orchestrator.errors import InputError, StartError
from orchestrator.executors.docker.config import DockerConfig
from orchestrator.executors.docker.endpoint import resolve

CA_BUNDLE = "/ca-bundle.pem"
# Which file of authorities OpenSSL (httpx among its users) and requests take, instead of the ones that they bring.
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_LOGIN = re.compile(r"(://)[^/@\s]*@")


def network_of(host: Host, environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """The variables of a host's `env`, over those that `docker run` would add for its engine.

    Raises InputError where one that is to come from our environment is not there, or Docker's config.json is broken.
    """
    proxies: dict[str, str] = {}
    if isinstance(host, DockerHost):
        proxies = DockerConfig.of(environ, home).proxies(resolve(host, environ, home).url)
    return {**proxies, **_own(host, environ)}


def network_for_jobs(host: Host) -> dict[str, str]:
    """As `network_of`, by our own environment. Raises StartError: what was there at the start is gone."""
    try:
        return network_of(host, os.environ, Path.home())
    except InputError as error:
        raise StartError(str(error)) from error


def _own(host: Host, environ: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    problems: list[str] = []
    for name, given in host.env.items():
        if isinstance(given, FromObject):  # the cluster has it
            continue
        both = (name, name.lower()) if name in PROXY_VARIABLES else (name,)
        value = given if given is not None else next((environ[one] for one in both if one in environ), None)
        if value is None:
            problems.append(
                f"host {host.name}: env takes {name} from the environment of this command, and it is not set there; "
                f"fix: export {name}=…, or give it a value"
            )
        else:
            found |= dict.fromkeys(both, value)
    if problems:
        raise InputError(problems)
    return found


def authorities(path: str) -> dict[str, str]:
    return dict.fromkeys(CA_VARIABLES, path)


def without_logins(value: Any) -> Any:
    """The same spec or manifest with every login in an address masked, to be shown."""
    match value:
        case str():
            return _LOGIN.sub(r"\1***@", value)
        case list():
            return [without_logins(item) for item in value]
        case dict():
            return {key: without_logins(item) for key, item in value.items()}
    return value
