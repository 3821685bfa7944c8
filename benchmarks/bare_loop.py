"""What the runner adds to a call: its eager trials against the loop that one would write, in processes that take turns.

A set is three fresh processes: the runner's child, which runs a job as always (events, checks, telemetry), and twice a
bare loop of `pipe(...)` between two synchronisations. All are loaded and warmed up; then they take turns of a few
calls, in all six orders, so that whatever else the machine does meets all three. The runner's work between two trials
ends before its turn does. Each set loads the model several times, because memory is then laid out anew.

- The ratio of a turn is the runner's time / the geometric mean of both bare loops' times. The ratio of a load is the
  interquartile mean over its turns, so that turns with a preempted call do not count. The ratio of a set is the mean
  over its loads. The result is the mean over the sets with its 95% interval (Student's t over the sets, in logarithms).
- The control is one bare loop / the other, computed in the same way. Its interval contains 1 unless the method is
  biased, and its width shows what the method can resolve.
- Wall time is the latency. The CPU time of the same calls is disturbed less by other work on the machine, but does not
  include waiting.
- What the runner does in less than a quarter of the turns does not show.

The bare loop uses the runner's settings: `torch.inference_mode` and `gc.freeze()`. --plain leaves both out.

  python benchmarks/bare_loop.py --threads 1 --sets 8
  python benchmarks/bare_loop.py --model synthetic:sd-v1-4 --steps 50 --device cuda --precision half --calls 1

A call of a small batch on a GPU waits for Python, whose speed differs from process to process. A large model keeps the
GPU busy: on an H200, four sets resolved 1% of the wall time. docs/performance.md has the command.
"""

from __future__ import annotations

import argparse
import functools
import gc
import itertools
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from intervals import Ratios  # noqa: E402

from runner.catalog import MODELS, Model, known_model  # noqa: E402
from runner.jobs import worker  # noqa: E402
from runner.jobs.supervise import LastRow, supervise  # noqa: E402
from runner.measuring import measure  # noqa: E402
from runner.models.variants import COMPUTED  # noqa: E402
from runner.schema import Case, Device, Event, EventKind, Job, Precision, Row  # noqa: E402

PRECISIONS = {precision: dtype for dtype, precision in COMPUTED.items()}
PROMPT = "a photo of an astronaut riding a horse on mars"
LEFT_OUT = 1  # turns of each load that are not counted
STARTED_S = 300.0
ENDED_S = 60.0
RUNNER, BARE, CONTROL = "runner", "bare", "control"


class Seconds(NamedTuple):
    """Of one call; of a turn, the mean of its calls."""

    wall: float
    cpu: float


def mean_of(calls: Sequence[Seconds]) -> Seconds:
    return Seconds(*map(statistics.fmean, zip(*calls)))


def median_of(calls: Sequence[Seconds]) -> Seconds:
    return Seconds(*map(statistics.median, zip(*calls)))


def timed(call: Callable[[], Any]) -> tuple[Any, Seconds]:
    wall, cpu = time.perf_counter(), time.process_time()
    returned = call()
    return returned, Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def defaults(model: str) -> Model:
    """For a model that is not known, those of Stable Diffusion 1.4."""
    return known_model(model) or MODELS["sd-v1-4"]


def job_of(flags: argparse.Namespace) -> Job:
    """The runner's job. Its last trial is made after the last turn."""
    return Job(
        run="benchmark",
        id="bare-loop",
        host="",
        device=Device(flags.device),
        engine="eager",
        precision=Precision(flags.precision),
        model=flags.model,
        cases=(Case("case", flags.samples),),
        prompt=PROMPT,
        steps=flags.steps,
        scheduler=defaults(flags.model).scheduler,
        guidance=defaults(flags.model).guidance,
        threads=flags.threads,
        warmup=flags.warmup,
        repeats=(LEFT_OUT + flags.turns) * flags.calls + 1,
    )


