"""A large image sent to three hosts at once, without a registry, against one `docker save | docker load`.

Needs root, for private engines as hosts. All engines share this machine's cores, which separate hosts would not: the
CPU time of the engines alone is printed too, with the ratio that it allows at best.

usage: DOCKER_HOST=unix:///var/run/docker.sock python benchmarks/image_to_hosts.py [--megabytes 200] [--pairs 2]
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import docker_hosts
import engines
from docker_hosts import Missing, cpu_s, timed
from engines import Engine
from goals import IMAGE_MEMORY, IMAGE_TO_THREE, Figure, show
from memory import resident_mb

from orchestrator import images
from orchestrator.config import DockerHost
from orchestrator.executors.docker.connection import Connection, connect
from orchestrator.images.image import engine_of
from orchestrator.images.record import Record

NAME = "sd-orchestrator-large:1"
LAYERS = 3
FILL = "import os; [open(f'/opt/{0}-{{n}}', 'wb').write(os.urandom(2**20)) for n in range({1})]"


def large_image(engine: Engine, megabytes: int) -> None:
    """An image of several layers with files of 1 MB that do not compress, as weights and libraries hardly do."""
    made = engines.contract_image(engine)
    fills = [FILL.format(layer, megabytes // LAYERS) for layer in range(LAYERS)]
    lines = [f"FROM {made}", "USER 0", *(f'RUN python -c "{fill}"' for fill in fills)]
    with closing(engine.client()) as api:
        said = list(
            api.build(fileobj=io.BytesIO("\n".join(lines).encode()), tag=NAME, network_mode="none", decode=True)
        )
    if wrong := [line["error"] for line in said if "error" in line]:
        raise SystemExit(wrong[0])


def by_hand(source: Engine, target: Engine) -> None:
    script = f"docker -H {source.url} save {NAME} | docker -H {target.url} load"
    subprocess.run(["sh", "-c", script], check=True, stdout=subprocess.DEVNULL)


def sent(source: Connection, targets: dict[str, Connection], record: Record) -> None:
    arrived, failed = images.ship_to_all(source, targets, NAME, record=record)
    if failed or len(arrived) != len(targets):
        raise SystemExit(str(failed))


def remove(*on: Engine) -> None:
    for engine in on:
        with closing(engine.client()) as api:
            api.remove_image(NAME)


@contextmanager
def connections(at: list[Engine]) -> Iterator[list[Connection]]:
    with ExitStack() as stack:
        hosts = [DockerHost(name=f"host{number}", url=engine.url) for number, engine in enumerate(at)]
        yield [stack.enter_context(connect(host)) for host in hosts]


def measure(source: Engine, hosts: list[Engine], megabytes: int, pairs: int) -> None:
    large_image(source, megabytes)
    with connections([source, *hosts]) as (origin, *targets), tempfile.TemporaryDirectory() as folder:
        record = Record(Path(folder) / "images.json")
        found = images.find(origin, NAME)
        if found is None:
            raise SystemExit(f"{NAME} was not built")
        record.built(found, engine_of(origin))
        ours, theirs, grown, cpu, own = [], [], [], [], []
        for _ in range(pairs):
            theirs.append(timed(lambda: by_hand(source, hosts[0])))
            remove(hosts[0])
            before, used, own_used = reset_peak(), sum(map(cpu_s, (source, *hosts))), time.process_time()
            ours.append(timed(lambda: sent(origin, {c.host_name: c for c in targets}, record)))
            grown.append(resident_mb() - before)
            own.append(time.process_time() - own_used)
            cpu.append(sum(map(cpu_s, (source, *hosts))) - used)
            remove(*hosts)
    size, cores = f"{found.size_bytes / 1e6:.0f} MB", os.cpu_count() or 1
    seconds = f"{statistics.median(ours):.1f} s against {statistics.median(theirs):.1f} s"
    least = statistics.median(used / cores / one for used, one in zip(cpu, theirs))
    spent = f"{statistics.median(cpu):.1f} s by the four engines, {statistics.median(own):.1f} s by the orchestrator"
    shared = f"CPU time: {spent}; the engines' alone allows {least:.2f} at best on {cores} cores"
    ratios = [three / one for three, one in zip(ours, theirs)]
    show(Figure(IMAGE_TO_THREE, ratios, f"{size}: {seconds}; {shared}"), Figure(IMAGE_MEMORY, grown, f"of {size}"))


def reset_peak() -> float:
    """Makes this process's peak memory its present memory, and returns it in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident_mb(name="VmRSS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=2)
    asked = parser.parse_args()
    try:
        with docker_hosts.some_engine() as source:
            engines.ensure_base(source)
            with docker_hosts.further_engines(3) as hosts:
                measure(source, hosts, asked.megabytes, asked.pairs)
    except Missing as missing:
        show(*(Figure.not_run(goal, str(missing)) for goal in (IMAGE_TO_THREE, IMAGE_MEMORY)))


if __name__ == "__main__":
    main()
