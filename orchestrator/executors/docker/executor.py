"""Runs jobs as containers of one Docker engine. It stores no job state: the containers' labels hold it."""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, ImageNotFound, NotFound
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from orchestrator.config import DockerHost
from orchestrator.errors import BadResult, HostUnfit, HostUnreachable, StartError, TaskUnfit
from orchestrator.executors.bounded_http import chunks
from orchestrator.executors.container_paths import FOLDER, GRANT_FILE, RUNNER_UID, TOKEN_FILE, below
from orchestrator.executors.contract import LABEL, Attempt, Observation, Slot, State, Task
from orchestrator.executors.docker import probe as probing
from orchestrator.executors.docker.archive import PathStat, check_stat, pack, read_member
from orchestrator.executors.docker.connection import Connection, checked, connect
from orchestrator.executors.docker.container import (
    SCRATCH,
    attempt_of,
    container_spec,
    is_up_since_before,
    observation,
    up_s,
)
from orchestrator.executors.docker.events import Changes, engine_time
from orchestrator.executors.docker.gpu_access import NO_GPU, Access
from orchestrator.executors.docker.logged_files import LoggedFiles, for_people
from orchestrator.executors.docker.logs import last_lines, lines
from orchestrator.executors.docker.network import network_of
from orchestrator.executors.docker.secret import hand_over
from orchestrator.executors.docker.slot import held, let_go, prepare
from orchestrator.executors.docker.starts import Starts
from orchestrator.executors.environment import HUB
from orchestrator.executors.gpus import CPU_SLOT
from orchestrator.executors.network import at_start
from runner.wire.result_bundle import Receipt

# The engine answers 500 with these words for a link that a container made; a retry would give the same answer.
LINK_FAULTS = ("evalSymlinksInScope", "too many l", "not a directory", "file name too long")
FETCH_TIMEOUT_S = 300.0  # 16 MiB over a slow link
# The runner's receipt is its last line; a process that dies later may still print one more.
RECEIPT_WITHIN_LINES = 20


class _BeingMade(StartError):
    """The name is taken, but its container does not exist yet."""


