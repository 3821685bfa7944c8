"""What is made of NVML's answers, and that a watch asks for them while something runs and lets nothing escape."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from fake_engine import FakeSession, job_of
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


def test_energy_is_the_counters_where_there_is_one() -> None:
    found = cells(seen(energy_j=800.0), images=4)
    assert (found["energy_j"], found["power_w"]) == (200.0, 400.0)


def test_energy_is_the_mean_power_over_the_time_where_there_is_no_counter() -> None:
    found = cells(seen(dataclasses.replace(FULL, power_w=300.0), dataclasses.replace(FULL, power_w=500.0)), images=4)
    assert (found["energy_j"], found["power_w"]) == (200.0, 400.0)


def test_clocks_are_averaged_and_of_temperatures_the_highest_counts() -> None:
    found = cells(seen(FULL, Reading(sm_clock_mhz=1000, temperature_c=70)), images=1)
    assert (found["sm_clock_mhz"], found["temperature_c"]) == (1490.0, 70)


def test_the_drivers_own_samples_of_the_timed_part_go_before_our_looks() -> None:
    assert cells(seen(busy=0.4), 1)["gpu_busy"] == 0.4
    assert cells(seen(), 1)["gpu_busy"] == 0.9


def test_what_was_not_told_is_empty_and_never_0() -> None:
    assert set(cells(seen(Reading()), 1).values()) == {None}


def test_a_time_shorter_than_the_counters_steps_has_no_energy() -> None:
    found = cells(seen(duration_s=0.3, energy_j=100.0, busy=0.5), 1)
    assert (found["energy_j"], found["power_w"], found["gpu_busy"]) == (None, None, None)
    assert found["sm_clock_mhz"] == 1980


@pytest.mark.parametrize("bit", [0x8, 0x20, 0x40, 0x80])
def test_clocks_lowered_by_heat_or_hardware_are_throttled(bit: int) -> None:
    found, why = verdict(seen(FULL, dataclasses.replace(FULL, reasons=bit | 0x4)))
    assert found is Validity.THROTTLED
    assert "in 1 of 2 samples" in str(why)


@pytest.mark.parametrize("bit", [0, 0x1, 0x2, 0x10, 0x100])
def test_an_idle_moment_or_clocks_that_somebody_set_are_not(bit: int) -> None:
    assert verdict(seen(dataclasses.replace(FULL, reasons=bit))) == (Validity.VALID, None)


def test_a_card_at_its_own_power_limit_works_as_it_is_sold_and_one_below_it_is_throttled() -> None:
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
def test_our_own_process_is_never_another_one(
    case: str, before: tuple[int, ...], during: tuple[int, ...], mine: tuple[int, ...], others: int
) -> None:
    found, why = verdict(seen(before=pids(*before), during=pids(*during), mine=frozenset(mine)))
    assert found is (Validity.CONTENDED if others else Validity.VALID), case
    assert (f"{others} other process" in str(why)) == bool(others)


def test_where_nobody_is_listed_memory_in_use_before_us_tells() -> None:
    before = Occupancy(used_bytes=3_000_000_000)
    assert verdict(seen(before=before))[1] == "contended: 3.0 GB of the GPU were in use before the model was loaded"
    assert verdict(seen(before=Occupancy(used_bytes=4_000_000)))[0] is Validity.VALID
    listed = seen(before=before, during=pids(10), mine=frozenset({10}))
    assert verdict(listed)[0] is Validity.VALID


def watched(nvml: FakeNvml, seconds: float = 0.35) -> Observed:
    watch = Gpus.now(nvml).watch(nvml.UUID)
    assert watch is not None
    with watch:
        time.sleep(seconds)
    return watch.seen


def test_a_watch_reads_what_nvml_says_in_its_own_units() -> None:
    found = watched(FakeNvml(pids=((), (os.getpid(),))))
    assert found.readings[0] == Reading(1980, 51, 512.345, 0.97, 0)
    assert (found.power_limit_w, found.default_limit_w) == (700.0, 700.0)
    assert found.energy_j == pytest.approx(500 * found.duration_s, rel=0.1)
    assert found.before == Occupancy(frozenset(), 4_128_768)
    assert verdict(found) == (Validity.VALID, None)


def test_a_watch_looks_a_few_times_a_second_and_not_between_two_watches() -> None:
    nvml = FakeNvml()
    assert 2 <= len(watched(nvml, 0.55).readings) <= 4
    asked = len(nvml.asked)
    time.sleep(2 * gpu_watch.PERIOD_S)
    assert len(nvml.asked) == asked


def test_a_process_that_comes_in_the_timed_part_is_seen() -> None:
    found = watched(FakeNvml(pids=((), (os.getpid(),), (os.getpid(), 4_000_000))))
    assert verdict(found)[0] is Validity.CONTENDED


def test_the_drivers_samples_outside_of_the_timed_part_do_not_count() -> None:
    now_us = time.time() * 1e6
    samples = [(now_us - 5e6, 0), (now_us + 0.1e6, 80), (now_us + 0.2e6, 100), (now_us + 60e6, 0)]
    told = [SimpleNamespace(timeStamp=int(at), sampleValue=SimpleNamespace(uiVal=value)) for at, value in samples]
    assert watched(FakeNvml(nvmlDeviceGetSamples=(0, told))).busy == pytest.approx(0.9)


def test_a_driver_before_535_is_asked_by_the_old_name() -> None:
    old: dict[str, Any] = {
        "nvmlDeviceGetCurrentClocksEventReasons": None,
        "nvmlDeviceGetCurrentClocksThrottleReasons": 0x40,
    }
    assert verdict(watched(FakeNvml(((),), **old)))[0] is Validity.THROTTLED


def test_a_gpu_that_tells_nothing_disturbs_nothing() -> None:
    nvml = FakeNvml(watts=None)
    nvml._answers.clear()
    found = watched(nvml)
    assert set(cells(found, 1).values()) == {None}
    assert verdict(found) == (Validity.VALID, None)


def test_without_a_driver_there_is_nothing_to_watch() -> None:
    nvml = FakeNvml()
    nvml.nvmlInit = lambda: (_ for _ in ()).throw(nvml.NVMLError("Driver Not Loaded"))  # type: ignore[method-assign]
    assert Gpus.now(nvml).cards == {}
    assert Gpus.now(FakeNvml()).watch("GPU-another") is None


def test_a_mig_instance_has_no_telemetry_and_a_row_without_it_no_cells() -> None:
    """Its UUID is its own: the driver lists whole cards."""
    assert Gpus.now(FakeNvml()).watch("MIG-6d0cbd3b-0f2e-4f3c-9d5b-000000000001") is None
    found = measure(job_of(), "c", 1, FakeSession(job_of(), None), lambda _: None, Instruments(gpu=None))
    assert not found.keys() & cells(seen(), 1).keys()


def test_a_row_has_the_gpus_cells_and_says_what_disturbed_it() -> None:
    nvml = FakeNvml(pids=((4711,), (4711, os.getpid())))
    watch = Gpus.now(nvml).watch(nvml.UUID)
    job = job_of(warmup=0, repeats=1)
    session = FakeSession(job, None)
    generate = session.generate

    def slowly(samples: int) -> Any:
        time.sleep(0.3)
        return generate(samples)

    session.generate = slowly  # type: ignore[method-assign]
    found = measure(dataclasses.replace(job, repeats=2), "c", 2, session, lambda _: None, Instruments(gpu=watch))
    assert found["validity"] is Validity.CONTENDED
    assert found["error"] == "contended: 1 other process on the GPU"
    assert found["energy_j"] == pytest.approx(500 * 0.6 / 4, rel=0.2)
    assert found["temperature_c"] == 51


def test_what_we_start_is_ours_also_when_its_parent_has_gone() -> None:
    orphan = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3).pid)"
    pid = int(subprocess.run([sys.executable, "-c", orphan], capture_output=True, text=True, check=True).stdout)
    try:
        assert {pid, os.getpid()} <= own_pids()
        assert 1 not in own_pids() or os.getsid(0) == os.getsid(1)
    finally:
        os.kill(pid, 9)
