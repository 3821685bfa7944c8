"""Machines that are known outside hosts.yaml: by address, in ~/.ssh/config, as a Docker context."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

CONTEXT = "docker://"
MOST_BYTES = 1 << 20


def is_address(name: str) -> bool:
    return "://" in name


def name_of(address: str) -> str:
    """The name of a host that is given by its address: the machine with its port, the context, or the socket's path."""
    scheme, _, rest = address.partition("://")
    machine = rest.partition("/")[0].rpartition("@")[2] if scheme in ("ssh", "tcp") else unquote(rest)
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", machine).strip("-_.")[:63].rstrip("-_.") or "engine"


def entry_of(address: str) -> dict[str, str]:
    """What hosts.yaml would say of it."""
    if address.startswith(CONTEXT):
        return {"kind": "docker", "context": address.removeprefix(CONTEXT)}
    return {"kind": "docker", "url": address}


def lines_for(name: str, home: Path, environ: Mapping[str, str]) -> str:
    """The two lines of hosts.yaml for a name that ssh or docker knows; empty where neither does."""
    if name in ssh_hosts(home / ".ssh" / "config"):
        where, address = "~/.ssh/config has it", f"ssh://{name}"
    elif name in docker_contexts(Path(environ.get("DOCKER_CONFIG") or home / ".docker")):
        where, address = "there is a Docker context of that name", f"{CONTEXT}{name}"
    else:
        return ""
    entry = ", ".join(f"{key}: {value}" for key, value in entry_of(address).items())
    return f"; {where}: say --hosts {address}, or add to hosts.yaml:\n  hosts:\n    {name}: {{{entry}}}"


def ssh_hosts(config: Path) -> set[str]:
    """The names on the Host lines of an ssh_config and of what it includes, without patterns."""
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
    """The Docker contexts there are, `default` first. folder: Docker's configuration folder."""
    return ("default", *sorted(filter(None, map(_context_name, folder.glob("contexts/meta/*/meta.json")))))


def _context_name(meta: Path) -> str:
    try:
        found = json.loads(meta.read_bytes())
    except (OSError, ValueError, RecursionError):
        return ""
    name = found.get("Name") if isinstance(found, dict) else None
    return name if isinstance(name, str) else ""
