"""A run on the real thing: the command line as a process, real engines, containers of the fake runner."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import engines
from docker.types import CancellableStream
from engines import Engine

from orchestrator import images
from orchestrator.config import DockerHost
from orchestrator.errors import InputError
from orchestrator.executors.docker.connection import connect
from orchestrator.images.image import engine_of
from orchestrator.images.record import Record
from orchestrator.runs.folder import Run
from orchestrator.runs.job_state import Entry, Kind
from orchestrator.runs.journal import Journal
from orchestrator.runs.rows import read_rows
from runner.schema import Row

FILTERS = {"type": "container", "event": ["start", "die"], "label": "sd-orchestrator=job"}
INJECT_FAULT = str(Path(__file__).with_name("inject_fault.py"))


@dataclass
class Witness:
    """Counts the starts of every container of ours on an engine, by the engine's own events, over its restarts.

    most_at_once: how many of them ran at one time, at most.
    """

    engine: Engine
    starts: Counter[str] = field(default_factory=Counter)
    most_at_once: int = 0
    _running: set[str] = field(default_factory=set)
    _seen: set[tuple[str, int]] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)
    _stream: CancellableStream[dict[str, Any]] | None = None

    def __enter__(self) -> Witness:
        self._since = int(time.time())
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._stream is not None:
            self._stream.close()
        self._thread.join(60)
        # once more: an event is there some milliseconds after what it tells, and the stream may just have been reopened
        with contextlib.suppress(*engines.DEAD), closing(self.engine.client()) as api:
            self._take(api.events(since=self._since, until=int(time.time() + 1.5), filters=FILTERS, decode=True))

    def _follow(self) -> None:
        while not self._over.is_set():
            with (
                contextlib.suppress(*engines.DEAD),
                closing(docker.APIClient(self.engine.url, version="1.41", timeout=2)) as api,
            ):
                self._stream = api.events(since=self._since, filters=FILTERS, decode=True)
                self._take(self._stream)
            self._over.wait(0.1)

    def _take(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            name = event["Actor"]["Attributes"]["name"]
            if (name, event["timeNano"]) not in self._seen:
                self._seen.add((name, event["timeNano"]))
                self._count(name, event["Action"])

    def _count(self, name: str, action: str) -> None:
        if action == "die":
            self._running.discard(name)
            return
        self.starts[name] += 1
        self._running.add(name)
        self.most_at_once = max(self.most_at_once, len(self._running))


@dataclass
class LiveRun:
    """One folder with a matrix and hosts. engines: by host."""

    folder: Path
    engines: Mapping[str, Engine]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        entries = {name: {"kind": "docker", "url": e.url, "gpus": "none"} for name, e in self.engines.items()}
        self.write_hosts(entries)

    def write_hosts(self, entries: Mapping[str, object]) -> None:
        (self.folder / "hosts.yaml").write_text(json.dumps({"hosts": entries}))

    def write(self, **matrix: object) -> None:
        (self.folder / "matrix.yaml").write_text(json.dumps({"name": "faults", "rounds": 1, **matrix}))

    def vouch_for(self, host: str, name: str) -> None:
        """Records a host's image as one that this user built: only such an image is sent to another host."""
        with connect(DockerHost(name=host, url=self.engines[host].url)) as connection:
            image, engine = images.find(connection, name), engine_of(connection)
        assert image is not None
        Record.of_user({"XDG_STATE_HOME": str(self.folder / "state")}).built(image, engine)

    @property
    def run(self) -> Run:
        (folder,) = (path for path in (self.folder / "runs").iterdir() if path.is_dir())
        return Run(folder)

    def start(self, *words: str, **faults: object) -> subprocess.Popen[str]:
        """As from a terminal: it hears Ctrl-C even where this suite runs in a shell's background."""
        command = [sys.executable, INJECT_FAULT, json.dumps(faults), *words]
        environment = {**os.environ, "XDG_STATE_HOME": str(self.folder / "state")}
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        finally:
            signal.signal(signal.SIGINT, before)
        self.started.append(process)
        return process

    def close(self) -> None:
        """Ends what a test that failed left behind, here and on the engines."""
        for process in self.started:
            process.kill()
            process.communicate()
        for engine in self.engines.values():
            with closing(engine.client()) as api:
                for one in api.containers(all=True, filters={"label": "sd-orchestrator"}):
                    with contextlib.suppress(*engines.DEAD):
                        api.remove_container(one["Id"], v=True, force=True)

    def did(self, *words: str, **faults: object) -> subprocess.CompletedProcess[str]:
        with self.start(*words, **faults) as process:
            out, err = process.communicate(timeout=600)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def went_on(self, **faults: object) -> subprocess.CompletedProcess[str]:
        """As a user would: what began is resumed, and what had not begun is submitted again."""
        begun = list(self.folder.glob("runs/*/journal.db"))
        return self.did(*(["resume"] if begun else ["submit", "matrix.yaml"]), **faults)

    def wait_until_driven(self, process: subprocess.Popen[str]) -> None:
        """Until this process has taken the run up, or has ended."""

        def is_driven() -> bool:
            with contextlib.suppress(FileNotFoundError):  # of a folder that is removed meanwhile
                locks = [path.read_text() for path in self.folder.glob("runs/*/lock")]
                return f"{process.pid}\n" in locks or process.poll() is not None
            return False

        engines.wait_until(is_driven, 240, "nobody drives the run")

    def wait_for_event(self, kind: Kind, count: int = 1) -> None:
        """Until the journal has it so many times."""

        def there() -> bool:
            with contextlib.suppress(ValueError, FileNotFoundError, InputError):  # the run is being made
                return sum(entry is kind for entry in self.kinds()) >= count
            return False

        engines.wait_until(there, 240, f"no {kind.value} in the journal")

    def running(self) -> list[str]:
        """The jobs' containers that run now."""
        names = []
        for engine in self.engines.values():
            with closing(engine.client()) as api:
                names += [one["Names"][0][1:] for one in api.containers(filters={"label": "sd-orchestrator=job"})]
        return names

    def wait_for_running(self, count: int) -> None:
        engines.wait_until(lambda: len(self.running()) >= count, 240, f"there are no {count} jobs running")

    def outcomes(self) -> dict[str, tuple[object, ...]]:
        """Of the cases of each prompt, by batch size."""
        with closing(Journal.open(self.run.journal)) as journal:
            prompts = {state.job.id: state.job.prompt for state in journal.states()}
        found: dict[str, list[Row]] = {prompt: [] for prompt in prompts.values()}
        for row in self.rows():
            found[prompts[str(row.job)]].append(row)
        return {prompt: tuple(r.status for r in sorted(rows, key=samples)) for prompt, rows in found.items()}

    def kinds(self) -> list[Kind]:
        return [entry.kind for job in self.journal().values() for entry in job]

    def journal(self) -> dict[str, list[Entry]]:
        """What happened to each job."""
        with closing(Journal.open(self.run.journal)) as journal:
            return {p.job.id: list(journal.history(p.job.id)) for p in journal.states()}

    def rows(self) -> list[Row]:
        return read_rows(self.run.results)

    def table(self) -> list[tuple[object, ...]]:
        """What must not depend on what happened: each row's identity and outcome, without times and texts."""
        return sorted((row.host, row.engine, row.n_samples, row.case, row.work, row.status) for row in self.rows())

    def containers(self) -> list[str]:
        """What any run has on the engines now, locks and probes too."""
        names = []
        for engine in self.engines.values():
            with closing(engine.client()) as api:
                names += [one["Names"][0] for one in api.containers(all=True, filters={"label": "sd-orchestrator"})]
        return names

    def volumes(self) -> int:
        count = 0
        for engine in self.engines.values():
            with closing(engine.client()) as api:
                count += len(api.volumes()["Volumes"] or ())
        return count

    def ran_twice(self, starts: Mapping[str, int]) -> list[str]:
        """Attempts that began twice, and jobs that began again though no attempt before was lost."""
        wrong = [name for name, count in starts.items() if count > 1]
        with closing(Journal.open(self.run.journal)) as journal:
            for state in journal.states():
                faults = {e.attempt for e in journal.history(state.job.id) if e.kind in (Kind.FAULT, Kind.LOST)}
                attempts = [state.key._replace(number=number) for number in range(1, state.attempt + 1)]
                began = [attempt for attempt in attempts if starts.get(attempt.name)]
                wrong += [f"{attempt.name} and again" for attempt in began[:-1] if attempt.number not in faults]
        return wrong


def samples(row: Row) -> int:
    return row.n_samples or 0


@contextlib.contextmanager
def witnessed(engines_: Sequence[Engine]) -> Iterator[Counter[str]]:
    """The starts of all containers on these engines while it is open, by name; complete once it is closed."""
    starts: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        witnesses = [stack.enter_context(Witness(engine)) for engine in engines_]
        yield starts
    for witness in witnesses:
        starts.update(witness.starts)
