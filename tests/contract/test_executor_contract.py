"""What every executor promises (orchestrator/executors), asked of each: in memory, as processes, in containers, in
a real cluster.

Jobs run the fake runner, whose deeds stand in the prompt (tests/support/fake_runner).
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from builders import a_job, a_task
from clusters import LabCluster
from engines import CONTRACT_IMAGE, Engine, let_go
from fake_executor import Behaviour, FakeExecutor, FakeHost, sha256
from fake_runner.__main__ import environment_with_picture
from program import FAKE_RUNNER

from orchestrator.config import DockerHost, KubernetesHost, ProcessHost
from orchestrator.errors import BadResult, StartError
from orchestrator.executors.contract import Attempt, Executor, Observation, Slot, State, Task
from orchestrator.executors.kubernetes.manifest import STOP_GRACE_S, object_name
from orchestrator.executors.process.executor import ProcessExecutor
from orchestrator.results.preview import taken_out
from runner.schema import parse_rows

PATIENCE_S = 240.0
SLACK_S = 8.0  # an engine that takes no notice of the grace that it is given takes its own, of 10 s


@dataclass
class Place:
    """A host under test. `restart` gives the executor of an orchestrator that knows nothing of the last one.

    let_go: ends the deed `wait` of what runs. forgets_exit_codes: of what was stopped, as old kubelets do now and then.
    """

    restart: Callable[[], Executor]
    image: str = ""
    clock: Callable[[], float] = time.monotonic
    slot: Slot = Slot("cpu")
    slack_s: float = SLACK_S
    let_go: Callable[[Attempt], object] = lambda attempt: None
    forgets_exit_codes: bool = False
    run: str = field(default_factory=lambda: f"contract-{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        self.executor = self.restart()

    def task(self, deeds: str, job: str = "job", number: int = 1, run: str = "", model: str = "synthetic:tiny") -> Task:
        asked = a_job(deeds, (1, 2), run=run or self.run, id=job, model=model)
        return a_task(asked, number=number, slot=self.slot, image=self.image)

    def started(self, deeds: str, **which: str) -> Attempt:
        task = self.task(deeds, **which)  # type: ignore[arg-type]
        self.executor.stage(task)
        self.executor.start(task.attempt)
        return task.attempt

    def until(self, state: State, attempt: Attempt) -> Observation:
        deadline = time.monotonic() + PATIENCE_S
        while (seen := self.executor.observe()[attempt]).state is not state:
            assert time.monotonic() < deadline, f"{attempt.name} is {seen}, not {state}"
            self.executor.wait(1.0)
        return seen

    def exited(self, deeds: str) -> tuple[Attempt, Observation]:
        attempt = self.started(deeds)
        return attempt, self.until(State.EXITED, attempt)

    def sweep(self) -> None:
        for attempt in self.executor.observe():
            if attempt.run.startswith(self.run):
                self.executor.remove(attempt)
        self.executor.close()


@pytest.fixture(
    params=[
        "fake",
        "process",
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("kubernetes", marks=pytest.mark.kubernetes),
    ]
)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    made: Place = request.getfixturevalue(f"{request.param}_place")
    yield made
    made.sweep()


@pytest.fixture
def fake_place() -> Place:
    world = FakeHost()
    world.behave_by(lambda task: behaviour(task.job.prompt))
    return Place(lambda: FakeExecutor(world), clock=world.clock)


@pytest.fixture
def process_place(tmp_path: Path) -> Place:
    state = tmp_path / "processes"
    return Place(
        lambda: ProcessExecutor(ProcessHost(name="here"), state, FAKE_RUNNER),
        let_go=lambda attempt: (state / attempt.name / "go").touch(),
    )


@pytest.fixture
def docker_place(docker_host: Engine, contract_image: str) -> Place:
    from orchestrator.executors.docker.executor import DockerExecutor

    host = DockerHost(name="engine", url=docker_host.url, gpus="none")
    return Place(
        lambda: DockerExecutor(host),
        image=contract_image,
        let_go=lambda attempt: let_go(docker_host, attempt.name),
    )


@pytest.fixture
def kubernetes_place(kubernetes_cluster: LabCluster) -> Place:
    from orchestrator.executors.kubernetes.executor import KubernetesExecutor

    host = KubernetesHost(name="contract", context=kubernetes_cluster.context, gpus="none")

    def on_its_node(attempt: Attempt) -> None:
        for node in kubernetes_cluster.nodes:
            let_go(kubernetes_cluster.engine(node), f"k8s_runner_{object_name(attempt)}")

    return Place(
        lambda: KubernetesExecutor(host),
        image=CONTRACT_IMAGE,
        slot=Slot("1", exclusive_per_run=True),
        slack_s=STOP_GRACE_S + 10,
        let_go=on_its_node,
        forgets_exit_codes=True,
    )


SAID = ("say", "chat")


def behaviour(deeds: str) -> Behaviour:
    """What the fake runner does, as the fake executor wants it."""
    words = [deed.strip().partition(" ")[::2] for deed in deeds.split(";")]
    does = dict(words)
    refused = {"link", "fifo", "folder", "big"} & does.keys()
    return Behaviour(
        results=BadResult("results.csv is not a regular file") if refused else None,
        runs_s=None if "hang" in does else float(does.get("sleep", 0.1)),
        exit_code=int(does.get("exit", 0)),
        rows=0 if "no" in does else None,
        environment=environment_with_picture("c1").encode() if "picture" in does else None,
        ignores_term="hang" in does,
        log=tuple("x" * int(argument) if word == "chat" else argument for word, argument in words if word in SAID),
    )


@pytest.mark.usefixtures("fake_packages")
def test_a_host_has_a_slot(place: Place) -> None:
    assert place.executor.slots() == (place.slot,)


def test_what_was_never_staged_is_not_observed(place: Place) -> None:
    assert place.task("").attempt not in place.executor.observe()


def test_what_is_staged_waits(place: Place) -> None:
    task = place.task("")
    place.executor.stage(task)
    assert place.executor.observe()[task.attempt] == Observation(State.STAGED, place.slot.name)
    assert place.executor.fetch(task.attempt, "results.csv") is None


def test_an_attempt_goes_from_staged_to_running_to_exited_with_its_rows(place: Place) -> None:
    attempt = place.started("wait; rows")
    running = place.until(State.RUNNING, attempt)
    place.let_go(attempt)
    assert replace(running, instance="") == Observation(State.RUNNING, place.slot.name)
    ended = place.until(State.EXITED, attempt)
    assert ended == Observation(State.EXITED, place.slot.name, exit_code=0, instance=running.instance)
    rows = place.executor.fetch(attempt, "results.csv")
    assert rows is not None
    assert [(row.case, row.n_samples) for row in parse_rows(rows.decode())] == [("c1", 1), ("c2", 2)]


@pytest.mark.parametrize("code", [0, 1, 3, 137])
def test_the_exit_code_is_the_jobs_own_and_its_rows_are_there(place: Place, code: int) -> None:
    attempt, seen = place.exited(f"exit {code}" if code else "rows")  # 0 without the last frame is a log cut short
    assert seen.exit_code == code
    assert place.executor.fetch(attempt, "results.csv")


def test_staged_twice_is_one_attempt_that_runs_its_job(place: Place) -> None:
    for _ in range(2):
        place.executor.stage(place.task("exit 4"))
    attempt = place.task("").attempt
    assert [a for a in place.executor.observe() if a.run == place.run] == [attempt]
    place.executor.start(attempt)
    assert place.until(State.EXITED, attempt).exit_code == 4


def test_many_that_stage_and_start_at_once_run_it_once(place: Place) -> None:
    task, executors = place.task("say ran once; sleep 0.3"), [place.restart() for _ in range(4)]

    def do(number: int) -> None:
        executor = executors[number % len(executors)]
        executor.stage(task)
        executor.start(task.attempt)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(do, range(16)))
    for executor in executors:
        executor.close()
    assert [a for a in place.executor.observe() if a.run == place.run] == [task.attempt]
    place.until(State.EXITED, task.attempt)
    assert list(place.executor.log(task.attempt)).count("ran once") == 1


def test_a_device_is_held_by_one_at_a_time_whatever_slots_it_is_part_of(place: Place) -> None:
    if place.slot.exclusive_per_run:
        pytest.skip("its slots are each run's own: the cluster's scheduler keeps jobs apart")
    holders: list[int] = []
    most: list[int] = []
    slots = [Slot(word, devices=frozenset(f"{place.run}-{name}" for name in word)) for word in ("ab", "b", "bc", "ba")]

    def hold(number: int) -> None:
        executor = place.restart()
        task = place.task("", job=f"job{number}")
        executor.stage(task)
        with contextlib.closing(executor), executor.hold(task.attempt, slots[number]):
            holders.append(number)
            most.append(len(holders))
            time.sleep(0.05)
            holders.remove(number)

    threads = [threading.Thread(target=hold, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]


def test_what_has_exited_is_never_started_again(place: Place) -> None:
    attempt, before = place.exited("say ran once; exit 3")
    place.executor.start(attempt)
    assert place.executor.observe()[attempt] == before
    assert list(place.executor.log(attempt)).count("ran once") == 1


def test_what_runs_is_not_started_or_staged_again(place: Place) -> None:
    attempt = place.started("say ran once; wait")
    before = place.until(State.RUNNING, attempt)
    place.executor.stage(place.task("say ran once; wait"))
    place.executor.start(attempt)
    assert place.executor.observe()[attempt] == before
    place.let_go(attempt)
    assert place.until(State.EXITED, attempt).instance == before.instance
    assert list(place.executor.log(attempt)).count("ran once") == 1


def test_what_is_not_staged_cannot_be_started(place: Place) -> None:
    with pytest.raises(StartError, match="stage it again"):
        place.executor.start(place.task("").attempt)


@pytest.mark.parametrize("token", ["hf_secret", None])
def test_the_token_reaches_the_job(place: Place, token: str | None) -> None:
    task = place.task("token", model="owner/gated")
    place.executor.stage(task)
    place.executor.start(task.attempt, token)
    place.until(State.EXITED, task.attempt)
    seen = place.executor.fetch(task.attempt, "environment.json")
    assert seen is not None
    assert json.loads(seen)["sha256"] == sha256(token)


def test_the_largest_picture_of_a_job_comes_whole(place: Place) -> None:
    attempt, _ = place.exited("picture")
    seen = place.executor.fetch(attempt, "environment.json")
    assert seen is not None
    case = json.loads(seen)["preview"]["case"]
    _, found = taken_out(seen.decode(), [case])
    assert found is not None
    assert (found.width, found.height, len(found.png) > 290_000) == (512, 192, True)


def test_two_attempts_at_one_job_are_two(place: Place) -> None:
    for number in (1, 2):
        place.executor.stage(place.task("", number=number))
    assert {a.number for a in place.executor.observe() if a.run == place.run} == {1, 2}


def test_attempts_of_other_runs_are_observed(place: Place) -> None:
    attempt = place.started("hang", run=f"{place.run}-other")
    place.until(State.RUNNING, attempt)


def test_another_orchestrator_sees_and_ends_what_the_last_one_started(place: Place) -> None:
    attempt = place.started("wait; exit 3")
    place.executor = place.restart()
    place.until(State.RUNNING, attempt)
    place.let_go(attempt)
    assert place.until(State.EXITED, attempt).exit_code == 3
    assert place.executor.fetch(attempt, "results.csv")


def test_a_file_that_the_job_did_not_write_is_none(place: Place) -> None:
    attempt, _ = place.exited("no rows; exit 1")
    assert place.executor.fetch(attempt, "results.csv") is None


def test_what_delivered_to_no_store_has_no_receipt(place: Place) -> None:
    attempt, _ = place.exited("rows")
    assert place.executor.receipt(attempt) is None
    assert place.executor.receipt(place.task("", job="none").attempt) is None


def test_files_and_lines_of_what_is_not_there_are_none(place: Place) -> None:
    attempt = place.task("").attempt
    assert place.executor.fetch(attempt, "results.csv") is None
    assert list(place.executor.log(attempt)) == []
    assert list(place.executor.log(attempt, follow=True)) == []


def test_files_and_lines_are_those_of_the_start_that_was_seen(place: Place) -> None:
    attempt, seen = place.exited("say hello; rows")
    assert place.executor.fetch(attempt, "results.csv", seen.instance)
    assert "hello" in list(place.executor.log(attempt, instance=seen.instance))
    if seen.instance:  # this host tells starts apart
        assert place.executor.fetch(attempt, "results.csv", "another") is None
        assert list(place.executor.log(attempt, instance="another")) == []


@pytest.mark.parametrize("deed", ["link", "fifo", "folder", "big"])
def test_what_is_not_one_regular_file_of_bounded_size_is_refused(place: Place, deed: str) -> None:
    if place.slot.exclusive_per_run:
        pytest.skip("its files come as text in the log: there is nothing else in it (test_frames.py)")
    attempt, _ = place.exited(deed)
    with pytest.raises(BadResult, match=r"results\.csv.*(not a regular file|bytes)"):
        place.executor.fetch(attempt, "results.csv")


def test_a_followed_log_has_every_line_and_ends_when_the_job_does(place: Place) -> None:
    said = ["first", "second", "the last word"]
    attempt = place.started("say first; sleep 0.5; say second; chat 100000; say the last word")
    followed = list(place.executor.log(attempt, follow=True))
    assert [line for line in followed if line in said] == said
    assert followed[-1] == said[-1]
    assert sum(line.count("x") for line in followed) >= 100_000
    place.until(State.EXITED, attempt)
    assert list(place.executor.log(attempt)) == followed


def test_wait_returns_when_a_job_ends_and_not_after_its_timeout(place: Place) -> None:
    attempt = place.started("sleep 1")
    place.executor.observe()
    began = place.clock()
    while place.executor.observe()[attempt].state is not State.EXITED:
        place.executor.wait(10 * PATIENCE_S)
    assert place.clock() - began < PATIENCE_S


def test_wait_returns_after_its_timeout_when_nothing_happens(place: Place) -> None:
    place.executor.observe()
    began = place.clock()
    place.executor.wait(0.2)
    assert place.clock() - began < PATIENCE_S


def test_what_is_stopped_ends_long_before_its_grace(place: Place) -> None:
    attempt = place.started("say here; sleep 600")
    place.until(State.RUNNING, attempt)
    if not isinstance(place.executor, FakeExecutor):  # a container's init drops signals until it has set up its own
        next(line for line in place.executor.log(attempt, follow=True) if line == "here")
    began = place.clock()
    place.executor.stop(attempt, grace_s=10 * PATIENCE_S)
    code = place.until(State.EXITED, attempt).exit_code
    assert code == 143 or (place.forgets_exit_codes and code is None)
    assert place.clock() - began < PATIENCE_S


def test_what_is_deaf_to_being_stopped_ends_after_its_grace(place: Place) -> None:
    took_s: list[float] = []
    # a busy machine may be slow once; what takes no notice of the grace is so each time
    while not took_s or (took_s[-1] >= 1 + place.slack_s and len(took_s) < 3):
        attempt = place.started("hang", job=f"job{len(took_s)}")
        if not isinstance(place.executor, FakeExecutor):
            next(line for line in place.executor.log(attempt, follow=True) if line == "hanging")
        began = place.clock()
        place.executor.stop(attempt, grace_s=1)
        code = place.until(State.EXITED, attempt).exit_code
        took_s.append(place.clock() - began)
        assert code == 137 or (place.forgets_exit_codes and code is None)
    assert 1 <= took_s[-1] < 1 + place.slack_s


def test_stopping_what_is_not_there_not_started_or_has_ended_is_success(place: Place) -> None:
    task = place.task("")
    place.executor.stop(task.attempt, grace_s=0)
    place.executor.stage(task)
    place.executor.stop(task.attempt, grace_s=0)
    assert place.executor.observe()[task.attempt].state is State.STAGED
    place.executor.start(task.attempt)
    before = place.until(State.EXITED, task.attempt)
    place.executor.stop(task.attempt, grace_s=0)
    assert place.executor.observe()[task.attempt] == before


@pytest.mark.parametrize("deeds", [None, "hang", "exit 1"], ids=["staged", "running", "exited"])
def test_removed_is_gone_and_removing_again_is_success(place: Place, deeds: str | None) -> None:
    task = place.task(deeds or "")
    place.executor.stage(task)
    if deeds:
        place.executor.start(task.attempt)
    if deeds == "hang":
        place.until(State.RUNNING, task.attempt)
    if deeds == "exit 1":
        place.until(State.EXITED, task.attempt)
    place.executor.remove(task.attempt)
    assert task.attempt not in place.executor.observe()
    place.executor.remove(task.attempt)
    assert list(place.executor.log(task.attempt)) == []
    assert place.executor.fetch(task.attempt, "results.csv") is None


def test_what_was_removed_can_be_staged_anew(place: Place) -> None:
    attempt, _ = place.exited("exit 1")
    place.executor.remove(attempt)
    assert place.exited("exit 2")[1].exit_code == 2


def test_closing_leaves_jobs_as_they_are(place: Place) -> None:
    attempt = place.started("hang")
    place.executor.close()
    place.executor = place.restart()
    place.until(State.RUNNING, attempt)
