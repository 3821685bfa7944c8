"""Names each row's host as a table does: `desk`, `desk@run`, `desk (threads 2)`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import TypeAlias

from runner.schema import Row

AxisValue: TypeAlias = str | int | float | bool | None
Key: TypeAlias = tuple[AxisValue, ...]

HOST, RUN = "host", "run"
# What a host's rows were measured with. Each device is a column of its own; of the others, only where rows of one case
# on one host differ there: an engine may need a torch of its own, and is still compared with eager in its column.
DEVICE = "device"
CONDITIONS: Mapping[str, Callable[[Row], AxisValue]] = {
    DEVICE: attrgetter("device"),
    "threads": attrgetter("threads"),
    "cpu": attrgetter("cpu"),
    "driver": attrgetter("driver"),
    "torch": attrgetter("torch"),
    "diffusers": attrgetter("diffusers"),
    "cuda": attrgetter("cuda"),
    "python": attrgetter("python"),
    "image": attrgetter("image"),
}


@dataclass(frozen=True)
class HostName:
    """run: if the host is in several runs. conditions: what divides the host's rows."""

    host: str
    run: str | None = None
    conditions: tuple[tuple[str, AxisValue], ...] = ()

    def text(self, without: Collection[str] = ()) -> str:
        """Returns the name as a key has it. without: parts that are named elsewhere."""
        at = f"@{self.run}" if self.run is not None and RUN not in without else ""
        parts = [_condition(name, value) for name, value in self.conditions if name not in without]
        return f"{self.host}{at} ({', '.join(parts)})" if parts else f"{self.host}{at}"

    @cached_property
    def parts(self) -> Mapping[str, AxisValue]:
        """The axes that divide this host, with its values."""
        return dict(self.conditions) if self.run is None else {RUN: self.run, **dict(self.conditions)}


def _condition(name: str, value: AxisValue) -> str:
    if value is None:
        return f"{name} not stated"
    return str(value) if name == DEVICE else f"{name} {value}"


def host_of(row: Row) -> str:
    return row.host or row.device or "unnamed host"


def named_hosts(rows: Sequence[Row]) -> list[HostName]:
    """Returns each row's host, with its run if any host appears in several runs."""
    hosts = {host_of(row) for row in rows}
    # an imported host's name may equal another host's column, `desk@first` or `desk (threads 2)`
    names = {
        host: f"{host} (host)" if any(host.startswith((f"{other}@", f"{other} (")) for other in hosts) else host
        for host in hosts
    }
    runs: dict[str, set[str | None]] = defaultdict(set)
    for row in rows:
        runs[host_of(row)].add(row.run)
    known = {
        (host, run): HostName(names[host], (run or "unnamed") if len(its) > 1 else None)
        for host, its in runs.items()
        for run in its
    }
    return [known[host_of(row), row.run] for row in rows]


def with_several(columns: Sequence[str], values: Sequence[AxisValue]) -> set[str]:
    """Returns the columns whose rows state more than one value."""
    seen: dict[str, set[AxisValue]] = defaultdict(set)
    for column, value in zip(columns, values):
        if value is not None:
            seen[column].add(value)
    return {column for column, several in seen.items() if len(several) > 1}


def with_conditions(
    hosts: Sequence[HostName],
    keys: Sequence[Hashable],
    conditions: Mapping[str, tuple[set[str], list[AxisValue]]],
    measured: Sequence[bool],
) -> list[HostName]:
    """Returns each row's host, with the conditions that divide it.

    conditions: the hosts that each one divides, and each row's value. A row without a measurement may not state the
    value: it joins the only host that has its case, if there is one.
    """
    if not conditions:
        return list(hosts)
    columns = [host.text() for host in hosts]
    named, is_told = [], []
    for i, column in enumerate(columns):
        dividing = {name: values[i] for name, (split, values) in conditions.items() if column in split}
        is_told.append(measured[i] or None not in dividing.values())
        named.append(replace(hosts[i], conditions=tuple(dividing.items())) if dividing and is_told[i] else hosts[i])
    of_case: dict[Hashable, set[HostName]] = defaultdict(set)
    for column, key, name, told in zip(columns, keys, named, is_told):
        if told:
            of_case[column, key].add(name)
    return [
        name if told or len(of_case[column, key]) != 1 else next(iter(of_case[column, key]))
        for column, key, name, told in zip(columns, keys, named, is_told)
    ]


def natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Returns a sort key that puts host2 before host10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple(
        (part.isascii() and part.isdigit(), int(part[:18]) if part[0] in "0123456789" else 0, part) for part in parts
    )
