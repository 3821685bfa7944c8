"""Sends a request to many hosts; separates results, unreachable hosts and errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from threading import Thread
from typing import TypeVar

from orchestrator.concurrency import map_concurrently
from orchestrator.config import Host
from orchestrator.errors import HostUnfit, HostUnreachable, InputError

T = TypeVar("T")
# Errors that end one host's part; they are reported together with those of the others.
FAULTS = (HostUnreachable, HostUnfit, InputError)
# How long hosts that have answered wait for the others. An ssh connection through a jump host takes a few seconds.
PATIENCE_S = 10.0


def ask(hosts: Sequence[Host], question: Callable[[Host], T], unreachable: dict[str, str]) -> dict[str, T]:
    """Asks all hosts concurrently; returns the results of those that answer. Raises InputError if some cannot do it."""
    by_name = {host.name: host for host in hosts}
    answers, failed = map_concurrently(by_name, lambda name: question(by_name[name]), FAULTS)
    sort_out(failed.items(), unreachable)
    return answers


def ask_patiently(
    hosts: Sequence[Host], question: Callable[[Host], T], unreachable: dict[str, str], patience_s: float = PATIENCE_S
) -> dict[str, T]:
    """Like `ask`, but once one host has answered, the others have `patience_s` seconds in total.

    The threads are daemons: a thread that waits for a silent host delays neither Ctrl-C nor the program's exit.
    """
    answers: dict[str, Future[T | Exception]] = {host.name: Future() for host in hosts}

    def attempt(host: Host) -> None:
        try:
            answers[host.name].set_result(question(host))
        except Exception as error:
            answers[host.name].set_result(error)

    began = time.monotonic()
    for host in hosts:
        Thread(target=attempt, args=(host,), name=f"reach-{host.name}", daemon=True).start()
    pending = set(answers.values())
    while pending:
        some_answered = any(it.done() and not isinstance(it.result(), Exception) for it in answers.values())
        left_s = max(0.0, patience_s - (time.monotonic() - began)) if some_answered else None
        done, pending = wait(pending, left_s, FIRST_COMPLETED)
        if not done:
            break
    late = HostUnreachable
    outcomes = {
        name: it.result() if it.done() else late(f"host {name}: it has not answered within {patience_s:.0f} s")
        for name, it in answers.items()
    }
    for outcome in outcomes.values():
        if isinstance(outcome, Exception) and not isinstance(outcome, FAULTS):
            raise outcome
    sort_out(outcomes.items(), unreachable)
    return {name: outcome for name, outcome in outcomes.items() if not isinstance(outcome, Exception)}


def sort_out(outcomes: Iterable[tuple[str, object]], unreachable: dict[str, str]) -> None:
    """Records which hosts do not answer. Raises one InputError with all problems of the others."""
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
