"""What is made of NVML's answers, and that a watch asks for them while something runs and lets nothing escape."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from builders import a_job
from fake_engine import FakeSession
from fake_nvml import FakeNvml

from runner.measuring.measure import Instruments, measure
from runner.schema import Validity
from runner.telemetry import gpu_watch
from runner.telemetry.gpu import Observed, Occupancy, Reading, cells, verdict
from runner.telemetry.gpu_watch import Gpus, own_pids

FULL = Reading(sm_clock_mhz=1980, temperature_c=50, power_w=500, busy=0.9, reasons=0)


def seen(*readings: Reading, **fields: Any) -> Observed:
    return Observed(**{"duration_s": 2.0, "readings": readings or (FULL, FULL), **fields})


def pids(*numbers: int) -> Occupancy:
    return Occupancy(frozenset(numbers))


def test_energy_comes_from_the_counter_if_there_is_one() -> None:
    found = cells(seen(energy_j=800.0), images=4)
    assert (found["energy_j"], found["power_w"]) == (200.0, 400.0)


def test_without_a_counter_energy_is_mean_power_times_duration() -> None:
    found = cells(seen(dataclasses.replace(FULL, power_w=300.0), dataclasses.replace(FULL, power_w=500.0)), images=4)
    assert (found["energy_j"], found["power_w"]) == (200.0, 400.0)


def test_clocks_are_averaged_and_temperature_is_the_maximum() -> None:
    found = cells(seen(FULL, Reading(sm_clock_mhz=1000, temperature_c=70)), images=1)
    assert (found["sm_clock_mhz"], found["temperature_c"]) == (1490.0, 70)


def test_the_drivers_samples_are_preferred_to_ours() -> None:
    assert cells(seen(busy=0.4), 1)["gpu_busy"] == 0.4
    assert cells(seen(), 1)["gpu_busy"] == 0.9


def test_an_unreported_value_is_empty_not_0() -> None:
    assert set(cells(seen(Reading()), 1).values()) == {None}


def test_a_measurement_shorter_than_the_counter_period_has_no_energy() -> None:
    found = cells(seen(duration_s=0.3, energy_j=100.0, busy=0.5), 1)
    assert (found["energy_j"], found["power_w"], found["gpu_busy"]) == (None, None, None)
    assert found["sm_clock_mhz"] == 1980


@pytest.mark.parametrize("bit", [0x8, 0x20, 0x40, 0x80])
def test_clocks_lowered_by_heat_or_hardware_are_throttled(bit: int) -> None:
    found, why = verdict(seen(FULL, dataclasses.replace(FULL, reasons=bit | 0x4)))
    assert found is Validity.THROTTLED
    assert "in 1 of 2 samples" in str(why)


@pytest.mark.parametrize("bit", [0, 0x1, 0x2, 0x10, 0x100])
def test_idle_or_user_set_clocks_are_not_throttled(bit: int) -> None:
    assert verdict(seen(dataclasses.replace(FULL, reasons=bit))) == (Validity.VALID, None)


def test_a_power_cap_counts_only_below_the_default_limit() -> None:
    capped = dataclasses.replace(FULL, reasons=0x4)
    assert verdict(seen(capped, power_limit_w=700, default_limit_w=700))[0] is Validity.VALID
    found, why = verdict(seen(capped, power_limit_w=400, default_limit_w=700))
    assert found is Validity.THROTTLED
    assert "400 W" in str(why)
    assert verdict(seen(FULL, power_limit_w=400, default_limit_w=700))[0] is Validity.VALID


@pytest.mark.parametrize(
    ("case", "before", "during", "mine", "others"),
    [
        ("alone", (), (10,), (10, 11), 0),
        ("with a server of ours", (), (10, 11), (10, 11), 0),
        ("with somebody who was there", (7,), (7, 10), (10,), 1),
        ("with somebody who came later", (), (7, 8, 10), (10,), 2),
        ("in a container, as a pid of the host", (), (90210,), (10,), 0),
        ("in a container, with a pid of the host that was there", (4711,), (4711, 90210), (10,), 1),
        ("in a container, with one more than we are", (), (4711, 90210), (10,), 1),
        ("in a container, where an earlier one has left", (4711,), (90210,), (10,), 0),
        ("in a container that is told nothing", (), (), (10,), 0),
    ],
)
def test_our_own_processes_are_not_foreign(
    case: str, before: tuple[int, ...], during: tuple[int, ...], mine: tuple[int, ...], others: int
) -> None:
    found, why = verdict(seen(before=pids(*before), during=pids(*during), mine=frozenset(mine)))
    assert found is (Validity.CONTENDED if others else Validity.VALID), case
    assert (f"{others} other process" in str(why)) == bool(others)


def test_without_listed_processes_earlier_memory_use_is_contention() -> None:
    before = Occupancy(used_bytes=3_000_000_000)
    assert verdict(seen(before=before))[1] == "contended: 3.0 GB of the GPU were in use before the model was loaded"
    assert verdict(seen(before=Occupancy(used_bytes=4_000_000)))[0] is Validity.VALID
    listed = seen(before=before, during=pids(10), mine=frozenset({10}))
    assert verdict(listed)[0] is Validity.VALID


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The watch's clock."""
    clock = Clock()
    monkeypatch.setattr(gpu_watch, "time", SimpleNamespace(time=clock, monotonic=clock))
    return clock


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def watched(nvml: FakeNvml, clock: Clock) -> Observed:
    """What a watch of half a second sees."""
    watch = Gpus.now(nvml).watch(nvml.UUID)
    assert watch is not None
    with watch:
        wait_until(lambda: len(watch._readings) >= 2)
        clock.now += 0.5
    return watch.seen


