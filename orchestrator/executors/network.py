"""Network variables of a job: proxies, the hub's address, CA certificates."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from orchestrator.config import Host
from orchestrator.config.env import PROXY_VARIABLES
from orchestrator.config.pod import FromObject
from orchestrator.errors import InputError, StartError

CA_BUNDLE = "/ca-bundle.pem"
# The CA file that OpenSSL (and so httpx) and requests use instead of their bundled one.
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
NOTHING: Mapping[str, str] = MappingProxyType({})
_LOGIN = re.compile(r"(://)[^/@\s]*@")


def at_start(variables: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Reads the variables for a job that starts now. Raises StartError if a source has vanished since the run began."""
    try:
        return variables()
    except InputError as error:
        raise StartError(str(error)) from error


def variables_of(host: Host, environ: Mapping[str, str]) -> dict[str, str]:
    """Resolves the variables of a host's `env`.

    Raises InputError if one is taken from our environment and is not set there.
    """
    found: dict[str, str] = {}
    problems: list[str] = []
    for name, given in host.env.items():
        if isinstance(given, FromObject):  # resolved by the cluster
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
    """Returns the spec or manifest with the login in every URL masked, for display."""
    match value:
        case str():
            return _LOGIN.sub(r"\1***@", value)
        case list():
            return [without_logins(item) for item in value]
        case dict():
            return {key: without_logins(item) for key, item in value.items()}
    return value
