"""Parses hosts.yaml and matrix.yaml once into frozen values. One InputError reports all problems of a file."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from orchestrator import installation
from orchestrator.config import yamlfile
from orchestrator.config.docker import DockerHost, Tls
from orchestrator.config.host import ProcessHost
from orchestrator.config.inventory import KINDS, LOCAL, ContainerHost, Host, by_itself, load_hosts, select
from orchestrator.config.kubernetes import KubernetesHost
from orchestrator.config.matrix import Exclude, Matrix, Point
from orchestrator.config.matrixfile import MatrixFile, expand
from orchestrator.config.overrides import with_overrides
from orchestrator.config.problems import in_order, in_words, shown
from orchestrator.config.store import S3, Collect
from orchestrator.errors import InputError

__all__ = [
    "KINDS", "LOCAL", "S3", "Collect", "ContainerHost", "DockerHost", "Exclude", "Host", "KubernetesHost", "Matrix",
    "Point", "ProcessHost", "Tls", "by_itself", "init", "load_hosts", "load_matrix", "select", "template",
]  # fmt: skip

FILES = ("hosts.yaml", "matrix.yaml")


def load_matrix(path: Path | None, overrides: Sequence[str] = ()) -> Matrix:
    """Loads the matrix with its points. path: None is the embedded default.

    overrides: `KEY=VALUE[,VALUE…]`, the syntax of `--set`. Each replaces an axis, or a value at the top of the file.
    """
    if path is None:
        document = yamlfile.parse(template("matrix.yaml").encode(), "the default matrix.yaml")
    else:
        document = yamlfile.read(path, yamlfile.REMEDY)
    if not isinstance(document.value, dict):
        raise InputError(f"{document.where(())}: must hold keys and values at the top, not {shown(document.value)}")
    if "hosts" in document.value and "matrix" not in document.value:
        raise InputError(
            f"{document.where(())}: this is an inventory (`hosts:`), and a matrix is expected here; "
            f"fix: give the matrix here, and the inventory as --inventory {path}"
        )
    document, problems = with_overrides(document, overrides)
    try:
        file = MatrixFile.model_validate(document.value)
    except ValidationError as error:
        found = in_words(error, MatrixFile, document.value, document.where)
        raise InputError(in_order([*problems, *found])) from error
    if problems:
        raise InputError(in_order(problems))
    return expand(file, document.where)


def template(name: str) -> str:
    """Returns the commented file that `init` writes. For matrix.yaml it is also the embedded default."""
    return (importlib.resources.files("orchestrator") / "data" / name).read_text(encoding="utf-8")


def init(folder: Path) -> list[Path]:
    """Writes a commented hosts.yaml and matrix.yaml, if missing. Raises InputError if both exist."""
    paths = [path for name in FILES if not (path := folder / name).exists()]
    if not paths:
        raise InputError(f"{folder.resolve()}: {' and '.join(FILES)} are there already, and are left as they are")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            with path.open("x", encoding="utf-8") as file:
                file.write(_with_docs(template(path.name), folder))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to: {error.strerror}") from error
    return paths


def _with_docs(text: str, folder: Path) -> str:
    """Points a template's `docs/…` to existing files: beside it in a checkout, else the installed docs."""
    return text if (folder / "docs").is_dir() else text.replace(" docs/", f" {installation.folder('docs')}/")
