"""Makes an import of diffusers cheaper, for a process that does it once for all its children."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


class Deferred(ModuleType):
    """A module that is imported when its first attribute is read, or a function of `__functions__` is called.

    `importlib.util.LazyLoader` does not defer here: the import statement reads `__spec__`, which already loads it.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if name in self.__functions__:
            return _at_its_call(self, name)
        _load(self)
        return getattr(self, name)


def _load(module: ModuleType) -> None:
    """Imports a deferred module; it is then an ordinary one."""
    if isinstance(module, Deferred):
        spec: Any = module.__spec__
        module.__class__ = ModuleType  # type: ignore[assignment]
        spec.loader.exec_module(module)


def _at_its_call(module: ModuleType, name: str) -> Callable[..., Any]:
    def call(*given: Any, **named: Any) -> Any:
        _load(module)
        return getattr(module, name)(*given, **named)

    return call


def defer(name: str, *functions: str) -> None:
    """Makes `import NAME` cheap until the module is used; does nothing where it is imported or not installed.

    name: of a submodule, such as `scipy.stats`. functions: those that others import by `from NAME import FUNCTION`;
    that alone does not import the module.
    """
    package, _, own = name.rpartition(".")
    if name in sys.modules or not importlib.util.find_spec(package) or not (spec := importlib.util.find_spec(name)):
        return
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    module.__class__ = Deferred
    module.__functions__ = functions  # type: ignore[attr-defined]
    setattr(sys.modules[package], own, module)


def list_models_once() -> None:
    """Imports `transformers.models` without a second look into each of its files.

    transformers looks for the names of its models in thousands of files, when it is imported and again when
    `transformers.models` is: its cache has 128 folders, fewer than there are models. The result of the first look, that
    of the whole folder, is still cached under the folder's path.
    """
    from transformers.utils import import_utils

    look: Any = getattr(import_utils, "create_import_structure_from_path", None)
    if look is None:
        return

    import_utils.create_import_structure_from_path = lambda path: look(_folder(path))
    try:
        import transformers.models  # noqa: F401
    finally:
        import_utils.create_import_structure_from_path = look


def _folder(path: str | Path) -> Path:
    return Path(path).parent if Path(path).is_file() else Path(path)


def hide_torchao() -> None:
    """Makes diffusers and transformers treat torchao as not installed. Call it before diffusers' classes are imported.

    Both import it if it is installed. That initialises CUDA, which a forked child then cannot use, and takes as long as
    all other imports of diffusers. `runner.models.quantised` imports it itself, in the child.
    """
    import transformers.utils
    from diffusers.utils import import_utils

    import_utils._torchao_available = False
    for module in (transformers.utils, transformers.utils.import_utils):
        module.is_torchao_available = _missing


def _missing(*_: Any) -> bool:
    return False
