"""hosts.yaml and matrix.yaml, parsed once into frozen values; all of a file's problems come in one InputError."""

from __future__ import annotations

import importlib.resources
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator import yamlfile
from orchestrator.errors import InputError
from orchestrator.matrixfile import MatrixFile, expand
from orchestrator.model import DockerHost, Host, KubernetesHost, Matrix, ProcessHost
from orchestrator.overrides import with_overrides
from orchestrator.problems import in_order, in_words, keys, nearest, shown
from orchestrator.yamlfile import Document, Position

LOCAL = ProcessHost(name="local")
KINDS: Mapping[str, type[ProcessHost] | type[DockerHost] | type[KubernetesHost]] = {
    kind.model_fields["kind"].default: kind for kind in typing.get_args(typing.get_args(Host)[0])
}
FILES = ("hosts.yaml", "matrix.yaml")


def load_hosts(path: Path | None) -> dict[str, Host]:
    """The inventory by name, in the file's order; `local`, this machine, is in it unless the file defines it.

    path: None is the embedded default, `local` alone.
    """
    if path is None:
        return {LOCAL.name: LOCAL}
    document = yamlfile.read(path)
    problems: list[str] = []
    hosts = {host.name: host for host in _hosts(document, problems)}
    if problems:
        raise InputError(in_order(problems))
    return {LOCAL.name: LOCAL, **hosts} if LOCAL.name not in hosts else hosts


def select(hosts: Mapping[str, Host], names: Sequence[str] | None) -> tuple[Host, ...]:
    """The named hosts, in that order; without names, all that the file defines, or else the built-in `local`."""
    if not names:
        return tuple(host for host in hosts.values() if host is not LOCAL) or tuple(hosts.values())
    problems = [f"host {name!r} is not in the inventory{nearest(name, hosts)}" for name in names if name not in hosts]
    problems += [f"host {name!r} is named twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    if problems:
        raise InputError(dict.fromkeys(problems))
    return tuple(hosts[name] for name in names)


def load_matrix(path: Path | None, overrides: Sequence[str] = ()) -> Matrix:
    """The matrix with its points. path: None is the embedded default.

    overrides: `KEY=VALUE[,VALUE…]`, as `--set` has it: each replaces an axis, or a value at the top of the file.
    """
    if path is None:
        document = yamlfile.parse(template("matrix.yaml").encode(), "the default matrix.yaml")
    else:
        document = yamlfile.read(path)
    if not isinstance(document.value, dict):
        raise InputError(f"{document.where(())}: must hold keys and values at the top, not {shown(document.value)}")
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
    """The commented file of that name that `init` writes; matrix.yaml's is the embedded default too."""
    return (importlib.resources.files("orchestrator") / "data" / name).read_text(encoding="utf-8")


def init(folder: Path) -> list[Path]:
    """Writes a commented hosts.yaml and matrix.yaml. Raises InputError, and writes nothing, where one is there."""
    paths = [folder / name for name in FILES]
    if problems := [f"{path}: is there already, and is left as it is" for path in paths if path.exists()]:
        raise InputError(problems)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            with path.open("x", encoding="utf-8") as file:
                file.write(template(path.name))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to: {error.strerror}") from error
    return paths


def _hosts(document: Document, problems: list[str]) -> Iterator[Host]:
    top = document.value
    if not isinstance(top, dict) or not isinstance(top.get("hosts", {}), dict):
        position: Position = ("hosts",) if isinstance(top, dict) else ()
        problems.append(f"{document.where(position)}: must hold keys and values: 'hosts:', and a host's name below it")
        return
    for key in top.keys() - {"hosts", "defaults"}:
        problems.append(f"{document.where((key,))}: unknown key {key!r}{nearest(key, ('hosts', 'defaults'))}")
    defaults = top.get("defaults") or {}
    if not isinstance(defaults, dict):
        problems.append(f"{document.where(('defaults',))}: defaults must be keys and values, not {shown(defaults)}")
        return
    problems += _unknown_defaults(document, defaults)
    if not top.get("hosts"):
        problems.append(
            f"{document.where(('hosts',))}: no hosts; give one, such as 'hosts: {{local: {{kind: process}}}}'"
        )
    for name, fields in top.get("hosts", {}).items():
        host = _host(document, name, fields, defaults, problems)
        if host is not None:
            yield host


def _unknown_defaults(document: Document, defaults: Mapping[str, Any]) -> Iterator[str]:
    known = dict.fromkeys(key for kind in KINDS.values() for key in keys(kind))
    for key in defaults.keys() - known.keys():
        yield f"{document.where(('defaults', key))}: unknown key {key!r}{nearest(key, known)}"


def _host(document: Document, name: str, own: object, defaults: Mapping[str, Any], problems: list[str]) -> Host | None:
    at: Position = ("hosts", name)
    here = document.where(at)
    if not isinstance(own, dict):
        problems.append(f"{here}: host {name!r} must be keys and values, such as {{kind: docker}}, not {shown(own)}")
        return None
    word = own.get("kind", defaults.get("kind"))
    if word is None:
        problems.append(f"{here}: host {name!r} says no kind; it is one of {', '.join(KINDS)}")
        return None
    kind = KINDS.get(word) if isinstance(word, str) else None
    if kind is None:
        hint = nearest(str(word), KINDS)
        problems.append(f"{document.where((*at, 'kind'))}: kind {shown(word)} is unknown{hint}")
        return None

    def where(position: Position) -> str:
        """Of a field's position: in the host, or else in the defaults, or else the host's own line."""
        inherited = position and position[0] not in own and position[0] in defaults
        return document.where(("defaults", *position) if inherited else (*at, *position))

    known = {key: value for key, value in defaults.items() if key in keys(kind)}
    fields = {**known, **own}
    if "name" in own:
        problems.append(f"{where(('name',))}: unknown key 'name'; a host's name is the key that it stands under")
    try:
        return kind.model_validate({**fields, "name": name})
    except ValidationError as error:
        problems += in_words(error, kind, {**fields, "name": name}, where)
        return None
