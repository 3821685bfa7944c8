"""What runs left on their hosts and in their stores: found by label, and removed if nothing is lost by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar

from orchestrator import config
from orchestrator.concurrency import map_concurrently
from orchestrator.config import Host
from orchestrator.errors import HostUnfit, HostUnreachable, InputError
from orchestrator.executors.contract import Attempt, Executor, Observation, State
from orchestrator.hosts import access
from orchestrator.runs import folder as runs
from orchestrator.runs.folder import Run
from orchestrator.runs.job_state import JobState
from orchestrator.runs.journal import Journal

T = TypeVar("T")


class Fate(str, Enum):
    """What happens to one attempt, and why."""

    REMOVED = "removed"
    RUNS = "running; fix: cancel its run, or add --running to stop it and lose its rows"
    NOT_HOME = "ended, rows not collected; fix: resume its run, or cancel it"


@dataclass(frozen=True)
class Leftover:
    host: str
    attempt: Attempt
    observation: Observation
    fate: Fate = Fate.REMOVED


@dataclass(frozen=True)
class Survey:
    """left: what each host lists. failed: why a host could not be listed or cleaned, by host."""

    left: tuple[Leftover, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether nothing stays after the removal."""
        return not self.failed and all(one.fate is Fate.REMOVED for one in self.left)


def fate(attempt: Attempt, seen: Observation, job: JobState | None, *, running: bool) -> Fate:
    """job: the attempt's, if its run's journal is here. running: also end what runs."""
    if seen.state in (State.QUEUED, State.RUNNING):
        return Fate.REMOVED if running else Fate.RUNS
    awaited = job is not None and not job.is_settled and job.key == attempt
    return Fate.NOT_HOME if awaited and seen.state in (State.ENDING, State.EXITED) else Fate.REMOVED


def survey(hosts: Sequence[Host]) -> Survey:
    """All that any run has on these hosts, and its fate if it were cleaned without its folder."""
    with _executors(hosts) as executors:
        return _look(executors, lambda attempt, seen: fate(attempt, seen, None, running=False))


def locate(root: Path, name: str) -> Run | None:
    """A run's folder by its name or a part of it; None if it is gone. Raises InputError as `find` does."""
    if not Path(name).is_dir() and not any(name in run.name for run in runs.all_runs(root)):
        return None
    found = runs.find(root, name)
    return found if found.hosts.exists() else runs.find(root, name, driven=True)


def hosts_of(run: Run) -> tuple[Host, ...]:
    """The hosts of a run's jobs, by its own inventory; all hosts of it if the journal is gone."""
    if not run.journal.exists():
        return tuple(config.load_hosts(run.hosts).values())
    with closing(Journal.open(run.journal)) as journal:
        names = sorted({state.job.host for state in journal.states()})
    return config.select(config.load_hosts(run.hosts), names) if names else ()


def clean(
    name: str, run: Run | None, hosts: Sequence[Host], *, running: bool, tell: Callable[[Survey], bool]
) -> Survey:
    """Removes what a run left on these hosts. Returns what was there, and what could not be removed.

    name: the run's whole name. run: its folder, if there is one; raises InputError while another process drives it.
    tell: called with what will be removed, before it is; returns False to remove nothing.
    """
    with _journalled(run) as jobs, _executors(hosts) as executors:
        found = _look(
            executors,
            lambda attempt, seen: (
                fate(attempt, seen, jobs.get(attempt.job), running=running) if attempt.run == name else None
            ),
        )
        if not tell(found):
            return found

        def sweep(host: str) -> None:
            # by its own listing and the journal: another host's listing may be wrong about it
            its = [one for one in found.left if one.host == host]
            kept = {one.attempt for one in its if one.fate is not Fate.REMOVED}
            seen = {one.attempt for one in its}
            # also what no listing shows: a partial folder, a lock, an upload
            begun = {
                job.key._replace(number=number)
                for job in jobs.values()
                if job.job.host == host
                for number in range(1, job.attempt + 1)
            }
            for attempt in sorted((seen | begun) - kept):
                executors[host].remove(attempt)

        _, failed = _ask([host for host in executors if host not in found.failed], sweep)
        return Survey(found.left, {**found.failed, **failed})


def remove_stored(name: str, run: Run | None, hosts: Sequence[Host]) -> Mapping[str, int]:
    """Deletes a run's objects in the stores of these hosts. Returns how many, by store.

    name: the run's whole name. run: its folder, if there is one. Raises InputError while jobs of it are open: their
    rows may be in the store alone.
    """
    stores = {s3 for host in hosts if (s3 := access.store_of(host)) is not None}
    if not stores:
        raise InputError(f"run {name}: none of its hosts uses an object store")
    from orchestrator.store.result_store import S3ResultStore  # boto3 is slow to import

    with _journalled(run) as jobs:
        if waiting := [job.job.id for job in jobs.values() if not job.is_settled]:
            raise InputError(
                f"run {name}: {len(waiting)} of its jobs are open, and their rows may be in the store alone; "
                f"fix: orchestrator resume {name}, or cancel it"
            )
        result_stores = [S3ResultStore.known(s3) for s3 in stores]
        return {result_store.bucket.name: result_store.remove(name) for result_store in result_stores}


@contextmanager
def _journalled(run: Run | None) -> Iterator[Mapping[str, JobState]]:
    """A run's jobs by id, with the run's lock held; empty if its journal is gone."""
    if run is None or not run.journal.exists():
        yield {}
        return
    with run.lock(), closing(Journal.open(run.journal)) as journal:
        yield {state.job.id: state for state in journal.states()}


@contextmanager
def _executors(hosts: Sequence[Host]) -> Iterator[Mapping[str, Executor]]:
    with ExitStack() as open_now:
        yield {host.name: open_now.enter_context(access.executor(host)) for host in hosts}


def _look(executors: Mapping[str, Executor], judge: Callable[[Attempt, Observation], Fate | None]) -> Survey:
    """What is on the hosts, with its fate; without a fate it is left out. Two names of one engine list it twice."""
    listings, failed = _ask(list(executors), lambda host: executors[host].observe())
    left = [
        Leftover(host, attempt, observation, its_fate)
        for host, seen in listings.items()
        for attempt, observation in seen.items()
        if (its_fate := judge(attempt, observation)) is not None
    ]
    return Survey(tuple(sorted(left, key=lambda one: (one.attempt, one.host))), failed)


def _ask(hosts: Sequence[str], question: Callable[[str], T]) -> tuple[dict[str, T], dict[str, str]]:
    """The answers of the hosts, asked in parallel, and why the others do not answer."""
    answers, failed = map_concurrently(hosts, question, (HostUnreachable, HostUnfit, InputError))
    return answers, {host: str(error) for host, error in failed.items()}
