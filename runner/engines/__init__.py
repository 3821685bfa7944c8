"""The interface of engines. Each engine is a module of this package, imported only when a job asks for it.

An engine never substitutes silently: it refuses what it cannot do, and the refusal becomes a row.
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
    """Decimal GB, as in the columns `memory`, `memory_peak` and `memory_host`; None means unknown."""

    reserved_gb: float | None
    peak_gb: float | None
    host_gb: float | None


class Session(Protocol):
    """A model loaded on its device, on which cases are measured.

    facts: cells of the row that are known after loading (device, height, width, xformers, …).
    one_shape: it serves one batch size only (a captured graph), so every case gets its own process.
    """

    one_shape: bool

    @property
    def facts(self) -> Mapping[str, Any]: ...

    def generate(self, samples: int) -> Sequence[Image]:
        """One whole call, text in, images out. It may return before the device has finished."""

    def synchronize(self) -> None:
        """Waits until the device has finished all work."""

    def reset_memory(self) -> None:
        """Frees cached memory and resets the peaks."""

    def memory(self) -> Memory:
        """Since `reset_memory`."""

    def is_finite(self) -> bool:
        """Whether the decoder's output of the last call is finite, before conversion to bytes. Called untimed."""

    def misplaced(self) -> tuple[Validity, str] | None:
        """FALLBACK or SPILLED with the reason, where the requested device did not compute or hold everything."""

    def remark(self) -> str | None:
        """A remark on the last call, for the row's `error`; None if there is none."""

    def close(self) -> None:
        """Releases what outlives the process: servers, folders."""


class Engine(Protocol):
    def load(self, job: Job, token: str | None) -> Session:
        """Loads the job's model on the job's device. token: for the Hugging Face hub.

        Raises Unsupported as early as possible, and LoadError.
        """


def find(name: str) -> Engine:
    """The engine's module. Raises Unsupported where a library that it needs is not installed."""
    try:
        return cast(Engine, importlib.import_module(f"runner.engines.{name}"))
    except ModuleNotFoundError as error:
        if error.name == f"runner.engines.{name}":
            raise Unsupported(f"the runner has no engine {name!r}") from error
        raise _not_installed(name, error) from error


def library(name: str) -> Any:
    """Imports an engine's library when a model is loaded. Raises Unsupported where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise _not_installed(name, error) from error


def _not_installed(engine: str, error: ModuleNotFoundError) -> Unsupported:
    package = PACKAGES.get((error.name or "").partition(".")[0])
    remedy = f"; fix: install the package {package}" if package else ""
    return Unsupported(f"engine {engine!r} is not installed here: there is no module {error.name!r}{remedy}")
