"""Recognises what Hugging Face's optimum-benchmark saves, as JSON or CSV, and looks values up in it by their path."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

UNITS = {"latency": "s", "memory": "MB", "energy": "kWh", "throughput": "images/s"}
TARGETS = frozenset({"load_model", "load", "first_call", "call", "forward", "generate", "prefill", "decode"})
DEEPEST = 10


def is_report(value: Any) -> bool:
    """Whether a JSON value is what optimum-benchmark saves: a benchmark, a report or a configuration; flat or not."""
    if not isinstance(value, Mapping):
        return False
    if is_header(list(value)) or {"config", "report"} <= value.keys() or {"backend", "scenario"} <= value.keys():
        return True
    return bool(TARGETS & value.keys()) and all(isinstance(target, Mapping) for target in value.values())


def lacks_config(value: Any) -> bool:
    """Whether it is a report without the configuration, which the tool also saves beside it."""
    return is_report(value) and not {"config", "backend"} & value.keys() and not is_header(list(value))


def is_header(cells: Sequence[str]) -> bool:
    """Whether these are the columns that optimum-benchmark's `save_csv` writes."""
    return any(name.startswith(("config.backend.", "report.call.", "call.latency.")) for name in cells)


def unflattened(header: Sequence[str], cells: Sequence[str]) -> Mapping[str, Any]:
    """Returns a record of the CSV as the nested value that the JSON holds. An empty cell is missing."""
    return nested(zip(header, map(_literal, cells)))


def _literal(cell: str) -> Any:
    """Parses a cell as pandas writes it: a list of Python, a number, `True`, or text."""
    text = cell.strip()
    if text in ("", "nan", "None"):
        return None
    if text in ("True", "False"):
        return text == "True"
    if text.startswith(("[", "{")):
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return text
    try:
        return int(text) if text.isdecimal() and len(text) < 20 else float(text)
    except ValueError:
        return text


def nested(pairs: Iterable[tuple[str, Any]]) -> Mapping[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in pairs:
        *parents, last = name.split(".")
        if value is None or len(parents) > DEEPEST:
            continue
        branch = tree
        for parent in parents:
            below = branch.setdefault(parent, {})
            branch = below if isinstance(below, dict) else {}
        branch[last] = value
    return tree


@dataclass(frozen=True)
class Report:
    """Looks up values by their path, such as `config.backend.model`, and collects what is wrong with them."""

    value: Mapping[str, Any]
    name: str
    problems: list[str] = field(default_factory=list)

    def get(self, path: str) -> Any:
        value: Any = self.value
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def mapping(self, path: str) -> Mapping[str, Any]:
        value = self.get(path)
        if value is not None and not isinstance(value, Mapping):
            self.problems.append(f"{path} is not an object")
        return value if isinstance(value, Mapping) else {}

    def text(self, path: str) -> str | None:
        value = self.get(path)
        if value is not None and not isinstance(value, (str, int, float)):
            self.problems.append(f"{path} is not a text")
            return None
        return None if value is None else str(value).strip() or None

    def number(self, path: str) -> float | None:
        value = self.get(path)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < math.inf:
            self.problems.append(f"{path} is not a finite number: {str(value)[:40]!r}")
            return None
        return float(value)

    def whole(self, path: str) -> int | None:
        number = self.number(path)
        if number is not None and not number.is_integer():
            self.problems.append(f"{path} is not a whole number: {number}")
            return None
        return None if number is None else int(number)

    def numbers(self, path: str) -> tuple[float, ...]:
        values = self.get(path)
        if not isinstance(values, (list, tuple)) or not values:
            self.problems.append(f"{path} is no list of numbers")
            return ()
        if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in values):
            self.problems.append(f"{path} has a value that is no number")
            return ()
        if not all(0 < value < math.inf for value in values):
            self.problems.append(f"{path} has a call that took no time")
            return ()
        return tuple(map(float, values))

    def quantity(self, path: str, measure: str) -> float | None:
        """Returns a number of `memory`, `energy` and the like. Its unit must be the one that the tool has."""
        value = self.number(f"{path}.{measure}")
        kind = path.rpartition(".")[2]
        if value is not None and self.get(f"{path}.unit") != UNITS[kind]:
            self.problems.append(f"{path}.unit is {str(self.get(f'{path}.unit'))[:40]!r}, expected {UNITS[kind]!r}")
            return None
        return value
