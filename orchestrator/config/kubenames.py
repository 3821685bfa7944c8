"""Names and quantities in Kubernetes' syntax.

https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

# The parts of a name: the key of a label or a resource may have a domain.
_DNS_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_DOMAIN = rf"{_DNS_LABEL}(\.{_DNS_LABEL})*"
_QUALIFIED = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
NAMESPACE_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
OBJECT_PATTERN = rf"^{_DOMAIN}$"
LABEL_KEY_PATTERN = rf"^({_DOMAIN}/)?{_QUALIFIED}$"
LABEL_VALUE_PATTERN = rf"^({_QUALIFIED})?$"
RESOURCE_PATTERN = rf"^{_DOMAIN}/{_QUALIFIED}$"
DATA_KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"

ObjectName: TypeAlias = Annotated[str, StringConstraints(pattern=OBJECT_PATTERN, max_length=253)]
LabelKey: TypeAlias = Annotated[str, StringConstraints(pattern=LABEL_KEY_PATTERN, max_length=317)]
LabelValue: TypeAlias = Annotated[str, StringConstraints(pattern=LABEL_VALUE_PATTERN)]

# Lower-case suffixes are those of the other host kinds, powers of 1024; the others are Kubernetes' own.
_UNITS = {
    **{letter: 1024 ** (power + 1) for power, letter in enumerate("kmg")},
    **{f"{letter}{end}": 1024 ** (power + 1) for power, letter in enumerate("kmg") for end in ("b", "i", "ib")},
    **{f"{letter}i": 1024 ** (power + 1) for power, letter in enumerate("KMGTP")},
    **{letter: 1000 ** (power + 2) for power, letter in enumerate("MGTP")},
    "": 1,
}
_BYTES = re.compile(r"(\d{1,18}(?:\.\d{1,6})?)([A-Za-z]{0,3})", re.ASCII)
LEAST_BYTES = 1 << 20


def bytes_of(text: str) -> int:
    """Parses `16g`, `16Gi`, `16G` or `17179869184` into bytes. Raises ValueError."""
    found = _BYTES.fullmatch(text)
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a size such as 16Gi")
    return int(float(found[1]) * _UNITS[found[2]]) if "." in found[1] else int(found[1]) * _UNITS[found[2]]


def _size(given: object) -> object:
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise ValueError(f"must be a size such as 16Gi or 16g, not {given!r}")  # noqa: TRY004 - pydantic hears no TypeError
    try:
        much = bytes_of(str(given))
    except ValueError:
        raise ValueError(f"must be a size such as 16Gi or 16g, not {str(given)[:60]!r}") from None
    if much < LEAST_BYTES:
        raise ValueError(f"must be a size such as 16Gi or 16g, of 1Mi at least, not {str(given)[:60]!r}")
    return str(given)


def _cpus(given: object) -> object:
    """Parses `500m`, `"4"` or 0.5 into CPUs. Passes any other value on to the validator, which reports it."""
    if isinstance(given, str) and (found := re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(m?)", given, re.ASCII)):
        return float(found[1]) / (1000 if found[2] else 1)
    return given


Bytes: TypeAlias = Annotated[
    str,
    BeforeValidator(_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": LEAST_BYTES},
                {"type": "string", "pattern": rf"^\d+(\.\d+)?({'|'.join(sorted(unit for unit in _UNITS if unit))})?$"},
            ]
        }
    ),
]
Cpus: TypeAlias = Annotated[
    float,
    BeforeValidator(_cpus),
    Field(ge=0.001, le=4096),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0.001, "maximum": 4096},
                {"type": "string", "pattern": r"^\d+(\.\d+)?m?$"},
            ]
        }
    ),
]