class DockerExecutor:
    """The Executor of a `docker` host.

    probe_image: an image of ours on that host, which counts its GPUs; without it only CDI and device nodes do.
    connection: a shared one; `close` closes it too.
    """

    def __init__(self, host: DockerHost, *, probe_image: str = "", connection: Connection | None = None) -> None:
        self.host = host
        self.probe_image = probe_image
        self.connection = connection or connect(host)
        self._changes = Changes(self.connection)
        self._asking = threading.Lock()
        self._info: Mapping[str, Any] | None = None
        self._gpus: tuple[Access, tuple[Slot, ...]] | None = None
        # results of containers that have exited, by the engine's id: each is inspected once
        self._ended: dict[str, Observation] = {}
        self._starts = Starts()
        self._logged = LoggedFiles()

    def slots(self) -> tuple[Slot, ...]:
        if self.host.gpus == "none":
            self.info()
            return (CPU_SLOT,)
        return self.gpus()[1]

    def stage(self, task: Task) -> None:
        access = self.gpus()[0] if task.slot.gpus else NO_GPU
        variables = at_start(lambda: network_of(self.host, os.environ, Path.home()))
        spec = container_spec(task, self.host, access, init=self.has_init(), network=variables)
        files = pack({"job.json": task.job.to_json().encode()}, folders=[SCRATCH.removeprefix(f"{FOLDER}/")])
        name = task.attempt.name
        with self.connection.api() as api:
            try:
                if self._create(api, task, spec):
                    self._fill(api, task.attempt, files)
                    prepare(api, task.attempt, task.slot.devices)
            except NotFound as error:
                raise StartError(f"host {self.host.name}: container {name} vanished while it was staged") from error

    @contextmanager
    def hold(self, attempt: Attempt, slot: Slot) -> Iterator[None]:
        with self.connection.api() as api, held(api, attempt, slot.devices):
            yield

    def start(self, attempt: Attempt, token: str | None = None, upload_grant: str | None = None) -> None:
        with self.connection.api() as api:
            container = self._inspect(api, attempt)
            if container is None:
                raise StartError(
                    f"host {self.host.name}: there is no container {attempt.name} to start; stage it again"
                )
            try:
                # `start` would run an exited container again
                if container["State"]["Status"] == "created":
                    api.start(attempt.name)
                elif container["State"]["Status"] != "running":
                    return
                for variable, secret, file in (
                    ("RUNNER_TOKEN_FILE", token, TOKEN_FILE),
                    ("RUNNER_TICKET_FILE", upload_grant, GRANT_FILE),
                ):
                    if f"{variable}={file}" in container["Config"]["Env"]:
                        hand_over(api, attempt.name, secret or "", file)
            except (APIError, StartError) as error:
                # it would stay as `created` with exit code 128 and look staged
                self._remove(api, attempt)
                raise StartError(f"host {self.host.name}: {attempt.name} did not start: {_said(error)}") from error
            self._starts.note(api, attempt)

    def observe(self) -> Mapping[Attempt, Observation]:
        seen: dict[Attempt, Observation] = {}
        ended: dict[str, Observation] = {}
        with self.connection.api() as api:
            ending = self._changes.ending
            listing, now = _listing(api)
            for listed in listing:
                attempt = attempt_of(listed["Labels"])
                if attempt is None:
                    continue
                if listed["Labels"][LABEL] == "slot":
                    # a dead orchestrator's lock, the only trace of its attempt
                    seen.setdefault(attempt, Observation(State.LOST, "", reason="only its slot's lock is left of it"))
                    continue
                found = observation(listed["State"], listed["Labels"])
                died = ending.get(listed["Id"])
                # unproved, it may be one that somebody started again after that end
                if found.state is State.RUNNING and died:
                    is_older = is_up_since_before(died, listed.get("Status"), now)
                    if is_older or self._starts.has_ended(attempt, died, listed):
                        found = replace(found, state=State.ENDING)
                if found.state is State.RUNNING:
                    found = replace(found, for_s=up_s(listed.get("Status")))
                if found.state is State.EXITED:
                    known = self._ended.get(listed["Id"]) or self._how_it_ended(api, listed["Id"], listed["Labels"])
                    if known is None:
                        continue
                    found = ended[listed["Id"]] = known
                seen[attempt] = found
        self._ended = ended
        return seen

    def wait(self, timeout_s: float) -> None:
        self._changes.wait(timeout_s)

    def fetch(self, attempt: Attempt, file: str, instance: str = "") -> bytes | None:
        if (logged := self._logged.of(attempt)) is not None:
            return logged.get(file)
        with self.connection.api() as api:
            url = f"{api.base_url}/v{api.api_version}/containers/{attempt.name}/archive"
            with api.get(url, params={"path": f"{FOLDER}/{file}"}, stream=True, timeout=api.timeout) as response:
                if response.status_code == 404:
                    return None
                try:
                    return _content(response)
                except BadResult as error:
                    raise BadResult(f"host {self.host.name}, {attempt.name}: {error}") from error

    def receipt(self, attempt: Attempt, instance: str = "") -> Receipt | None:
        said = last_lines(self.connection, attempt.name, RECEIPT_WITHIN_LINES)
        found = map(Receipt.from_line, reversed(said))
        return next((receipt for receipt in found if receipt is not None), None)

    def log(self, attempt: Attempt, *, follow: bool = False, instance: str = "") -> Iterator[str]:
        found = lines(self.connection, attempt.name, follow=follow)
        return for_people(found) if follow else self._logged.taken_from(attempt, found)

    def stop(self, attempt: Attempt, grace_s: float) -> None:
        with self.connection.api() as api:
            try:
                # the engine answers once the container has ended, so the call may last as long as the grace
                api.stop(attempt.name, timeout=math.ceil(grace_s))
            except NotFound:
                return

    def remove(self, attempt: Attempt) -> None:
        self._logged.forget(attempt)
        self._starts.forget(attempt)
        with self.connection.api() as api:
            self._remove(api, attempt)

    def close(self) -> None:
        self._changes.close()
        self.connection.close()

    def info(self) -> Mapping[str, Any]:
        """Returns the engine's info, fetched once."""
        # a lock per executor: before Python 3.12 `cached_property` shares one between all hosts
        with self._asking:
            if self._info is None:
                with self.connection.api() as api:
                    self._info = api.info()
            return self._info

    def has_init(self) -> bool:
        """Whether the engine has a docker-init. Without it, a container that asks for it does not start."""
        # https://github.com/moby/moby/blob/v20.10.24/daemon/info_unix.go: «N/A» if it does not run
        return bool((self.info().get("InitCommit") or {}).get("ID", "N/A") != "N/A")

    def gpus(self) -> tuple[Access, tuple[Slot, ...]]:
        """Returns how containers access this host's GPUs, and its slots. Raises HostUnfit with what is missing."""
        info = self.info()
        with self._asking:
            if self._gpus is None:
                with self.connection.api() as api:
                    self._gpus = probing.find_gpus(api, self.host, info, self.probe_image)
            return self._gpus

    def _inspect(self, api: docker.APIClient, attempt: Attempt) -> dict[str, Any] | None:
        """Inspects an attempt's container; None if there is none. Raises StartError if a foreign one has its name."""
        try:
            container = dict(api.inspect_container(attempt.name))
        except NotFound:
            return None
        if attempt_of(container["Config"]["Labels"] or {}) != attempt:
            raise StartError(f"host {self.host.name}: a container {attempt.name} is there that is not ours; remove it")
        return container

    # of concurrent creates one wins; the others get 409 up to 50 ms before its container can be inspected
    @retry(retry=retry_if_exception_type(_BeingMade), stop=stop_after_delay(30), wait=wait_fixed(0.05), reraise=True)
    def _create(self, api: docker.APIClient, task: Task, spec: dict[str, Any]) -> bool:
        """Creates the container or finds it; returns whether it still needs its files, as after a crash."""
        try:
            api.create_container_from_config(spec, task.attempt.name)  # type: ignore[no-untyped-call]
        except APIError as error:
            if error.status_code != 409:
                raise self._not_created(task, error) from error
            container = self._inspect(api, task.attempt)
            if container is None:
                raise _BeingMade(f"host {self.host.name}: {task.attempt.name} is being made by another") from error
            return container["State"]["Status"] == "created" and not self._has_job(task)
        return True

    def _has_job(self, task: Task) -> bool:
        """Whether the container has its files. To write them again would take them away from a runner that starts."""
        with suppress(BadResult, HostUnreachable, HostUnfit):  # one that cannot be read is tried to be filled
            return self.fetch(task.attempt, "job.json") == task.job.to_json().encode()
        return False

    def _fill(self, api: docker.APIClient, attempt: Attempt, files: bytes) -> None:
        """Copies a job's files in. A container that does not take them is removed: the next try makes it again.

        An engine that is killed while it makes a container can keep one without its volume, which takes none for good.
        """
        try:
            api.put_archive(attempt.name, FOLDER, files)
        except APIError as error:
            if error.status_code != 404:
                self._remove(api, attempt)
            raise

    def _how_it_ended(self, api: docker.APIClient, container: str, labelled: Mapping[str, str]) -> Observation | None:
        try:
            state = api.inspect_container(container)["State"]
        except NotFound:  # removed since the listing
            return None
        return observation(state["Status"], labelled, state)

    def _remove(self, api: docker.APIClient, attempt: Attempt) -> None:
        let_go(api, attempt)
        try:
            api.remove_container(attempt.name, v=True, force=True)
        except APIError as error:
            # 409: another call is removing it
            if error.status_code not in (404, 409):
                raise

    def _not_created(self, task: Task, error: APIError) -> StartError | HostUnfit:
        said = _said(error)
        where = f"host {self.host.name}"
        if isinstance(error, ImageNotFound) or "No such image" in said:
            return TaskUnfit(f"{where}: has no image {task.image}; orchestrator build --hosts {self.host.name}")
        if missing := re.search(r"bind source path does not exist: (\S.*)", said):
            return HostUnfit(f"{where}: {_not_there(missing[1].strip(), self.host, task.job.model)}")
        # 4xx: a fault of the request, not of the engine's current state
        kind = TaskUnfit if error.is_client_error() and error.status_code != 409 else StartError
        return kind(f"{where}: {task.attempt.name} was not created: {said}")


