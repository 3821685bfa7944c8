"""The environment of each host, from its rows and the environment.json of its jobs; what differs comes first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from orchestrator.report.labels import label
from orchestrator.report.model import Environment, Fact
from orchestrator.sanitize import clean
from runner.schema import Row

Document: TypeAlias = Mapping[str, Any]

LONGEST = 200
MOST_PACKAGES = 60
MOST_VALUES = 6  # of one fact on one host
GIB = 1 << 30
CLOCK = "SM clock"

_OF_ROWS: Mapping[str, Callable[[Row], object]] = {
    "device": lambda row: row.device,
    "driver": lambda row: row.driver,
    "CUDA": lambda row: row.cuda,
    "torch": lambda row: row.torch,
    "diffusers": lambda row: row.diffusers,
    "Python": lambda row: row.python,
    "CPU": lambda row: row.cpu,
    "threads": lambda row: row.threads,
    "image": lambda row: row.image,
    "weights": lambda row: row.weights,
}
_OF_DOCUMENT: Mapping[str, tuple[str, ...]] = {
    "operating system": ("os",),
    "kernel": ("kernel",),
    "libc": ("libc",),
    "CPUs usable": ("machine", "cpus_usable"),
    "CPU quota": ("machine", "cpu_quota"),
    "compute capability": ("process", "compute_capability"),
    "cuDNN": ("process", "cudnn"),
    "torch threads": ("process", "torch_threads"),
}
_MEMORY = {"memory": "memory_bytes", "memory limit": "memory_limit_bytes"}
_IN_ROWS = ("torch", "diffusers")  # packages that a column states


def environment(hosts: Mapping[str, tuple[Sequence[Row], Sequence[Document]]]) -> Environment:
    """hosts: the rows and documents of each host, by the name that the table gives it. Documents are foreign."""
    found = {host: _facts(rows, documents) for host, (rows, documents) in hosts.items()}
    names = dict.fromkeys(name for facts in found.values() for name in facts)
    facts = [_fact(name, [each.get(name) for each in found.values()]) for name in names]
    ordered = sorted(facts, key=lambda fact: not fact.differs)
    return Environment(tuple(label(host) for host in found), tuple(ordered))


def _fact(name: str, values: Sequence[str | None]) -> Fact:
    """A fact that a host does not state is no difference: its job may have ended before it could be known. A clock is
    measured, and differs between any two jobs."""
    stated = {value for value in values if value is not None}
    return Fact(name, tuple(values), differs=len(stated) > 1 and name != CLOCK)


def _facts(rows: Sequence[Row], documents: Sequence[Document]) -> dict[str, str]:
    facts = {name: _joined(of(row) for row in rows) for name, of in _OF_ROWS.items()}
    facts["GPUs"] = _joined(_gpus(document) for document in documents)
    facts |= {name: _joined(_at(document, path) for document in documents) for name, path in _OF_DOCUMENT.items()}
    for name, key in _MEMORY.items():
        facts[name] = _joined(_gib(_at(document, ("machine", key))) for document in documents)
    facts[CLOCK] = _clock(rows)
    for package in _packages(documents):
        facts[package] = _joined(_at(document, ("packages", package)) for document in documents)
    return {clean(name, LONGEST): text for name, text in facts.items() if text}


def _joined(values: Iterable[object]) -> str:
    """Every value once, in words; empty without any."""
    texts = dict.fromkeys(clean(str(value), LONGEST) for value in values if isinstance(value, (str, int, float)))
    kept = sorted(text for text in texts if text)
    more = f" and {len(kept) - MOST_VALUES} more" if len(kept) > MOST_VALUES else ""
    return ", ".join(kept[:MOST_VALUES]) + more


def _at(document: Document, path: Sequence[str]) -> object:
    value: object = document
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _gib(value: object) -> str | None:
    return f"{value / GIB:.1f} GiB" if isinstance(value, (int, float)) and value > 0 else None


def _gpus(document: Document) -> str | None:
    """The GPUs with their memory, such as `2 × NVIDIA H200, 140.4 GiB`."""
    gpus = _at(document, ("machine", "gpus"))
    if not isinstance(gpus, list):
        return None
    names = [
        ", ".join(str(part) for part in (gpu.get("name"), _gib(gpu.get("memory_bytes"))) if part)
        for gpu in gpus
        if isinstance(gpu, Mapping)
    ]
    return ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names)) or None


def _clock(rows: Sequence[Row]) -> str:
    """The range of mean SM clocks in the timed parts."""
    clocks = sorted(row.sm_clock_mhz for row in rows if row.sm_clock_mhz is not None)
    return f"{clocks[0]:.0f}–{clocks[-1]:.0f} MHz in the timed parts" if clocks else ""


def _packages(documents: Sequence[Document]) -> list[str]:
    names: set[str] = set()
    for document in documents:
        packages = document.get("packages")
        if isinstance(packages, Mapping):
            names |= {str(name) for name in packages}
    return sorted(names - set(_IN_ROWS))[:MOST_PACKAGES]