def test_a_watch_converts_nvmls_units(clock: Clock) -> None:
    found = watched(FakeNvml(pids=((), (os.getpid(),)), clock=clock), clock)
    assert found.readings[0] == Reading(1980, 51, 512.345, 0.97, 0)
    assert (found.power_limit_w, found.default_limit_w) == (700.0, 700.0)
    assert found.duration_s == 0.5
    assert found.energy_j == pytest.approx(250.0)
    assert found.before == Occupancy(frozenset(), 4_128_768)
    assert verdict(found) == (Validity.VALID, None)


def test_a_watch_samples_five_times_a_second_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    class StoppedAtTheFourthWait(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return len(waits) == 4

    monkeypatch.setattr(gpu_watch, "threading", SimpleNamespace(Event=StoppedAtTheFourthWait, Thread=threading.Thread))
    nvml = FakeNvml()
    watch = Gpus.now(nvml).watch(nvml.UUID)
    assert watch is not None
    with watch:
        pass
    assert waits == [0.1, 0.2, 0.2, 0.2]
    assert len(watch.seen.readings) == 3
    assert not watch._thread.is_alive()


def test_a_process_that_starts_in_the_timed_part_is_seen(clock: Clock) -> None:
    found = watched(FakeNvml(pids=((), (os.getpid(),), (os.getpid(), 4_000_000))), clock)
    assert verdict(found)[0] is Validity.CONTENDED


def test_the_drivers_samples_outside_of_the_timed_part_do_not_count(clock: Clock) -> None:
    samples = [(995.0, 0), (1000.1, 80), (1000.2, 100), (1060.0, 0)]
    told = [SimpleNamespace(timeStamp=int(at * 1e6), sampleValue=SimpleNamespace(uiVal=busy)) for at, busy in samples]
    assert watched(FakeNvml(nvmlDeviceGetSamples=(0, told)), clock).busy == pytest.approx(0.9)


def test_a_driver_before_535_is_queried_by_the_old_name(clock: Clock) -> None:
    old: dict[str, Any] = {
        "nvmlDeviceGetCurrentClocksEventReasons": None,
        "nvmlDeviceGetCurrentClocksThrottleReasons": 0x40,
    }
    assert verdict(watched(FakeNvml(((),), **old), clock))[0] is Validity.THROTTLED


def test_a_gpu_that_reports_nothing_is_valid_with_empty_cells(clock: Clock) -> None:
    nvml = FakeNvml(watts=None)
    nvml._answers.clear()
    found = watched(nvml, clock)
    assert set(cells(found, 1).values()) == {None}
    assert verdict(found) == (Validity.VALID, None)


def test_without_a_driver_there_is_nothing_to_watch() -> None:
    nvml = FakeNvml()
    nvml.nvmlInit = lambda: (_ for _ in ()).throw(nvml.NVMLError("Driver Not Loaded"))  # type: ignore[method-assign]
    assert Gpus.now(nvml).cards == {}
    assert Gpus.now(FakeNvml()).watch("GPU-another") is None


def test_a_mig_instance_has_no_telemetry_cells() -> None:
    """Its UUID is its own: the driver lists whole cards."""
    assert Gpus.now(FakeNvml()).watch("MIG-6d0cbd3b-0f2e-4f3c-9d5b-000000000001") is None
    found = measure(a_job(), "c", 1, FakeSession(a_job(), None), lambda _: None, Instruments(gpu=None))
    assert not found.keys() & cells(seen(), 1).keys()


def test_a_row_has_the_gpus_cells_and_says_what_disturbed_it(clock: Clock) -> None:
    nvml = FakeNvml(pids=((4711,), (4711, os.getpid())), clock=clock)
    watch = Gpus.now(nvml).watch(nvml.UUID)
    assert watch is not None
    job = a_job(warmup=0, repeats=1)
    session = FakeSession(job, None)
    generate = session.generate

    def slowly(samples: int) -> Any:
        if hasattr(watch, "_readings"):  # the first call comes before the trials
            wait_until(lambda: bool(watch._readings))
            clock.now += 0.3
        return generate(samples)

    session.generate = slowly  # type: ignore[method-assign]
    found = measure(dataclasses.replace(job, repeats=2), "c", 2, session, lambda _: None, Instruments(gpu=watch))
    assert found["validity"] is Validity.CONTENDED
    assert found["error"] == "contended: 1 other process on the GPU"
    assert found["energy_j"] == pytest.approx(500 * 0.6 / 4)
    assert found["temperature_c"] == 51


def test_orphans_of_our_session_count_as_ours() -> None:
    orphan = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3).pid)"
    pid = int(subprocess.run([sys.executable, "-c", orphan], capture_output=True, text=True, check=True).stdout)
    try:
        assert {pid, os.getpid()} <= own_pids()
        assert 1 not in own_pids() or os.getsid(0) == os.getsid(1)
    finally:
        os.kill(pid, 9)
