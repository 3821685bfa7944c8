"""A run of the fake runner's jobs on real hosts, driven as `submit` drives one; rows come home as its hosts say."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import engines
from builders import a_job
from engines import Engine

from orchestrator.config import ContainerHost
from orchestrator.executors.contract import Attempt
from orchestrator.hosts import access
from orchestrator.runs import folder as runs
from orchestrator.runs.folder import Run
from orchestrator.runs.job_state import Kind
from orchestrator.runs.journal import Journal
from orchestrator.scheduling.all_hosts import drive_all
from orchestrator.scheduling.host_loop import HostLoop
from orchestrator.store.result_store import S3ResultStore
from runner.schema import Job, Row, Status


@dataclass
class Bench:
    """`drive` is one orchestrator's life, to the run's end or a stop; the next one knows what the journal says."""

    hosts: Sequence[ContainerHost]
    run: Run
    jobs: Sequence[Job]
    journal: Journal = field(init=False)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = Journal.create(self.run.journal, self.run.name, self.jobs, {"retries": 2, "lost_after_s": 60})
        self.result_stores = {host.name: S3ResultStore.open(s3) for host in self.hosts if (s3 := access.store_of(host))}
        for result_store in self.result_stores.values():
            result_store.announce(self.run.name, [job for job in self.jobs if job.host in self.result_stores])

    @property
    def result_store(self) -> S3ResultStore:
        return next(iter(self.result_stores.values()))

    def drive(self, until: threading.Event | None = None) -> list[Row]:
        with ExitStack() as open_now, ThreadPoolExecutor(4 * len(self.hosts)) as pool:
            executors = [open_now.enter_context(access.executor(host)) for host in self.hosts]
            loops = [
                HostLoop(
                    each,
                    each.slots(),
                    self.journal,
                    self.run,
                    pool,
                    result_store=self.result_stores.get(each.host.name),
                    tell=lambda update: self.told.append(update.message),
                )
                for each in executors
            ]
            drive_all(loops, until or threading.Event())
        self.run.merge()
        return self.run.all_rows()

    def attempt(self, number: int = 1) -> Attempt:
        return Attempt(self.run.name, self.jobs[0].id, number)

    def delivered(self) -> bool:
        return self.result_store.take(self.attempt()) is not None

    def faults(self) -> list[str]:
        return [
            e.reason for job in self.jobs for e in self.journal.history(job.id) if e.kind in (Kind.FAULT, Kind.LOST)
        ]

    def is_whole(self) -> bool:
        """Whether the run has one good row for each case."""
        found = [(row.host, row.case, row.status) for row in self.run.all_rows()]
        return sorted(found) == sorted((job.host, case.id, Status.OK) for job in self.jobs for case in job.cases)

    def sweep(self) -> None:
        self.journal.close()
        for host in self.hosts:
            with access.executor(host) as executor:
                for attempt in list(executor.observe()):
                    if attempt.run == self.run.name:
                        executor.remove(attempt)


def bench(folder: Path, hosts: Sequence[ContainerHost], prompts: Sequence[str]) -> Bench:
    """Each host gets a job of two cases for each prompt: what the fake runner then does."""
    run = runs.create(folder / "runs", f"live{time.time_ns()}", datetime.now(timezone.utc))
    return Bench(hosts, run, [replace(job, host=host.name) for host in hosts for job in jobs_of(run, host, prompts)])


def jobs_of(run: Run, host: ContainerHost, prompts: Sequence[str]) -> list[Job]:
    return [
        a_job(prompt, (1, 2), run=run.name, id=f"{host.name}{number}", host=host.name, case=f"{host.name}{number}-",
              image=engines.CONTRACT_IMAGE)
        for number, prompt in enumerate(prompts)
    ]  # fmt: skip


def gateway(engine: Engine) -> str:
    """The address at which this engine's containers reach this machine."""
    with closing(engine.client()) as api:
        (bridge,) = api.inspect_network("bridge")["IPAM"]["Config"]
    return str(bridge["Gateway"])