class Turns:
    """Replaces `measure.timed_call` in the runner's child: waits for a turn, makes its calls and tells their mean.

    It tells when the next call is due: the runner's work between two trials belongs to the turn.
    """

    def __init__(self, address: str, untimed: int, calls: int) -> None:
        self._call, self._untimed, self._calls = measure.timed_call, untimed, calls
        self._turns = Client(address, "AF_UNIX")
        self._made: list[Seconds] = []

    def __call__(self, session: Any, samples: int) -> Any:
        if self._untimed:
            self._untimed -= 1
            return self._call(session, samples)
        if len(self._made) == self._calls:
            self._turns.send(tuple(mean_of(self._made)))
            self._made.clear()
        if not self._made:
            self._turns.recv()
        (images, wall), seconds = timed(lambda: self._call(session, samples))
        self._made.append(seconds._replace(wall=wall))
        return images, wall

    def tell_ready(self) -> None:
        self._turns.send(None)


def in_turns(address: str, calls: int, job: Job, cases: tuple[Case, ...], token: str | None, send: worker.Send) -> None:
    """The work of the runner's child, whose trials wait for their turns."""
    turns = Turns(address, 1 + job.warmup, calls)
    measure.timed_call = turns  # type: ignore[assignment]

    def tell(message: worker.Message) -> None:
        send(message)
        if isinstance(message, Event) and message.kind is EventKind.WARMED_UP:
            turns.tell_ready()

    worker.work(job, cases, token, tell)


def by_runner(flags: argparse.Namespace, address: str) -> None:
    """One job for each load, each in a child of its own."""
    for _ in range(flags.loads):
        listener = LastRow(lambda text: print(text.decode(errors="replace"), end="", file=sys.stderr))
        supervise(job_of(flags), None, listener, functools.partial(in_turns, address, flags.calls))
        row: Row | None = listener.last
        if not row or not row.trials:
            raise SystemExit(f"the runner has no trials: {row and row.error}")


def by_hand(flags: argparse.Namespace, address: str) -> None:
    """The bare loop: loads, warms up, and makes a few calls for each message."""
    import torch

    if flags.precision == "single":
        torch.backends.cudnn.allow_tf32 = False
    if flags.threads:
        torch.set_num_threads(flags.threads)
    guidance = defaults(flags.model).guidance
    for _ in range(flags.loads):
        pipe = loaded(flags)

        def call_s(pipe: Any = pipe) -> Seconds:
            if flags.device == "cuda":
                torch.cuda.synchronize()
            return timed(lambda: one_call(pipe))[1]

        def one_call(pipe: Any) -> None:
            with torch.inference_mode(not flags.plain):
                pipe([PROMPT] * flags.samples, num_inference_steps=flags.steps, guidance_scale=guidance)
            if flags.device == "cuda":
                torch.cuda.synchronize()

        for _ in range(1 + flags.warmup):
            call_s()
        with Client(address, "AF_UNIX") as turns:
            turns.send(None)
            for _ in range(LEFT_OUT + flags.turns):
                turns.recv()
                turns.send(tuple(mean_of([call_s() for _ in range(flags.calls)])))
            turns.recv()


def loaded(flags: argparse.Namespace) -> Any:
    import torch

    from runner.models import synthetic

    dtype = getattr(torch, PRECISIONS[flags.precision])
    if (name := flags.model.removeprefix("synthetic:")) != flags.model:
        pipe: Any = synthetic.build(name, dtype, flags.device)
    else:
        from diffusers import DiffusionPipeline

        pipe = DiffusionPipeline.from_pretrained(flags.model, dtype=dtype).to(flags.device)
    pipe.set_progress_bar_config(disable=True)
    if not flags.plain:
        gc.collect()
        gc.freeze()
    return pipe


@dataclass
class Side:
    """One of the processes, and the connection by which its present load is told to make its calls."""

    kind: str
    process: subprocess.Popen[bytes]
    listener: Listener
    turns: Connection = field(init=False)

    def get_ready(self) -> None:
        """Waits until its next load is warmed up."""
        self.turns = self.listener.accept()
        if not self.turns.poll(STARTED_S):
            raise SystemExit(f"the {self.kind} side did not get ready within {STARTED_S:g} s")
        self.turns.recv()

    def turn(self) -> Seconds:
        self.turns.send(None)
        return Seconds(*self.turns.recv())  # a tuple: the other process names its classes after its own main module

    def end(self) -> None:
        self.turns.send(None)
        self.turns.close()


@contextmanager
def side(kind: str, words: Sequence[str]) -> Iterator[Side]:
    """Starts a process, and ends it."""
    with tempfile.TemporaryDirectory() as folder, Listener(f"{folder}/turns", "AF_UNIX") as listener:
        process = subprocess.Popen([sys.executable, __file__, *words, "--side", kind, "--address", f"{folder}/turns"])
        try:
            yield Side(kind, process, listener)
            process.wait(ENDED_S)
        finally:
            process.kill()
            process.wait()


