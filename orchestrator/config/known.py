"""Finds machines that are not in hosts.yaml: by address, in ~/.ssh/config, as a Docker context."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from orchestrator.config.address import engine_url, is_loopback

CONTEXT = "docker://"
MOST_BYTES = 1 << 20


def is_address(name: str) -> bool:
    return "://" in name


def name_of(address: str) -> str:
    """Returns the name of a host given by address: the machine with its port, the context, or the socket's path."""
    scheme, _, rest = address.partition("://")
    machine = rest.partition("/")[0].rpartition("@")[2] if scheme in ("ssh", "tcp") else unquote(rest)
    return _as_name(machine) or _as_name(_whole(address)) or scheme


def names_of(addresses: Iterable[str]) -> dict[str, str]:
    """Returns a name for each address. If two mean one machine, the later name also contains its user and socket."""
    found: dict[str, str] = {}
    for address in addresses:
        name = name_of(address)
        found[address] = name if name not in found.values() else _as_name(without_login(address))
    return found


def _as_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-_.")[:63].rstrip("-_.")


def _whole(address: str) -> str:
    """Returns an address without its scheme; `unix://` is the default socket. Empty if the address is invalid."""
    try:
        return engine_url(address).partition("://")[2]
    except ValueError:
        return ""


def without_login(address: str) -> str:
    """Returns an address without its password, for messages."""
    return re.sub(r"://[^/@]*:[^/]*@", "://…@", address)


def is_open_to_all(address: str) -> bool:
    """Whether an address alone is not enough: tcp:// to another machine needs `tls`, or `insecure: true`."""
    try:
        url = engine_url(address)
    except ValueError:
        return False
    return urlsplit(url).scheme == "tcp" and not is_loopback(url)


def entry_of(address: str) -> dict[str, str]:
    """Returns the entry that hosts.yaml would have for the address."""
    if address.startswith(CONTEXT):
        return {"kind": "docker", "context": address.removeprefix(CONTEXT)}
    return {"kind": "docker", "url": address}


def lines_for(name: str, home: Path, environ: Mapping[str, str]) -> str:
    """Returns the two lines of hosts.yaml for a name that ssh or docker knows; empty if neither knows it."""
    if name in ssh_hosts(home / ".ssh" / "config"):
        where, address = "~/.ssh/config has it", f"ssh://{name}"
    elif name in docker_contexts(Path(environ.get("DOCKER_CONFIG") or home / ".docker")):
        where, address = "there is a Docker context of that name", f"{CONTEXT}{name}"
    else:
        return ""
    entry = ", ".join(f"{key}: {value}" for key, value in entry_of(address).items())
    return f"; {where}: say --hosts {address}, or add to hosts.yaml:\n  hosts:\n    {name}: {{{entry}}}"


def ssh_hosts(config: Path) -> set[str]:
    """Returns the names on the Host lines of an ssh_config and its included files, without patterns."""
    return {name for name in _ssh_words(config, config.parent, set()) if not re.search(r"[*?!]", name)}


def _ssh_words(config: Path, folder: Path, read: set[Path]) -> Iterator[str]:
    if config in read:  # files may include one another
        return
    read.add(config)
    try:
        with config.open("rb") as file:
            text = file.read(MOST_BYTES).decode(errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        key, _, rest = re.sub(r"[\s=]+", " ", line.strip(), count=1).partition(" ")
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|[^\s"]+', rest)]
        if key.lower() == "host":
            yield from words
        elif key.lower() == "include":
            for word in words:
                path = folder.parent / word[2:] if word.startswith("~/") else folder / word
                for found in sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))):
                    yield from _ssh_words(found, folder, read)


def docker_contexts(folder: Path) -> tuple[str, ...]:
    """Returns the existing Docker contexts, `default` first. folder: Docker's configuration folder."""
    return ("default", *sorted(filter(None, map(_context_name, folder.glob("contexts/meta/*/meta.json")))))


def _context_name(meta: Path) -> str:
    try:
        found = json.loads(meta.read_bytes())
    except (OSError, ValueError, RecursionError):
        return ""
    name = found.get("Name") if isinstance(found, dict) else None
    return name if isinstance(name, str) else ""
