"""Reads hosts.yaml: the host kinds and the inventory."""

from __future__ import annotations

import os
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import Field, ValidationError

from orchestrator.config import podtemplate, yamlfile
from orchestrator.config.docker import DockerHost
from orchestrator.config.host import ProcessHost
from orchestrator.config.known import entry_of, is_address, is_open_to_all, lines_for, names_of, without_login
from orchestrator.config.kubernetes import KubernetesHost
from orchestrator.config.problems import in_order, in_words, keys, nearest, shown
from orchestrator.config.yamlfile import Document, Position
from orchestrator.errors import InputError

# Every host kind; `orchestrator.hosts.kinds` declares the rest about each.
AnyHost: TypeAlias = ProcessHost | DockerHost | KubernetesHost
Host: TypeAlias = Annotated[AnyHost, Field(discriminator="kind")]
ContainerHost: TypeAlias = DockerHost | KubernetesHost

TEMPLATE = "pod_template"
LOCAL = ProcessHost(name="local")
KINDS: Mapping[str, type[AnyHost]] = {kind.model_fields["kind"].default: kind for kind in typing.get_args(AnyHost)}


def load_hosts(path: Path | None, names: Sequence[str] = ()) -> dict[str, Host]:
    """Loads the inventory by name, in the file's order. Adds `local`, this machine, unless the file defines it.

    path: None is the embedded default, only `local`. names: addresses among them (`ssh://user@host`,
    `docker://CONTEXT`, …) become hosts too, with the file's defaults.
    """
    addresses = [name for name in dict.fromkeys(names) if is_address(name)]
    if path is None and not addresses:
        return {LOCAL.name: LOCAL}
    document = yamlfile.read(path, yamlfile.REMEDY) if path else yamlfile.Document({"hosts": {}}, {(): "--hosts"})
    problems: list[str] = []
    document = _with_addresses(document, addresses, problems)
    if problems and not document.value["hosts"]:  # the only hosts were given by address, and were rejected
        raise InputError(problems)
    hosts = {host.name: host for host in _hosts(document, problems)}
    if problems:
        raise InputError(in_order(problems))
    return {LOCAL.name: LOCAL, **hosts} if LOCAL.name not in hosts else hosts


def by_itself(text: str, names: Sequence[str], folder: Path) -> str:
    """Returns the inventory's text with everything it refers to embedded; unchanged if it refers to nothing.

    names: from the command line; addresses among them become hosts. folder: the inventory's folder, which also holds
    the files that it names as `pod_template`.
    """
    addresses = [name for name in names if is_address(name)]
    if not addresses and TEMPLATE not in text:
        return text
    import yaml

    document = yamlfile.parse(text.encode(), "hosts.yaml")
    entries = [*(document.value.get("hosts") or {}).values(), document.value.get("defaults")]
    by_file = [it for it in entries if isinstance(it, dict) and isinstance(it.get(TEMPLATE), str)]
    if not addresses and not by_file:
        return text
    for entry in by_file:
        entry[TEMPLATE] = yamlfile.read(template_path(folder, entry[TEMPLATE])).value
    document = _with_addresses(document, addresses, [])
    return str(yaml.safe_dump(document.value, sort_keys=False, allow_unicode=True))


def _with_addresses(document: Document, addresses: Sequence[str], problems: list[str]) -> Document:
    top = document.value
    if not addresses or not isinstance(top, dict) or not isinstance(top.get("hosts") or {}, dict):
        return document
    hosts, marks, given = dict(top.get("hosts") or {}), dict(document.marks), dict[str, str]()
    for address, name in names_of(addresses).items():
        entry = entry_of(address)
        if name in given:
            problems.append(_two_of_one_name(name, given[name], address))
            continue
        if name not in hosts and is_open_to_all(address) and not _are_secured(top.get("defaults")):
            problems.append(_without_tls(name, address))
            continue
        there = hosts.setdefault(name, entry)
        given[name] = address
        marks.setdefault(("hosts", name), f"--hosts {without_login(address)}")
        if not isinstance(there, dict) or any(there.get(key) != value for key, value in entry.items()):
            problems.append(
                f"{document.where(('hosts', name))}: host {name!r} is another one than the address in --hosts; "
                f"fix: say --hosts {name} for that one, or give that one another name"
            )
    return Document({**top, "hosts": hosts}, marks, document.folder)


def _are_secured(defaults: object) -> bool:
    return isinstance(defaults, dict) and bool(defaults.get("tls") or defaults.get("insecure"))


def _without_tls(name: str, address: str) -> str:
    entry = ", ".join(f"{key}: {value}" for key, value in entry_of(address).items())
    return (
        f"--hosts {address}: is without TLS, so anyone who can reach that port has root access, and --hosts "
        f"takes no certificates; fix: use ssh://, or say --hosts {name} and write to hosts.yaml:\n"
        f"  hosts:\n    {name}: {{{entry}, tls: {{ca: ca.pem, cert: cert.pem, key: key.pem}}}}\n"
        "In a network where nobody else reaches that port, `insecure: true` may stand there instead of `tls`."
    )


def _two_of_one_name(name: str, one: str, other: str) -> str:
    return (
        f"--hosts {without_login(other)}: would be called {name!r}, as {without_login(one)} is; "
        "fix: write both to hosts.yaml, each under a name of its own:\n"
        f"  hosts:\n    {name}: {{kind: docker, …}}\n    {name}-2: {{kind: docker, …}}"
    )


