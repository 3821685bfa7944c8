"""What an engine is to the rest of the runner. Each is a module of its own here, imported only when a job asks for it.

An engine never substitutes silently: what it cannot do it refuses, and the refusal is a row.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from runner.catalog import ENGINES
from runner.errors import Unsupported
from runner.schema import Job, Validity

if TYPE_CHECKING:
    from PIL.Image import Image


# By module.
PACKAGES = {module: package for engine in ENGINES.values() for module, package in engine.modules.items()}


@dataclass(frozen=True)
class Memory:
    """Decimal GB, as in the columns `memory`, `memory_peak` and `memory_host`; None is not known."""

    reserved_gb: float | None
    peak_gb: float | None
    host_gb: float | None


class Session(Protocol):
    """A model loaded on its device, ready to be called; what a case is measured on.

    facts: cells of the row that are known once it is loaded (device, height, width, xformers, …).
    one_shape: it serves one batch size only (a captured graph), so that every case gets a process of its own.
    """

    facts: Mapping[str, Any]
    one_shape: bool

    def generate(self, samples: int) -> Sequence[Image]:
        """One whole call, text in and images out. It may return before the device has finished."""

    def synchronize(self) -> None:
        """Returns when the device has finished all that was asked of it."""

    def reset_memory(self) -> None:
        """Gives cached memory back and starts the peaks anew."""

    def memory(self) -> Memory:
        """Since `reset_memory`."""

    def is_finite(self) -> bool:
        """Whether the last call's decoder gave finite numbers, before they became bytes. Asked outside of the clock."""

    def misplaced(self) -> tuple[Validity, str] | None:
        """FALLBACK or SPILLED, with the reason, where the device asked for did not compute or hold all of it."""

    def close(self) -> None:
        """Ends what a process's end would not: servers, folders."""


class Engine(Protocol):
    def load(self, job: Job, token: str | None) -> Session:
        """The job's model on the job's device. token: for the Hugging Face hub.

        Raises Unsupported, as early as it can be told, and LoadError.
        """


def find(name: str) -> Engine:
    """The engine's module. Raises Unsupported where a library of its is not installed."""
    try:
        return cast(Engine, importlib.import_module(f"runner.engines.{name}"))
    except ModuleNotFoundError as error:
        if error.name == f"runner.engines.{name}":
            raise Unsupported(f"the runner has no engine {name!r}") from error
        raise _not_installed(name, error) from error


def library(name: str) -> Any:
    """A library that an engine of the same name imports when it loads; raises Unsupported where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise _not_installed(name, error) from error


def _not_installed(engine: str, error: ModuleNotFoundError) -> Unsupported:
    package = PACKAGES.get((error.name or "").partition(".")[0])
    remedy = f"; fix: install the package {package}" if package else ""
    return Unsupported(f"engine {engine!r} is not installed here: there is no module {error.name!r}{remedy}")
