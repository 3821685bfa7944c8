"""The variables that a host's entry may set for its jobs: network variables, none that changes a measurement."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

# Programs differ in whether they read the upper-case or the lower-case name, so a job gets both.
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
HUB_VARIABLES = (
    "HF_ENDPOINT",
    "HF_HUB_DISABLE_TELEMETRY",
    "HF_HUB_DISABLE_XET",
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "HF_HUB_ETAG_TIMEOUT",
)
VARIABLES = (*PROXY_VARIABLES, *HUB_VARIABLES)
LOGIN = re.compile(r"//[^/\s]*@")


def known(given: object) -> object:
    if not isinstance(given, dict):
        return given
    upper = {
        str(name).upper() if str(name).upper() in PROXY_VARIABLES else name: value for name, value in given.items()
    }
    for name in upper:
        if name not in VARIABLES:
            raise ValueError(f"must not set {name!r}; it may set {', '.join(VARIABLES)}; a token is never set here")
    if len(upper) < len(given):
        raise ValueError("sets a proxy twice, in upper and in lower case; keep one")
    return upper


def without_login(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rejects a password. A value that is not text names where the cluster takes it from."""
    for name, value in given.items():
        if not isinstance(value, str):
            continue
        if LOGIN.search(value):  # the message must not repeat the value
            raise ValueError(
                f"must hold no password ({name}): leave the value empty (`{name}:`), and it is taken from the "
                "environment of the command"
            )
        if not value.isprintable():
            raise ValueError(f"must hold one line of text ({name})")
    return given


Env: TypeAlias = Annotated[
    dict[str, str | None],
    BeforeValidator(known),
    AfterValidator(without_login),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: {"type": ["string", "null"]} for name in VARIABLES},
        }
    ),
    Field(description="network variables of the jobs; one without a value is copied from your environment"),
]
