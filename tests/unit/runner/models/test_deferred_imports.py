"""A deferred module is imported at its first use, and then is the module itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.models.imports import defer


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with one submodule, which has one value."""
    (tmp_path / "deferred_package").mkdir()
    (tmp_path / "deferred_package/__init__.py").touch()
    (tmp_path / "deferred_package/part.py").write_text("value = 5\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "deferred_package.part"
    for name in ("deferred_package.part", "deferred_package"):
        sys.modules.pop(name, None)


def test_a_deferred_module_is_not_imported_by_an_import_statement(package: str) -> None:
    defer(package)
    import deferred_package.part  # type: ignore[import-not-found]

    assert "value" not in vars(deferred_package.part)


def test_a_deferred_module_is_imported_at_its_first_use(package: str) -> None:
    defer(package)
    import deferred_package.part

    assert deferred_package.part.value == 5
    with pytest.raises(AttributeError, match="other"):
        _ = deferred_package.part.other


def test_an_imported_module_is_not_deferred(package: str) -> None:
    import deferred_package.part

    defer(package)
    assert sys.modules[package] is deferred_package.part
    assert deferred_package.part.value == 5


def test_a_module_of_a_package_that_is_not_installed_is_not_deferred() -> None:
    defer("no_such_package.part")
    assert "no_such_package.part" not in sys.modules


def test_a_deferred_function_is_imported_at_its_first_call(package: str, tmp_path: Path) -> None:
    (tmp_path / "deferred_package/part.py").write_text("value = 5\ndef twice(n): return 2 * n\n")
    defer(package, "twice")
    import deferred_package.part
    from deferred_package.part import twice

    assert "value" not in vars(deferred_package.part)
    assert (twice(4), twice(n=3)) == (8, 6)
    assert deferred_package.part.value == 5
    assert deferred_package.part.twice is not twice