def _listing(api: docker.APIClient) -> tuple[list[dict[str, Any]], float]:
    """Returns the containers of all orchestrators, and a time by the engine's clock at or after this listing.

    An engine that removed a container while somebody renamed it lists it without a name until the engine is restarted.
    """
    url = f"{api.base_url}/v{api.api_version}/containers/json"
    asked = {"all": "1", "filters": json.dumps({"label": [LABEL]})}
    response = checked(api.get(url, params=asked, timeout=api.timeout))
    told = engine_time(response)
    named = [listed for listed in response.json() if listed["Names"]]
    return named, math.inf if told is None else told + 1


def _not_there(folder: str, host: DockerHost, model: str) -> str:
    """Returns the remedy for a folder that a job mounts and its host lacks."""
    if host.weights and folder == below(host.weights, HUB):
        return (
            f"the weights folder {host.weights} is not there, or has no folder {HUB} in it; "
            f"fix: make `weights` the folder that HF_HOME names on that host (a download makes {HUB}/ in it)"
        )
    if folder == host.cache:
        return f"there is no folder {folder}, which `cache` names; fix, there: install -d -o {RUNNER_UID} {folder}"
    return f"there is no folder {folder} for the model {model}; fix: copy the model to that host, or correct `model`"


def _content(response: requests.Response) -> bytes:
    """Returns the one file of an archive that the engine sends. Raises BadResult."""
    try:
        header = checked(response).headers.get("X-Docker-Container-Path-Stat", "")
    except APIError as error:
        if any(word in _said(error) for word in LINK_FAULTS):
            raise BadResult(f"it is not a regular file but a link that leads nowhere: {_said(error)}") from error
        raise
    stat = PathStat.from_header(header)
    check_stat(stat)
    return read_member(chunks(response.raw, FETCH_TIMEOUT_S), stat)


def _said(error: Exception) -> str:
    return str((error.explanation if isinstance(error, APIError) else None) or error)
