"""What the orchestrator costs, or saves, against the loop that one would write by hand.

Runs 20 short containers, one at a time, paired in one run: through the orchestrator (journal, staging, hardened
containers, collecting, judging, merging), and by the shell loop of the Lambda benchmark's document (`docker run -d`,
`docker wait`, `docker cp`, `docker rm`). Where an engine's bridge network makes `docker run` slow, a loop with
`--network none` is the fairer peer: it is measured too. Then: how long a slot idles between two jobs, two engines
instead of one, and an SSH host instead of a local socket.

Uses the engine of DOCKER_HOST or of this machine, or a private one. Two engines and SSH need root.

usage: DOCKER_HOST=unix:///var/run/docker.sock python benchmarks/overhead.py [--containers 20] [--pairs 2]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import docker_hosts
import engines
from builders import a_task
from docker_hosts import Missing, Recording, by_hand, orchestrated, timed, timed_with_load
from engines import Engine
from goals import IDLE_SLOT, OVER_SSH, TWENTY, TWENTY_NO_NETWORK, TWO_ENGINES, Figure, Goal, show

from orchestrator.config import DockerHost
from orchestrator.executors.docker.executor import DockerExecutor

# A job that computes nothing for half a second, as one whose time passes on a GPU.
WAITS = "rows; sleep 0.5"
# Long enough that the last job is collected and the next one staged before its end, also on busy cores.
LONGER = "rows; sleep 2.2"


def paired(ways: Mapping[str, Callable[[], object]], pairs: int) -> dict[str, list[float]]:
    """Seconds of each way, in turn; every other time in the other order."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for pair in range(pairs):
        for way in list(ways)[:: -1 if pair % 2 else 1]:
            seconds[way].append(timed(ways[way]))
    return seconds


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [one / other for one, other in zip(ours, theirs)]


def in_seconds(ours: list[float], theirs: list[float]) -> str:
    return f"{statistics.median(ours):.2f} s against {statistics.median(theirs):.2f} s"


def one_slot(engine: Engine, image: str, count: int, pairs: int) -> None:
    with_job = engines.image_with_job(engine, image, docker_hosts.job("by-hand", 0))
    orchestrated({"bench": engine.url}, image, 3)  # warms the engine's caches
    seconds = paired(
        {
            "ours": lambda: orchestrated({"bench": engine.url}, image, count),
            "bridge": lambda: by_hand(engine, with_job, count),
            "none": lambda: by_hand(engine, with_job, count, "--network none"),
        },
        pairs,
    )
    least = [bare(engine, image, count)[0] for _ in range(pairs)]
    for goal, peer in ((TWENTY, "bridge"), (TWENTY_NO_NETWORK, "none")):
        lowest = f"a bare loop: {statistics.median(least) / statistics.median(seconds[peer]):.2f}"
        detail = f"{in_seconds(seconds['ours'], seconds[peer])}; {lowest}"
        show(Figure(goal, ratios(seconds["ours"], seconds[peer]), detail))


