"""What becomes of a question to many hosts: answers, hosts that do not answer, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from orchestrator.config import Host
from orchestrator.errors import HostUnfit, HostUnreachable, InputError

T = TypeVar("T")


def ask(hosts: Sequence[Host], question: Callable[[Host], T], unreachable: dict[str, str]) -> dict[str, T]:
    """The answers of those hosts that answer, all asked at once. Raises InputError where some cannot do it."""

    def attempt(host: Host) -> T | Exception:
        try:
            return question(host)
        except (HostUnreachable, HostUnfit, InputError) as error:
            return error

    with ThreadPoolExecutor(max_workers=max(1, len(hosts))) as pool:
        answers = list(zip((host.name for host in hosts), pool.map(attempt, hosts)))
    sort_out(answers, unreachable)
    return {name: answer for name, answer in answers if not isinstance(answer, Exception)}


def sort_out(outcomes: Iterable[tuple[str, object]], unreachable: dict[str, str]) -> None:
    """Notes which hosts do not answer. Raises InputError, all together, for what is wrong with the others."""
    problems: list[str] = []
    for name, outcome in outcomes:
        if isinstance(outcome, HostUnreachable):
            unreachable[name] = str(outcome)
        elif isinstance(outcome, InputError):
            problems += outcome.problems
        elif isinstance(outcome, Exception):
            problems.append(str(outcome))
    if problems:
        raise InputError(dict.fromkeys(problems))
