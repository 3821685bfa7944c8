"""Everything goes wrong at once: one run on several engines under a seeded mix of faults (docs/faults.md).

The same matrix runs undisturbed first. Then, until the run has ended, one fault after the other at random moments:
orchestrators killed and interrupted, containers killed and removed, engines stopped, killed and frozen, links cut, and
of this machine the disk full, the clock set, the journal locked. Each orchestrator that leaves is followed by `resume`.
Prints the faults by kind, and what the run lost by them, which has to be nothing.

usage: sudo python benchmarks/chaos.py [--jobs 200] [--engines 3] [--seed 5]      (needs root and dockerd)
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

import engines
import pytest
from engines import Daemon, Engine, SshEngine
from live_run import LiveRun, witnessed

from orchestrator.errors import ExitCode
from runner.schema import Status

RETRIES = 100  # of a job: here one may well be hit again and again
ROOM = "size=64m"  # of the run's folder: what is written to it at once fills it
GAP_S = (0.1, 1.2)
PATIENCE_S = 1500.0


@dataclass
class World:
    """Where faults are injected. links: the sshd in front of some hosts. cables: those that can be pulled out."""

    live_run: LiveRun
    chance: random.Random
    links: dict[str, SshEngine]
    cable: Callable[[str], None]
    clock: Path
    process: subprocess.Popen[str] | None = None
    exits: Counter[int] = field(default_factory=Counter)

    def daemon(self) -> Daemon:
        daemon = self.chance.choice(list(self.live_run.engines.values())).daemon
        assert daemon is not None
        return daemon

    def containers(self, *, running: bool) -> list[tuple[Engine, str]]:
        found = []
        for engine in self.live_run.engines.values():
            with contextlib.suppress(*engines.DEAD), closing(engine.client()) as api:
                listed = api.containers(all=not running, filters={"label": "sd-orchestrator=job"})
                found += [(engine, one["Id"]) for one in listed]
        return found


def signalled(number: signal.Signals) -> Callable[[World], bool]:
    def fault(world: World) -> bool:
        assert world.process is not None
        world.process.send_signal(number)
        return True

    return fault


def container_killed(world: World) -> bool:
    found = world.containers(running=True)
    if found:
        engine, one = world.chance.choice(found)
        with contextlib.suppress(*engines.DEAD), closing(engine.client()) as api:
            api.kill(one)
            return True
    return False


def container_removed(world: World) -> bool:
    found = world.containers(running=False)
    if found:
        engine, one = world.chance.choice(found)
        with contextlib.suppress(*engines.DEAD), closing(engine.client()) as api:
            api.remove_container(one, v=True, force=True)
            return True
    return False


def engine_restarted(world: World) -> bool:
    daemon = world.daemon()
    daemon.stop()
    time.sleep(world.chance.uniform(0, 2))
    daemon.start()
    return True


def engine_killed(world: World) -> bool:
    daemon = world.daemon()
    daemon.kill()
    time.sleep(world.chance.uniform(0, 2))
    daemon.start()
    return True


def engine_frozen(world: World) -> bool:
    daemon = world.daemon()
    assert daemon.process is not None
    os.kill(daemon.process.pid, signal.SIGSTOP)
    time.sleep(world.chance.uniform(1, 4))
    os.kill(daemon.process.pid, signal.SIGCONT)
    return True


def link_cut(world: World) -> bool:
    sshd = world.chance.choice(list(world.links.values())).sshd
    sshd.kill()
    time.sleep(world.chance.uniform(0, 3))
    sshd.start()
    return True


def network_down(world: World) -> bool:
    world.cable("down")
    time.sleep(world.chance.uniform(1, 20))  # the longest ones outlast ssh's own patience
    world.cable("up")
    return True


def disk_full(world: World) -> bool:
    ballast = world.live_run.folder / "runs" / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    time.sleep(world.chance.uniform(0.5, 2))
    ballast.unlink()
    return True


def clock_set(world: World) -> bool:
    world.clock.write_text(str(world.chance.choice((-86_400, -60, 60, 86_400))))
    return True


def journal_locked(world: World) -> bool:
    with closing(sqlite3.connect(world.live_run.run.journal, timeout=5)) as other:
        try:
            other.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:  # the disk is full just now
            return False
        time.sleep(world.chance.uniform(0.5, 3))
    return True


def second_orchestrator(world: World) -> bool:
    """It is refused; where the first one is just leaving, it goes on in its place."""
    assert world.process is not None
    other = world.live_run.start("resume", clock=str(world.clock))
    world.live_run.wait_until_driven(other)
    if other.poll() is None:
        world.process.wait()
        world.process = other
        return False
    return other.returncode == ExitCode.BAD_INPUT


FAULTS: dict[str, tuple[int, Callable[[World], bool]]] = {
    "orchestrator killed (SIGKILL)": (8, signalled(signal.SIGKILL)),
    "Ctrl-C": (3, signalled(signal.SIGINT)),
    "orchestrator terminated (SIGTERM)": (2, signalled(signal.SIGTERM)),
    "container killed": (8, container_killed),
    "container removed": (4, container_removed),
    "engine stopped and started": (2, engine_restarted),
    "engine killed and started": (2, engine_killed),
    "engine frozen": (2, engine_frozen),
    "ssh link cut": (3, link_cut),
    "network down": (1, network_down),
    "disk full here": (2, disk_full),
    "clock set": (3, clock_set),
    "journal locked": (2, journal_locked),
    "second orchestrator": (2, second_orchestrator),
}


@dataclass(frozen=True)
class Report:
    faults: Counter[str]
    rows_expected: int
    rows_lost: int
    rows_twice: int
    ran_twice: list[str]
    containers_left: list[str]
    undisturbed_s: float
    disturbed_s: float

    @property
    def is_well(self) -> bool:
        return not (self.rows_lost or self.rows_twice or self.ran_twice or self.containers_left)

    def text(self) -> str:
        lines = [f"{count:5}  {kind}" for kind, count in sorted(self.faults.items())]
        lines += [
            f"{sum(self.faults.values()):5}  faults in all",
            f"{self.rows_expected:5}  rows expected",
            f"{self.rows_lost:5}  rows lost",
            f"{self.rows_twice:5}  rows twice",
            f"{len(self.ran_twice):5}  jobs that ran again though nothing was lost",
            f"{len(self.containers_left):5}  containers left",
            f"{self.undisturbed_s:5.0f} s undisturbed, {self.disturbed_s:.0f} s under faults: "
            f"{self.disturbed_s / self.undisturbed_s:.2f} times as long",
        ]
        return "\n".join(lines)


def chaos(*, jobs: int, hosts: int, seed: int, base_from: Engine | None, say: Callable[[str], None]) -> Report:
    chance = random.Random(seed)
    prompts = [f"say {n}; sleep {chance.uniform(0.1, 0.6):.2f}" for n in range(jobs // hosts)]
    with world_of(hosts, chance, base_from) as world, tempfile.TemporaryDirectory() as before:
        calm = LiveRun(Path(before), world.live_run.engines)
        for live_run in (calm, world.live_run):
            (live_run.folder / "hosts.yaml").write_text((world.live_run.folder / "hosts.yaml").read_text())
            live_run.write(matrix={"prompt": prompts, "samples": [1, 2]}, retries=RETRIES)
        began = time.monotonic()
        ended = calm.did("submit", "matrix.yaml")
        undisturbed_s = time.monotonic() - began
        if ended.returncode != ExitCode.OK:
            raise SystemExit(f"the undisturbed run failed: {ended.stderr}")
        say(f"undisturbed: {undisturbed_s:.0f} s")
        began = time.monotonic()
        with witnessed(list(world.live_run.engines.values())) as starts:
            faults = disturbed(world, say)
        disturbed_s = time.monotonic() - began
        rows = [row for row in world.live_run.rows() if row.status is Status.OK]
        expected = {row[3] for row in calm.table()}
        return Report(
            faults,
            len(expected),
            len(expected - {row.case for row in rows}),
            len(rows) - len({row.case for row in rows}),
            world.live_run.ran_twice(starts),
            world.live_run.containers(),
            undisturbed_s,
            disturbed_s,
        )


def disturbed(world: World, say: Callable[[str], None]) -> Counter[str]:
    """Drives the run to its end, whatever it takes, and does what it can against that."""
    done: Counter[str] = Counter()
    weights, began = [weight for weight, _ in FAULTS.values()], time.monotonic()
    world.process = world.live_run.start("submit", "matrix.yaml", clock=str(world.clock))
    while time.monotonic() - began < PATIENCE_S:
        world.live_run.wait_until_driven(world.process)
        if world.process.poll() is None:
            time.sleep(world.chance.uniform(*GAP_S))
            (kind,) = world.chance.choices(list(FAULTS), weights)
            if FAULTS[kind][1](world):
                done[kind] += 1
                say(f"{time.monotonic() - began:6.1f} s  {kind}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            world.process.wait(0.1)
        if world.process.poll() is not None:
            _, said = world.process.communicate()
            say(f"{time.monotonic() - began:6.1f} s  left with {world.process.returncode}: {said.strip()[-300:]}")
            if world.process.returncode in (ExitCode.OK, ExitCode.SOME_FAILED):
                return done
            world.process = world.live_run.start("resume", clock=str(world.clock))
    raise SystemExit("the run does not end")


@contextlib.contextmanager
def world_of(hosts: int, chance: random.Random, base_from: Engine | None) -> Iterator[World]:
    """Engines of which one is reached by ssh, and one by ssh over a cable."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = {f"host{n}": stack.enter_context(engines.private_engine()) for n in range(hosts)}
        for engine in made.values():
            engines.furnish(engine, base_from)
        first, last = made["host0"], made[f"host{hosts - 1}"]
        near = stack.enter_context(engines.ssh_in_front_of(first))
        far, cable = stack.enter_context(engines.far_away(last))
        links = {"host0": near, f"host{hosts - 1}": far}
        (folder / "runs").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", ROOM, "none", str(folder / "runs")], check=True)
        stack.callback(engines.quietly, "umount", "-l", str(folder / "runs"))
        (folder / "clock").write_text("0")
        live_run = LiveRun(folder, made)
        urls = {name: links[name].url if name in links else engine.url for name, engine in made.items()}
        live_run.write_hosts({name: {"kind": "docker", "url": url, "gpus": "none"} for name, url in urls.items()})
        stack.callback(live_run.close)
        yield World(live_run, chance, links, cable, folder / "clock")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--engines", type=int, default=3)
    parser.add_argument("--seed", type=int, default=5)
    asked = parser.parse_args()
    url = os.environ.get("DOCKER_HOST")
    base_from = Engine(url) if url else None
    try:
        report = chaos(
            jobs=asked.jobs,
            hosts=asked.engines,
            seed=asked.seed,
            base_from=base_from,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except pytest.skip.Exception as lacking:
        sys.exit(f"{lacking}; DOCKER_HOST may name an engine that has the image")
    print(f"seed {asked.seed}, {asked.jobs} jobs on {asked.engines} engines")
    print(report.text())
    sys.exit(0 if report.is_well else 1)


if __name__ == "__main__":
    main()
