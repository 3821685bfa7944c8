"""Reads hosts' prices per hour. A price is not a measurement: today's price takes precedence over the submitted one."""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator import config
from orchestrator.config import yamlfile
from orchestrator.errors import InputError
from orchestrator.runs.folder import Run
from orchestrator.table.declaration import Price
from runner.schema import Row

LARGEST_BYTES = 1 << 20
MOST_NAMED = 5  # hosts in a message
FORM = "expected HOST: PRICE, or HOST@RUN: PRICE, such as `rtx3090: 0.35`"
HEADERS = frozenset({"price", "price_per_hour"})


def of_rows(
    rows: Iterable[Row], runs: Sequence[Run], inventory: Path | None, file: Path | None
) -> dict[tuple[str | None, str | None], Price]:
    """Returns the price of each (run, host) that has one: from the file, the inventory, or the run's own hosts.yaml.

    inventory: today's hosts.yaml; imported rows get prices by its host names too. Raises InputError, also if the file
    names none of the rows' hosts.
    """
    given = read(file) if file else {}
    today = _of_inventory(inventory) if inventory else {}
    then = {name: _of_run(run) for run in runs if run.hosts.exists() for name in _names(run)}
    found: dict[tuple[str | None, str | None], Price] = {}
    priced = {(row.run, row.host) for row in rows if row.host}
    if given:
        check_names(f"{file}", given, priced)
    for run, host in priced:
        candidates = (
            (given.get(f"{host}@{run}"), f"{file}"),
            (given.get(str(host)), f"{file}"),
            (today.get(str(host)), f"{inventory}"),
            (then.get(run or "", {}).get(str(host)), f"hosts.yaml of run {run}"),
        )
        price = next((Price(value, source) for value, source in candidates if value is not None), None)
        if price is not None:
            found[run, host] = price
    return found


def check_names(file: str, given: Iterable[str], priced: Iterable[tuple[str | None, str | None]]) -> None:
    """A file may list more hosts than the rows have, but not only others: a misspelt name would be without effect."""
    hosts = sorted({f"{host}" for _, host in priced})
    if hosts and not {*hosts, *(f"{host}@{run}" for run, host in priced)} & set(given):
        near = [host for name in given for host in difflib.get_close_matches(name, hosts, n=1)]
        hint = f"did you mean {near[0]!r}?" if near else f"they have {', '.join(hosts[:MOST_NAMED])}"
        raise InputError(f"{file}: it names none of the hosts of these rows; {hint}")


def _of_run(run: Run) -> dict[str, float]:
    """Returns the prices of the run's own hosts.yaml; none if it is damaged, or an older version wrote it."""
    try:
        return _of_inventory(run.hosts)
    except InputError:
        return {}


def _names(run: Run) -> set[str]:
    """Returns the run names in its rows: the folder may have been renamed or copied."""
    return {row.run for row in run.all_rows() if row.run}


def _of_inventory(path: Path) -> dict[str, float]:
    hosts = config.load_hosts(path).values()
    return {host.name: host.price_per_hour for host in hosts if host.price_per_hour is not None}


def read(path: Path) -> dict[str, float]:
    """Reads prices by host, or host@run, from YAML (`HOST: PRICE`) or CSV (host, price). Raises InputError."""
    pairs = _of_csv(path) if path.suffix.lower() == ".csv" else _of_yaml(path)
    prices: dict[str, float] = {}
    problems = []
    for where, host, value in pairs:
        price = _number(value)
        if host in prices:
            problems.append(f"{where}: host {host!r} is listed twice")
        elif price is None:
            problems.append(f"{where}: the price of {host!r} is {value!r}; expected a number of at least 0")
        else:
            prices[host] = price
    if problems:
        raise InputError(problems[:20])
    if not prices:
        raise InputError(f"{path}: no prices; {FORM}")
    return prices


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        price = float(value)
    except (ValueError, OverflowError):
        return None
    return price if math.isfinite(price) and price >= 0 else None


def _of_yaml(path: Path) -> list[tuple[str, str, Any]]:
    document = yamlfile.read(path)
    if not isinstance(document.value, Mapping):
        raise InputError(f"{path}: {FORM}")
    if isinstance(document.value.get("hosts"), Mapping):
        raise InputError(f"{path}: is an inventory; give it as --inventory, or here: {FORM}")
    return [(document.where((host,)), str(host), value) for host, value in document.value.items()]


def _of_csv(path: Path) -> list[tuple[str, str, Any]]:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'is not UTF-8'}") from error
    if len(data) > LARGEST_BYTES:
        raise InputError(f"{path}: is larger than {LARGEST_BYTES >> 20} MiB; no list of prices is that large")
    delimiter = ";" if ";" in text.partition("\n")[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: {error}") from error
    if lines and len(lines[0][1]) > 1 and lines[0][1][1].lower() in HEADERS:
        lines = lines[1:]
    if wrong := [
        f"{path}:{line}: {len(cells)} cells; expected a host and its price" for line, cells in lines if len(cells) != 2
    ]:
        raise InputError(wrong[:20])
    comma = delimiter == ";"
    return [(f"{path}:{line}", host, price.replace(",", ".") if comma else price) for line, (host, price) in lines]
