"""An engine that does as the job's prompt says, for tests of what becomes of cases. Imports neither PyTorch nor pytest.

The prompt is `WHEN:ACTION` words; WHEN is a number of samples, `above-N` samples, or `load`.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

from PIL import Image

from runner.engines import Memory
from runner.errors import LoadError, Unsupported
from runner.jobs.supervise import context
from runner.jobs.worker import Provenance, Send, comparing, run_cases
from runner.measuring.measure import Instruments
from runner.quality.similarity import Reference
from runner.schema import Case, Job, Validity

# Children of a forkserver that has imported this know the server's here; those that import it themselves, their own.
IMPORTED_BY = os.getpid()


@functools.cache
def processes() -> Any:
    """As `supervise.context`, with this module imported by the server, which does not know pytest's sys.path."""
    children = context(preload=("fake_engine",))
    if sys.platform.startswith("linux"):
        forkserver._forkserver._stop()  # type: ignore[attr-defined]  # another test's server has not imported this
        with mock.patch.dict(os.environ, {"PYTHONPATH": str(Path(__file__).parent)}):
            forkserver.ensure_running()
    return children


def act(action: str, token: str | None) -> None:
    name, _, argument = action.partition("=")
    match name:
        case "signal":
            os.kill(os.getpid(), int(argument))
        case "hang":
            time.sleep(600)
        case "exit":
            print("the last words", file=sys.stderr, flush=True)
            os._exit(int(argument))
        case "out-of-memory":
            raise MemoryError
        case "allocate":
            ballast = bytearray(int(argument))
            ballast[::4096] = b"x" * len(ballast[::4096])
        case "leave-server":
            server = subprocess.Popen(["sleep", "600"])
            with open(argument, "w") as file:
                file.write(str(server.pid))
            os.kill(os.getpid(), signal.SIGKILL)
        case "tell-token":
            print(f"the token is {token}", file=sys.stderr, flush=True)
            raise RuntimeError(f"cannot log in with {token}")
        case "unsupported":
            raise Unsupported("not on this moon")
        case "missing":
            raise LoadError("there is no such model")


class FakeSession:
    one_shape = False

    def __init__(self, job: Job, token: str | None) -> None:
        self.facts: dict[str, Any] = {"height": 8, "width": 8, "xformers": False}
        self.one_shape = "one-shape" in job.prompt.split()
        self._actions = dict(word.split(":", 1) for word in job.prompt.split() if ":" in word)
        self._token = token
        self.log: list[str] = []
        self.elsewhere: tuple[Validity, str] | None = None

    def generate(self, samples: int) -> list[Image.Image]:
        self.log.append("generate")
        above = {int(word.split("-")[1]): deed for word, deed in self._actions.items() if word.startswith("above-")}
        action = self._actions.get(str(samples), next((above[least] for least in above if samples > least), ""))
        self._nan = action == "nan"
        act(action, self._token)
        image = Image.effect_noise((8, 8), 50).convert("RGB")
        return [Image.new("RGB", (8, 8)) if action == "black" else image] * (samples + (action == "one-more"))

    def synchronize(self) -> None:
        self.log.append("synchronize")

    def reset_memory(self) -> None:
        self.log.append("reset_memory")

    def memory(self) -> Memory:
        self.log.append("memory")
        return Memory(1.5, 1.25, 0.5)

    def remark(self) -> str | None:
        return None

    def misplaced(self) -> tuple[Validity, str] | None:
        return self.elsewhere

    def is_finite(self) -> bool:
        return not self._nan

    def close(self) -> None:
        self.log.append("close")


class FakeEngine:
    def load(self, job: Job, token: str | None) -> FakeSession:
        act(dict(word.split(":", 1) for word in job.prompt.split() if ":" in word).get("load", ""), token)
        return FakeSession(job, token)


def work(job: Job, cases: tuple[Case, ...], token: str | None, send: Send, reference: Reference | None = None) -> None:
    send(Provenance({"torch": "9.9"}, {"pid": os.getpid(), "imported_by": IMPORTED_BY}))
    run_cases(job, cases, FakeEngine(), token, send, Instruments(comparing(reference, send) if reference else None))
