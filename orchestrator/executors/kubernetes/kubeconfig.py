"""Reads kubeconfig files like kubectl: merged, checked, with each path relative to its own file.

Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/ and
https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]


class Unusable(Exception):
    """A kubeconfig, or a credential that it names, cannot be used. The message says where and why, without secrets."""


@dataclass(frozen=True)
class Named:
    """An entry of `clusters`, `users` or `contexts`. folder: of its file, the base of its relative paths."""

    what: str
    fields: Mapping[str, Any]
    folder: Path

    def text(self, key: str) -> str:
        """Returns a text field; empty if it is not set. Raises Unusable if it has another type."""
        value = self.fields.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise Unusable(f"{self.what}: {key}: expected text, got {type(value).__name__}; put it in quotes")
        return value

    def flag(self, key: str) -> bool:
        value = self.fields.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise Unusable(f"{self.what}: {key}: expected true or false, got {type(value).__name__}")

    def texts(self, key: str) -> Sequence[str]:
        value = self.fields.get(key) or []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise Unusable(f"{self.what}: {key}: expected a list of texts")
        return value

    def path(self, key: str) -> Path | None:
        value = self.text(key)
        return self.folder / value if value else None

    def material(self, key: str) -> bytes | None:
        """Returns the content of `key-data`, or else of the file that `key` names, in kubectl's order."""
        if encoded := self.text(f"{key}-data"):
            try:
                return base64.b64decode("".join(encoded.split()), validate=True)
            except (binascii.Error, ValueError):
                raise Unusable(f"{self.what}: {key}-data is not base64") from None
        path = self.path(key)
        return None if path is None else read_file(path, f"{self.what}: {key}")


@dataclass(frozen=True)
class Kubeconfig:
    """The merged files: of two entries with one name, the first file's wins."""

    current: str
    clusters: Mapping[str, Named]
    users: Mapping[str, Named]
    contexts: Mapping[str, Named]


def files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Returns the files in KUBECONFIG, or else the one in the user's home; skips empty parts and missing files."""
    named = environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    paths = [Path(part).expanduser() for part in named.split(os.pathsep) if part]
    return tuple(dict.fromkeys(path for path in paths if path.exists()))


def read(paths: Sequence[Path]) -> Kubeconfig:
    """Raises Unusable."""
    current, merged = "", {"clusters": {}, "users": {}, "contexts": {}}  # type: tuple[str, dict[str, dict[str, Named]]]
    for path in paths:
        whole = _object(path)
        here = whole.get("current-context") or ""
        if not isinstance(here, str):
            raise Unusable(f"{path}: current-context: expected a context's name")
        current = current or here
        for kind, one in (("clusters", "cluster"), ("users", "user"), ("contexts", "context")):
            for name, entry in _entries(whole, path, kind, one).items():
                merged[kind].setdefault(name, entry)
    return Kubeconfig(current, merged["clusters"], merged["users"], merged["contexts"])


def read_file(path: Path, what: str) -> bytes:
    """Reads a file. what: the setting that names it, for messages."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unusable(f"{what}: {path} cannot be read: {error.strerror}") from error
    if not content.strip():
        raise Unusable(f"{what}: {path} is empty")
    return content


def _object(path: Path) -> Object:
    """Parses a file; empty if everything in it is commented out."""
    try:
        whole = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # the error's own text quotes the line, which may hold a token
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise Unusable(f"{path}{line}: {getattr(error, 'problem', None) or 'not YAML'}") from None
    if whole is None:
        return {}
    if not isinstance(whole, dict):
        raise Unusable(f"{path}: expected a kubeconfig, got a {type(whole).__name__}")
    return whole


def _entries(whole: Object, path: Path, kind: str, one: str) -> dict[str, Named]:
    listed = whole.get(kind) or []
    if not isinstance(listed, list):
        raise Unusable(f"{path}: {kind}: expected a list")
    found: dict[str, Named] = {}
    for each in listed:
        name = each.get("name") if isinstance(each, dict) else None
        fields = each.get(one) if isinstance(each, dict) else None
        if not isinstance(name, str) or not isinstance(fields, (dict, type(None))):
            raise Unusable(f"{path}: {kind}: expected entries with `name` and `{one}`")
        if name in found:
            raise Unusable(f"{path}: {kind}: there are two entries named {name!r}; rename one")
        found[name] = Named(f"{one} {name!r} of {path}", fields or {}, path.absolute().parent)
    return found
