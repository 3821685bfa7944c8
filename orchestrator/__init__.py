"""Runs a matrix of diffusion-model benchmarks on many hosts, and merges the results into one table.

As a library: `load` reads rows into a data frame, `tabulate` and `compare` compare them (docs/library.md).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.library import Changes as Changes
    from orchestrator.library import InputError as InputError
    from orchestrator.library import LoadWarning as LoadWarning
    from orchestrator.library import Table as Table
    from orchestrator.library import compare as compare
    from orchestrator.library import load as load
    from orchestrator.library import tabulate as tabulate

__version__ = "0.1.0"
_PUBLIC = ("Changes", "InputError", "LoadWarning", "Table", "compare", "load", "tabulate")


if not TYPE_CHECKING:  # a type checker knows the names above, and reports any other

    def __getattr__(name: str) -> Any:
        """Imports the library when one of its names is first used."""
        if name not in _PUBLIC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from orchestrator import library

        return getattr(library, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
