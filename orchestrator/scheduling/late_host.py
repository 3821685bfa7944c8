"""A host that did not answer when the run began: it is asked by a thread until it does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from orchestrator.executors.contract import Executor, Slot
from orchestrator.store import ResultStore


@dataclass(frozen=True)
class Ready:
    """What a host that answers has: its executor, slots and store."""

    executor: Executor
    slots: Sequence[Slot]
    result_store: ResultStore | None = None


class LateHost:
    """get_ready: asks the host; raises HostUnreachable while it does not answer. reason: why it did not at first.

    The thread is a daemon: bringing an image to the host takes minutes, and Ctrl-C does not wait for it.
    wake: called when there is an answer.
    """

    def __init__(self, get_ready: Callable[[], Ready], reason: str, wake: Callable[[], None]) -> None:
        self.reason = reason
        self.answer: Future[Ready] | None = None
        self._get_ready, self._wake = get_ready, wake

    def poll(self) -> Ready | None:
        """The host once it is ready; None while it is being asked. Raises what `get_ready` raised."""
        if self.answer is None:
            self.answer = self._ask()
        if not self.answer.done():
            return None
        answer, self.answer = self.answer, None
        return answer.result()

    def _ask(self) -> Future[Ready]:
        answer: Future[Ready] = Future()
        answer.add_done_callback(lambda _: self._wake())

        def ask() -> None:
            try:
                answer.set_result(self._get_ready())
            except BaseException as error:  # raised again by `poll`
                answer.set_exception(error)

        threading.Thread(target=ask, name="late-host", daemon=True).start()
        return answer
