"""Jobs as containers of one Docker engine. It remembers nothing of jobs: labels on the containers say all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound, NotFound

from orchestrator.errors import BadResult, HostUnfit, StartError
from orchestrator.executors import Attempt, Observation, Slot, State, Task
from orchestrator.executors import probe as probing
from orchestrator.executors.archive import PathStat, check_stat, pack, read_member
from orchestrator.executors.connection import Connection, checked, connect
from orchestrator.executors.container import (
    FOLDER,
    LABEL,
    SCRATCH,
    TOKEN_FILE,
    attempt_of,
    container_spec,
    observation,
)
from orchestrator.executors.events import Changes
from orchestrator.executors.gpu import CPU_SLOT, NO_GPU, Access, candidates, chosen, parse_probe, slots_of, trusted
from orchestrator.executors.logs import lines
from orchestrator.executors.secret import hand_over
from orchestrator.model import DockerHost

CHUNK_BYTES = 2**18
PROBE_COMMAND = ("python", "-m", "runner", "probe")


class DockerExecutor:
    """The Executor of a `docker` host.

    probe_image: an image of ours on that host, to count its GPUs with; without one only CDI and device nodes tell.
    connection: one to share; closed by `close` all the same.
    """

    def __init__(self, host: DockerHost, *, probe_image: str = "", connection: Connection | None = None) -> None:
        self.host = host
        self.probe_image = probe_image
        self.connection = connection or connect(host)
        self._changes = Changes(self.connection)
        # what became of containers that have exited: by the engine's id, each is asked for once
        self._ended: dict[str, Observation] = {}

    def slots(self) -> tuple[Slot, ...]:
        if self.host.gpus == "none":
            self._info  # noqa: B018  # the contract says that this connects
            return (CPU_SLOT,)
        return self._gpus[1]

    def stage(self, task: Task) -> None:
        access = self._gpus[0] if task.slot.gpus else NO_GPU
        spec = container_spec(task, self.host, access, init=self._has_init)
        files = pack({"job.json": task.job.to_json().encode()}, folders=[SCRATCH.removeprefix(f"{FOLDER}/")])
        name = task.attempt.name
        with self.connection.api() as api:
            try:
                api.create_container_from_config(spec, name)  # type: ignore[no-untyped-call]
            except APIError as error:
                if error.status_code != 409:
                    raise self._not_created(task, error) from error
                if not self._awaits_files(api, task.attempt):
                    return
            try:
                api.put_archive(name, FOLDER, files)
            except NotFound as error:
                raise StartError(f"host {self.host.name}: container {name} vanished while it was staged") from error

    def start(self, attempt: Attempt, token: str | None = None) -> None:
        with self.connection.api() as api:
            container = self._inspect(api, attempt)
            if container is None:
                raise StartError(
                    f"host {self.host.name}: there is no container {attempt.name} to start; stage it again"
                )
            try:
                # `start` would run an exited container a second time
                if container["State"]["Status"] == "created":
                    api.start(attempt.name)
                elif container["State"]["Status"] != "running":
                    return
                if f"RUNNER_TOKEN_FILE={TOKEN_FILE}" in container["Config"]["Env"]:
                    hand_over(api, attempt.name, token or "", TOKEN_FILE)
            except APIError as error:
                # it stays behind as `created` with exit code 128, and would be taken for staged
                self._remove(api, attempt)
                raise StartError(f"host {self.host.name}: {attempt.name} did not start: {_said(error)}") from error

    def observe(self) -> Mapping[Attempt, Observation]:
        seen: dict[Attempt, Observation] = {}
        ended: dict[str, Observation] = {}
        with self.connection.api() as api:
            for listed in api.containers(all=True, filters={"label": [f"{LABEL}=job"]}):
                attempt = attempt_of(listed["Labels"])
                if attempt is None:
                    continue
                found = observation(listed["State"], listed["Labels"].get(f"{LABEL}.slot", ""))
                if found.state is State.EXITED:
                    known = self._ended.get(listed["Id"]) or self._how_it_ended(api, listed["Id"], found.slot)
                    if known is None:
                        continue
                    found = ended[listed["Id"]] = known
                seen[attempt] = found
        self._ended = ended
        return seen

    def wait(self, timeout_s: float) -> None:
        self._changes.wait(timeout_s)

    def fetch(self, attempt: Attempt, file: str) -> bytes | None:
        with self.connection.api() as api:
            url = f"{api.base_url}/v{api.api_version}/containers/{attempt.name}/archive"
            with api.get(url, params={"path": f"{FOLDER}/{file}"}, stream=True, timeout=api.timeout) as response:
                if response.status_code == 404:
                    return None
                stat = PathStat.from_header(checked(response).headers.get("X-Docker-Container-Path-Stat", ""))
                try:
                    check_stat(stat)
                    return read_member(response.iter_content(CHUNK_BYTES), stat)
                except BadResult as error:
                    raise BadResult(f"host {self.host.name}, {attempt.name}: {error}") from error

    def log(self, attempt: Attempt, *, follow: bool = False) -> Iterator[str]:
        return lines(self.connection, attempt.name, follow=follow)

    def stop(self, attempt: Attempt, grace_s: float) -> None:
        with self.connection.api() as api:
            try:
                # the engine answers when the container has ended, so the call may last as long as the grace
                api.stop(attempt.name, timeout=math.ceil(grace_s))
            except NotFound:
                return

    def remove(self, attempt: Attempt) -> None:
        with self.connection.api() as api:
            self._remove(api, attempt)

    def close(self) -> None:
        self._changes.close()
        self.connection.close()

    @cached_property
    def _info(self) -> dict[str, Any]:
        with self.connection.api() as api:
            return dict(api.info())

    @property
    def _has_init(self) -> bool:
        # https://github.com/moby/moby/blob/v20.10.24/daemon/info_unix.go: «N/A» where docker-init does not run
        return bool(self._info.get("InitBinary")) and (self._info.get("InitCommit") or {}).get("ID") != "N/A"

    @cached_property
    def _gpus(self) -> tuple[Access, tuple[Slot, ...]]:
        """The way to this host's GPUs, and the slots they make. Raises HostUnfit with what is missing."""
        with self.connection.api() as api:
            seen = probing.evidence(api, self._info)
            ways = candidates(self.host, seen)
            if not self.probe_image or not probing.has_image(api, self.probe_image):
                gpus = trusted(self.host, seen, ways[0])
                if gpus is None:
                    raise HostUnfit(
                        f"host {self.host.name}: its GPUs are counted by a container of our image, which is not "
                        f"there yet; orchestrator build --hosts {self.host.name}"
                    )
                return ways[0], slots_of(self.host, chosen(self.host, gpus))
            return self._probed(api, ways)

    def _probed(self, api: docker.APIClient, ways: tuple[Access, ...]) -> tuple[Access, tuple[Slot, ...]]:
        refusals = []
        for access in ways:
            try:
                found = parse_probe(probing.run(api, self.probe_image, PROBE_COMMAND, access, ("all",)))
            except (APIError, ValueError) as error:
                refusals.append(f"{access.kind}: {error}")
                continue
            if found:
                return access, slots_of(self.host, chosen(self.host, found))
        raise HostUnfit("; ".join(refusals))

    def _inspect(self, api: docker.APIClient, attempt: Attempt) -> dict[str, Any] | None:
        """The container of an attempt; None where there is none. Raises StartError where its name is another's."""
        try:
            container = dict(api.inspect_container(attempt.name))
        except NotFound:
            return None
        if attempt_of(container["Config"]["Labels"] or {}) != attempt:
            raise StartError(f"host {self.host.name}: a container {attempt.name} is there that is not ours; remove it")
        return container

    def _awaits_files(self, api: docker.APIClient, attempt: Attempt) -> bool:
        """Whether a container that exists already is ours, and may be one that a crash left without its job."""
        container = self._inspect(api, attempt)
        return container is None or container["State"]["Status"] == "created"

    def _how_it_ended(self, api: docker.APIClient, container: str, slot: str) -> Observation | None:
        try:
            state = api.inspect_container(container)["State"]
        except NotFound:  # removed since it was listed
            return None
        return observation(state["Status"], slot, state)

    def _remove(self, api: docker.APIClient, attempt: Attempt) -> None:
        try:
            api.remove_container(attempt.name, v=True, force=True)
        except APIError as error:
            # 409: another call is removing it just now
            if error.status_code not in (404, 409):
                raise

    def _not_created(self, task: Task, error: APIError) -> StartError | HostUnfit:
        said = _said(error)
        where = f"host {self.host.name}"
        if isinstance(error, ImageNotFound) or "No such image" in said:
            return StartError(f"{where}: has no image {task.image}; orchestrator build --hosts {self.host.name}")
        if self.host.weights and "bind source path does not exist" in said and self.host.weights in said:
            return HostUnfit(
                f"{where}: there is no weights folder {self.host.weights} on it; make it, or mend `weights`"
            )
        return StartError(f"{where}: {task.attempt.name} was not created: {said}")


def _said(error: APIError) -> str:
    return str(error.explanation or error)
