"""The objects of one resource, from lists and from the events of watches. Pure: the clock is an argument.

A watch may send whole objects, their metadata, or rows of a table, which say only that an object changed. A resource
may have two watches: pods that wait for a node as rows, and placed pods whole. Each watch has a version of its own, up
to which its changes are known. So that a pod is never missing between the two:

- A list replaces everything at one version, for both watches.
- An object that leaves the first watch stays until the second one shows it, or has passed the version in which it left.
- An object that the second watch deleted does not come back by a late event of the first one.

API: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.executors.kubernetes.cluster import Expired, Keep


@dataclass(frozen=True)
class Kept:
    """One object by name. found: its needed part; None while only its name is known.

    is_current: whether `found` has its last change. since: when it last changed here, by the monotonic clock.
    left: when it left the first watch, if it is not known yet whether it was placed or deleted.
    """

    version: str
    since: float
    found: Mapping[str, Any] | None = None
    is_current: bool = False
    left: float | None = None


class Objects:
    """Objects by name. versions: for each watch, up to which all its changes are known; empty: a list is needed.

    API servers count versions up (https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions): an
    event that is not newer than the last one is a repetition.
    """

    def __init__(self, keep: Keep, clock: Callable[[], float], watches: int = 1) -> None:
        self._keep, self._clock = keep, clock
        self._kept: dict[str, Kept] = {}
        self.versions = [""] * watches
        self._told = [""] * watches  # the newest version that each watch itself began with or told
        # versions in which objects left the first watch; in which the second one deleted them
        self._leaving: dict[str, str] = {}
        self._gone: dict[str, str] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._kept

    def version_of(self, name: str) -> str:
        """Returns an object's version; empty if there is none."""
        kept = self._kept.get(name)
        return kept.version if kept else ""

    def all(self) -> dict[str, Kept]:
        """Returns a copy: events keep arriving."""
        return self._kept.copy()

    def begin(self, watch: int) -> str:
        """Returns the version from which a watch continues that is opened now."""
        self._told[watch] = self.versions[watch]
        return self.versions[watch]

    def forget(self) -> None:
        """Takes no event before the next list. What is kept stays until then."""
        self.versions = [""] * len(self.versions)

    def replace(self, listed: Iterable[Mapping[str, Any]], version: str) -> bool:
        """Takes a list of objects that are reduced to the needed part. Objects that are not in it are gone.

        Returns whether an object changed.
        """
        now, before = self._clock(), self._kept
        whole = [self._whole(each, now) for each in listed]
        self._kept = {str((each.found or {})["metadata"]["name"]): each for each in whole}
        is_same = {name: each.version for name, each in before.items()} == {
            name: each.version for name, each in self._kept.items()
        }
        for name, each in self._kept.items():
            if (old := before.get(name)) is not None and old.version == each.version:
                self._kept[name] = replace(each, since=old.since)
        self.versions = [version] * len(self.versions)
        self._leaving, self._gone = {}, {}
        return not is_same

    def read(self, found: Iterable[Mapping[str, Any]], asked_at: str) -> None:
        """Takes objects that were read by name. asked_at: the first watch's version when they were asked for."""
        for each in found:
            name, version = each["metadata"]["name"], each["metadata"]["resourceVersion"]
            before = self._kept.get(name)
            if before is not None and is_older(before.version, version):  # the read is ahead of the watch
                self._kept[name] = Kept(version, self._clock(), each, is_current=True, left=before.left)
            elif before is not None and not before.is_current:
                is_current = not is_older(max(asked_at, version, key=number), before.version)
                self._kept[name] = replace(before, found=each, is_current=is_current)

    def apply(self, event: Mapping[str, Any], watch: int = 0) -> bool:
        """Takes one event. Returns whether an object changed. Raises Expired if the watch cannot continue."""
        kind, thing, known = event["type"], event["object"], self.versions[watch]
        if kind == "ERROR":
            raise Expired(f"the watch ended: {thing.get('message')} ({thing.get('code')})")
        version = str(thing["metadata"]["resourceVersion"])
        told = self._told[watch]  # a list may be newer than what is on its way
        if kind == "BOOKMARK" and 0 < number(version) < number(told):  # such as of an etcd that was restored
            raise Expired(f"the server's version went back from {told} to {version}")
        self._told[watch] = max(told, version, key=number)
        if not is_older(known, version):
            return False
        is_change = kind != "BOOKMARK" and self._take(kind, thing, version, watch)
        self.versions[watch] = version
        return self._settle() or is_change

    def _take(self, kind: str, thing: Mapping[str, Any], version: str, watch: int) -> bool:
        name, now = _name(thing), self._clock()
        before, gone = self._kept.get(name), self._gone.get(name)
        if (before and not is_older(before.version, version)) or (gone and not is_older(gone, version)):
            return False  # the other watch is ahead
        if kind != "DELETED":
            self._leaving.pop(name, None)
            is_row = thing.get("kind") == "Table"
            found = before.found if before else None
            self._kept[name] = Kept(version, now, found) if is_row else self._whole(self._keep({**thing}), now)
        elif watch < len(self.versions) - 1:
            if before:
                self._kept[name] = replace(before, left=now)
                self._leaving[name] = version
        else:
            self._kept.pop(name, None)
            self._gone[name] = version
        return True

    def _settle(self) -> bool:
        """Removes what left the first watch and is not in the second one. Returns whether there is any."""
        first, last = self.versions[0], self.versions[-1]
        deleted = [name for name, version in self._leaving.items() if not is_older(last, version)]
        for name in deleted:
            del self._leaving[name]
            self._kept.pop(name, None)
        if self._gone:
            self._gone = {name: version for name, version in self._gone.items() if is_older(first, version)}
        return bool(deleted)

    def _whole(self, kept: Mapping[str, Any], now: float) -> Kept:
        return Kept(str(kept["metadata"]["resourceVersion"]), now, kept, is_current=True)


def is_older(version: str, other: str) -> bool:
    """Whether a version comes before another one; a version that is no number counts as newer than all before."""
    if number(version) and number(other):
        return number(version) < number(other)
    return version != other


def number(version: object) -> int:
    """Returns a version as a number; 0 if it is none."""
    return int(version) if isinstance(version, str) and version.isdecimal() and len(version) < 30 else 0


def _name(thing: Mapping[str, Any]) -> str:
    # a table's first column is the name, and an event is a table of one row
    return str(thing["rows"][0]["cells"][0] if thing.get("kind") == "Table" else thing["metadata"]["name"])