def select(hosts: Mapping[str, Host], names: Sequence[str] | None) -> tuple[Host, ...]:
    """Returns the named hosts, in that order. Without names: all hosts of the file, or else the built-in `local`."""
    if not names:
        return tuple(host for host in hosts.values() if host is not LOCAL) or tuple(hosts.values())
    addresses = names_of(name for name in dict.fromkeys(names) if is_address(name))
    names = [_of_address(name, addresses[name], hosts) if name in addresses else name for name in names]
    problems = [f"host {name!r} is not in the inventory{_hint(name, hosts)}" for name in names if name not in hosts]
    problems += [f"host {name!r} is named twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    if problems:
        raise InputError(dict.fromkeys(problems))
    return tuple(hosts[name] for name in names)


def _of_address(address: str, name: str, hosts: Mapping[str, Host]) -> str:
    """Finds the host for an address: by name, or by the same address; never a different machine."""
    entry = entry_of(address)
    same = [it.name for it in hosts.values() if all(getattr(it, key, None) == value for key, value in entry.items())]
    return name if name in same else next(iter(same), without_login(address))


def _hint(name: str, hosts: Mapping[str, Host]) -> str:
    return lines_for(name, Path.home(), os.environ) or nearest(name, hosts)


def _hosts(document: Document, problems: list[str]) -> Iterator[Host]:
    top = document.value
    if isinstance(top, dict) and "hosts" not in top and {"matrix", "model", "name"} & top.keys():
        problems.append(
            f"{document.where(())}: this is a matrix, and an inventory (`hosts:`) is expected here; "
            "fix: give the inventory here, and the matrix as in: orchestrator submit MATRIX.YAML"
        )
        return
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


def _pod_template(
    fields: Mapping[str, Any], document: Document, where: Callable[[Position], str], problems: list[str]
) -> dict[str, Any] | None:
    """Returns the patch for a host's pods: from the file that it names, beside the inventory, or from the entry."""
    given = fields.get(TEMPLATE)
    if given is None:
        return None
    patch = given
    place: Callable[[Position], str] = partial(_inside, where)
    if isinstance(given, str):
        path = template_path(document.folder, given)
        if not path.exists():
            said = "there is no such file; a relative path begins at the folder of this file"
            problems.append(f"{where((TEMPLATE,))}: pod_template {path}: {said}")
            return {}
        try:
            read = yamlfile.read(path)
        except InputError as error:
            problems += [f"{where((TEMPLATE,))}: pod_template: {problem}" for problem in error.problems]
            return {}
        patch, place = read.value, read.where
    found = list(podtemplate.problems(patch, allow_unsafe=fields.get("allow_unsafe") is True))
    problems += [f"{place(at)}: {said}" for at, said in found]
    return {} if found else dict(patch)


def _inside(where: Callable[[Position], str], at: Position) -> str:
    return where((TEMPLATE, *at))


def template_path(folder: Path, name: str) -> Path:
    return folder / Path(name).expanduser()


def _unknown_defaults(document: Document, defaults: Mapping[str, Any]) -> Iterator[str]:
    known = dict.fromkeys(key for kind in KINDS.values() for key in keys(kind))
    spelled = {spelling for kind in KINDS.values() for spelling in kind.SPELLINGS}
    for key in defaults.keys() - known.keys() - spelled:
        yield f"{document.where(('defaults', key))}: unknown key {key!r}{nearest(key, known)}"


def _host(document: Document, name: str, own: object, defaults: Mapping[str, Any], problems: list[str]) -> Host | None:
    at: Position = ("hosts", name)
    here = document.where(at)
    if not isinstance(own, dict):
        problems.append(f"{here}: host {name!r} must be keys and values, such as {{kind: docker}}, not {shown(own)}")
        return None
    word = own.get("kind", defaults.get("kind"))
    if word is None:
        problems.append(f"{here}: host {name!r} has no kind; it is one of {', '.join(KINDS)}")
        return None
    kind = KINDS.get(word) if isinstance(word, str) else None
    if kind is None:
        hint = nearest(str(word), KINDS)
        problems.append(f"{document.where((*at, 'kind'))}: kind {shown(word)} is unknown{hint}")
        return None

    def where(position: Position) -> str:
        """Returns `file:line` of a field: in the host, else in the defaults, else the host's own line."""
        if position and position[0] not in own and (spelling := written.get(position[0])):
            position = (spelling, *position[1:])
        inherited = position and position[0] not in own and position[0] in defaults
        return document.where(("defaults", *position) if inherited else (*at, *position))

    spellings = kind.SPELLINGS
    # maps each key to the spelling that the file uses
    written: dict[str | int, str] = {
        spellings[key]: key for fields in (defaults, own) for key in fields if key in spellings
    }
    for key, spelling in written.items():
        if key in own and spelling in own:
            problems.append(f"{where((spelling,))}: {key} and {spelling} are one key; keep one")
    own_fields = {spellings.get(key, key): value for key, value in own.items()}
    inherited_fields = {spellings.get(key, key): value for key, value in defaults.items()}
    known = {key: value for key, value in inherited_fields.items() if key in keys(kind)}
    fields = {**known, **own_fields}
    patch = _pod_template(fields, document, where, problems) if TEMPLATE in keys(kind) else None
    if "name" in own:
        problems.append(f"{where(('name',))}: unknown key 'name'; a host's name is the key that it stands under")
    try:
        return kind.model_validate({**fields, **({} if patch is None else {TEMPLATE: patch}), "name": name})
    except ValidationError as error:
        problems += in_words(error, kind, {**fields, "name": name}, where)
        return None