def idle_slot(engine: Engine, image: str, count: int, rounds: int) -> None:
    idle, alone, least = [], [], []
    for _ in range(rounds):
        idle.append(idle_between(engine, image, count))
        alone.append(statistics.median(starts(engine, image, count)))
        least.append(statistics.median(bare(engine, image, count // 2 + 1)[1]))
    longer = idle_between(engine, image, 5, LONGER) / statistics.median(alone)
    detail = (
        f"{in_seconds(idle, alone)}; jobs of over 2 s: {longer:.2f}; a bare loop: "
        f"{statistics.median(ratios(least, alone)):.2f}"
    )
    show(Figure(IDLE_SLOT, ratios(idle, alone), detail))


def idle_between(engine: Engine, image: str, count: int, deeds: str = "rows") -> float:
    (executor,) = orchestrated({"bench": engine.url}, image, count, deeds)
    return statistics.median(executor.idle())


def bare(engine: Engine, image: str, count: int) -> tuple[float, list[float]]:
    """Starts containers that are there already, each when the engine reports the end of the last, and does no more.

    What the engine alone allows: nothing is written down, locked, checked or collected. Returns the seconds of all, and
    those from each end to the next start.
    """
    with closing(Recording(DockerHost(name="bench", url=engine.url, gpus="none"))) as executor:
        tasks = [a_task(docker_hosts.job("bare", number), image=image) for number in range(count)]
        for task in tasks:
            executor.stage(task)
        with executor.connection.api() as api, executor.connection.api() as told:
            ends = told.events(decode=True, filters={"type": "container", "event": "die"})

            def run_all() -> None:
                for task in tasks:
                    api.start(task.attempt.name)
                    while next(ends)["Actor"]["Attributes"]["name"] != task.attempt.name:
                        pass

            seconds = timed(run_all)
            ends.close()
        for task in tasks:
            executor.remove(task.attempt)
        return seconds, executor.idle()


def starts(engine: Engine, image: str, count: int) -> list[float]:
    """Seconds of the engine's start call, of containers like the orchestrator's, each while nothing else is done."""
    seconds = []
    with closing(DockerExecutor(DockerHost(name="bench", url=engine.url, gpus="none"))) as executor:
        for number in range(count):
            task = a_task(docker_hosts.job("alone", number), image=image)
            executor.stage(task)
            with executor.connection.api() as api:
                seconds.append(timed(lambda name=task.attempt.name: api.start(name)))  # type: ignore[misc]
                api.wait(task.attempt.name)
            executor.remove(task.attempt)
    return seconds


def two_engines(engine: Engine, image: str, count: int, pairs: int) -> None:
    with docker_hosts.further_engines(1) as (second,):
        engines.contract_image(second, engine)
        one, both = {"one": engine.url}, {"one": engine.url, "two": second.url}
        orchestrated({"two": second.url}, image, 2)
        ways = {
            "one": lambda: orchestrated(one, image, count, WAITS),
            "both": lambda: orchestrated(both, image, count, WAITS),
        }
        seconds = paired(ways, pairs)
        alone, alone_busy = timed_with_load(lambda: orchestrated(one, image, count))
        together, together_busy = timed_with_load(lambda: orchestrated(both, image, count))
    short = f"jobs that end at once: {together / alone:.2f}, cores {together_busy:.0f}% busy against {alone_busy:.0f}%"
    detail = f"jobs of 0.5 s: {in_seconds(seconds['both'], seconds['one'])}; {short}"
    show(Figure(TWO_ENGINES, ratios(seconds["both"], seconds["one"]), detail))


def over_ssh(engine: Engine, image: str, count: int, pairs: int) -> None:
    with engines.ssh_in_front_of(engine) as ssh:
        ways: dict[str, Callable[[], object]] = {
            "ssh": lambda: orchestrated({"bench": ssh.url}, image, count),
            "local": lambda: orchestrated({"bench": engine.url}, image, count),
        }
        seconds = paired(ways, pairs)
    show(Figure(OVER_SSH, ratios(seconds["ssh"], seconds["local"]), in_seconds(seconds["ssh"], seconds["local"])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--containers", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=2)
    asked = parser.parse_args()
    count, pairs = asked.containers, asked.pairs
    try:
        with docker_hosts.some_engine() as engine:
            image = engines.contract_image(engine)
            one_slot(engine, image, count, pairs)
            idle_slot(engine, image, max(3, count * 2 // 5), pairs + 1)
            try_to(OVER_SSH, lambda: over_ssh(engine, image, count, pairs))
            try_to(TWO_ENGINES, lambda: two_engines(engine, image, count, max(1, pairs - 1)))
    except Missing as missing:
        show(
            *(
                Figure.not_run(goal, str(missing))
                for goal in (TWENTY, TWENTY_NO_NETWORK, IDLE_SLOT, OVER_SSH, TWO_ENGINES)
            )
        )


def try_to(goal: Goal, measure: Callable[[], None]) -> None:
    try:
        measure()
    except Missing as missing:
        show(Figure.not_run(goal, str(missing)))


if __name__ == "__main__":
    main()
