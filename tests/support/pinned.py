"""What pins.txt pins."""

from __future__ import annotations

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from orchestrator.images.pins import file, select

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# Levels of pins that are installed whole; what is added to them stands in levels of its own.
INSTALLED = ("bench", "test", "check", "tools", "cpu", "cuda", "deepspeed", "audit", "pins")


def requirements(level: str) -> dict[Requirement, list[str]]:
    """A level's pins, each with its hashes."""
    found: dict[Requirement, list[str]] = {}
    current = Requirement("none")
    for line in select(file().read_text(), level).splitlines():
        if line.startswith("    --hash=sha256:"):
            found[current].append(line.removeprefix("    --hash=sha256:").removesuffix(" \\"))
        elif line:
            current = Requirement(line.removesuffix(" \\"))
            found[current] = []
    return found


def versions(*levels: str, python: str = "3.12", system: str = "linux", machine: str = "x86_64") -> dict[str, str]:
    there = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": system}
    there |= {"platform_machine": machine, "platform_system": system.capitalize()}
    pins = [one for level in levels for one in requirements(level) if one.marker is None or one.marker.evaluate(there)]
    pairs = [(canonicalize_name(one.name), str(one.specifier).removeprefix("==")) for one in pins]
    assert len(dict(pairs)) == len(pairs), f"{levels} pin something twice for Python {python}"
    return dict(pairs)