def one_load(sides: Sequence[Side], turns: int) -> list[dict[str, Seconds]]:
    """The turns of one load, by kind of side."""
    for each in sides:
        each.get_ready()
    orders = itertools.cycle(itertools.permutations(sides))
    made = [{each.kind: each.turn() for each in next(orders)} for _ in range(LEFT_OUT + turns)]
    for each in sides:
        each.end()
    return made[LEFT_OUT:]


@dataclass
class Found:
    """Ratios of sets by wall time, by CPU time, and of the control by both. calls: of a bare loop."""

    wall: Ratios = field(default_factory=Ratios)
    cpu: Ratios = field(default_factory=Ratios)
    control_wall: Ratios = field(default_factory=Ratios)
    control_cpu: Ratios = field(default_factory=Ratios)
    calls: list[Seconds] = field(default_factory=list)

    def add(self, loads: Sequence[Sequence[dict[str, Seconds]]]) -> None:
        """Adds one set."""
        for name, runner, control in (
            ("wall", self.wall, self.control_wall),
            ("cpu", self.cpu, self.control_cpu),
        ):
            times = [[{kind: getattr(s, name) for kind, s in turn.items()} for turn in turns] for turns in loads]
            runner.add_loads([[to_both(turn) for turn in turns] for turns in times])
            control.add_loads([[math.log(turn[CONTROL] / turn[BARE]) for turn in turns] for turns in times])
        self.calls += [turn[BARE] for turns in loads for turn in turns]

    def words(self) -> str:
        wall, cpu = (1000 * seconds for seconds in median_of(self.calls))
        return "\n".join(
            (
                f"a call of the bare loop: {wall:.1f} ms, CPU time {cpu:.1f} ms (medians)",
                f"runner / bare loop, wall time: {self.wall.words()}",
                f"runner / bare loop, CPU time: {self.cpu.words()}",
                f"control, bare loop / bare loop, wall time: {self.control_wall.words()}",
                f"control, bare loop / bare loop, CPU time: {self.control_cpu.words()}",
            )
        )


def to_both(turn: dict[str, float]) -> float:
    """The logarithm of the runner's time / the geometric mean of both bare loops'."""
    return math.log(turn[RUNNER] / math.sqrt(turn[BARE] * turn[CONTROL]))


def in_sets(flags: argparse.Namespace, words: Sequence[str], seconds: float = math.inf) -> Found:
    """Measures sets and prints each; starts no further one that would not end within `seconds`."""
    found, end = Found(), time.monotonic() + seconds
    for number in range(1, flags.sets + 1):
        begun = time.monotonic()
        with ExitStack() as stack:
            sides = [stack.enter_context(side(kind, words)) for kind in (RUNNER, BARE, CONTROL)]
            found.add([one_load(sides, flags.turns) for _ in range(flags.loads)])
        print(
            f"set {number}: wall {found.wall.last:.4f}, control {found.control_wall.last:.4f}; "
            f"CPU {found.cpu.last:.4f}, control {found.control_cpu.last:.4f}",
            flush=True,
        )
        if 2 * time.monotonic() - begun > end:  # the next one takes as long
            break
    return found


def flags_of(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="synthetic:tiny")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=tuple(PRECISIONS), default="single")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--calls", type=int, default=4, help="of one turn")
    parser.add_argument("--turns", type=int, default=12, help="of each process and load")
    parser.add_argument("--loads", type=int, default=2, help="of the model in each set")
    parser.add_argument("--sets", type=int, default=4, help="of processes")
    parser.add_argument("--seconds", type=float, default=math.inf, help="start no set that would end after this time")
    parser.add_argument("--plain", action="store_true", help="a bare loop without inference_mode and gc.freeze()")
    parser.add_argument("--side", choices=(RUNNER, BARE, CONTROL), help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main() -> None:
    words = sys.argv[1:]
    flags = flags_of(words)
    if flags.threads:
        os.environ["OMP_NUM_THREADS"] = str(flags.threads)
    if flags.side:
        (by_runner if flags.side == RUNNER else by_hand)(flags, flags.address)
    else:
        print(in_sets(flags, words, flags.seconds).words())


if __name__ == "__main__":
    main()
