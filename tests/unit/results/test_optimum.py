"""Reports that optimum-benchmark 0.6.0 saved on this project's machine (tests/data/README.md), and edits of them."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paths import DATA

from orchestrator.errors import InputError
from orchestrator.results import optimum
from orchestrator.results.foreign import read_file
from orchestrator.results.optimum_report import unflattened
from orchestrator.table import Metric, compare
from runner.schema import Row, Status, format_rows

FILES = DATA / "optimum-benchmark"
BENCHMARK: dict[str, Any] = json.loads((FILES / "benchmark.json").read_text())


def imported(tmp_path: Path, edit: Callable[[dict[str, Any]], None] = lambda value: None) -> Row:
    """The row of the saved benchmark with an edit."""
    value = copy.deepcopy(BENCHMARK)
    edit(value)
    (tmp_path / "benchmark.json").write_text(json.dumps(value, indent=4))
    (row,) = read_file(tmp_path / "benchmark.json")
    return row


def set_(path: str, new: object) -> Callable[[dict[str, Any]], None]:
    def edit(value: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for parent in parents:
            value = value[parent]
        value[last] = new

    return edit


def on_a_gpu(value: dict[str, Any]) -> None:
    """As optimum-benchmark's dataclasses fill it on an NVIDIA machine."""
    value["config"]["backend"] |= {"device": "cuda", "device_ids": "1", "torch_dtype": "float16"}
    value["config"]["environment"] |= {"gpu": ["NVIDIA T4", "NVIDIA H100 PCIe"], "gpu_count": 2, "gpu_vram_mb": 1}
    value["report"]["call"]["memory"] |= {
        "max_ram": 1500.0,
        "max_global_vram": 4000.0,
        "max_process_vram": 3600.0,
        "max_reserved": 3210.0,
        "max_allocated": 2900.0,
    }
    value["report"]["call"]["energy"] = {"unit": "kWh", "cpu": 1.0, "ram": 1.0, "gpu": 0.0001, "total": 2.0001}


def test_a_saved_benchmark_is_one_row_with_its_raw_latencies() -> None:
    (row,) = read_file(FILES / "benchmark.json")
    assert (row.status, row.engine, row.runtime, row.precision, row.autocast) == (
        Status.OK,
        "eager",
        "pytorch",
        "single",
        False,
    )
    assert (row.device, row.host, row.cpu) == ("AMD EPYC",) * 3
    assert (row.model, row.n_samples, row.steps, row.height, row.width) == ("tiny-sd", 2, 4, 128, 128)
    call = BENCHMARK["report"]["call"]
    assert row.trials == tuple(call["latency"]["values"])
    assert (row.repeats, row.latency_median) == (7, call["latency"]["p50"])
    assert row.latency_p90 == pytest.approx(call["latency"]["p90"])
    assert row.latency == pytest.approx(call["latency"]["mean"])
    assert row.throughput == pytest.approx(60 * 2 / call["latency"]["p50"])
    assert row.latency_std == pytest.approx(call["latency"]["stdev"] * (7 / 6) ** 0.5)  # theirs divides by n
    assert [row.memory, row.memory_host] == pytest.approx([0.62533632] * 2)
    assert [row.load_s, row.first_call_s] == pytest.approx([0.175892711, 0.248828293])
    assert (row.python, row.torch, row.diffusers, row.threads) == ("3.11.7", "2.13.0+cpu", "0.35.1", 1)
    assert (row.work, row.prompt, row.seed, row.energy_j, row.validity, row.settings) == (None,) * 6


def test_its_csv_and_its_report_beside_its_configuration_are_the_same_row(tmp_path: Path) -> None:
    expected = read_file(FILES / "benchmark.json")
    assert read_file(FILES / "benchmark.csv") == expected
    assert read_file(FILES / "benchmark_report.json") == expected
    flat = json.dumps({**dict(flattened(BENCHMARK))})
    (tmp_path / "flat.json").write_text(flat)
    assert read_file(tmp_path / "flat.json") == expected


def flattened(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        return [(prefix.removesuffix("."), value)]
    return [pair for key, below in value.items() for pair in flattened(below, f"{prefix}{key}.")]


def test_a_report_without_its_configuration_says_what_to_import(tmp_path: Path) -> None:
    for name in ("benchmark_report.json", "benchmark_report.csv"):
        shutil.copy(FILES / name, tmp_path)
        with pytest.raises(InputError, match=r"without its configuration.*fix: import benchmark\.json"):
            read_file(tmp_path / name)
    with pytest.raises(InputError, match="is a configuration of optimum-benchmark without results"):
        read_file(FILES / "benchmark_config.json")


def test_on_a_gpu_memory_is_pytorchs_and_energy_is_the_gpus(tmp_path: Path) -> None:
    row = imported(tmp_path, on_a_gpu)
    assert (row.device, row.host, row.precision) == ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe", "half")
    assert (row.memory, row.memory_peak, row.memory_host) == (3.21, 2.9, 1.5)
    assert row.energy_j == pytest.approx(0.0001 * 3.6e6 / 2)
    assert row.threads is None


@pytest.mark.parametrize(
    ("path", "new", "column", "expected"),
    [
        ("config.backend.torch_compile", True, "engine", "compile"),
        ("config.backend.deepspeed_inference", True, "engine", "deepspeed"),
        ("config.backend.name", "onnxruntime", "engine", "onnxruntime"),
        ("config.backend.name", "onnxruntime", "runtime", "onnx"),
        ("config.backend.name", "openvino", "engine", "openvino"),
        ("config.backend.torch_dtype", "float16", "precision", "half"),
        ("config.backend.torch_dtype", "bfloat16", "precision", "bfloat16"),
        ("config.backend.torch_dtype", None, "precision", None),
        ("config.scenario.call_kwargs", {}, "steps", 30),
        ("config.scenario.call_kwargs", {"guidance_scale": 3.5}, "guidance", 3.5),
        ("config.backend.allow_tf32", True, "settings", '{"allow_tf32":"true"}'),
        ("config.backend.quantization_config", {"bits": 8}, "settings", '{"quantization_config":"{\\"bits\\": 8}"}'),
        ("config.scenario.call_kwargs", {"eta": 0.5}, "settings", '{"eta":"0.5"}'),
    ],
)
def test_what_it_states_goes_to_its_column(
    path: str, new: object, column: str, expected: object, tmp_path: Path
) -> None:
    assert getattr(imported(tmp_path, set_(path, new)), column) == expected


def test_a_report_of_version_0_4_names_the_load_otherwise(tmp_path: Path) -> None:
    def edit(value: dict[str, Any]) -> None:
        del value["report"]["first_call"], value["report"]["per_step"]
        value["report"]["load"] = value["report"].pop("load_model")

    row = imported(tmp_path, edit)
    assert row.load_s == pytest.approx(0.175892711)
    assert (row.first_call_s, row.repeats) == (None, 7)


def test_a_report_of_version_0_2_has_the_call_alone(tmp_path: Path) -> None:
    row = imported(tmp_path, lambda value: value.update(report={"call": value["report"]["call"]}))
    assert (row.load_s, row.first_call_s, row.repeats) == (None, None, 7)


def test_images_of_one_call_are_batch_times_images_of_a_prompt(tmp_path: Path) -> None:
    def edit(value: dict[str, Any]) -> None:
        value["config"]["scenario"]["call_kwargs"]["num_images_per_prompt"] = 4
        value["report"]["call"]["throughput"]["value"] *= 4

    assert imported(tmp_path, edit).n_samples == 8


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        ("config.backend.task", "text-generation", "is a report of the task 'text-generation'; only 'text-to-image'"),
        ("config.backend.task", "image-to-image", "is a report of the task 'image-to-image'"),
        ("config.backend.task", None, "is a report of the task 'None'"),
        ("config.scenario.name", "training", "is a report of the scenario 'training'"),
        ("config.scenario.name", "energy_star", "is a report of the scenario 'energy_star'"),
        ("config.launcher.nproc_per_node", 2, "joins 2 processes"),
        ("report.call.latency", None, "has no report.call.latency"),
        ("report.call.latency.unit", "ms", r"report.call.latency.unit is 'ms', expected 's'"),
        ("report.call.memory.unit", "MiB", r"report.call.memory.unit is 'MiB', expected 'MB'"),
        ("report.call.latency.values", [], "report.call.latency.values is no list of numbers"),
        ("report.call.latency.values", [0.1, "0.2"], "has a value that is no number"),
        ("report.call.latency.values", [0.1, 0], "has a call that took no time"),
        ("report.call.latency.values", [0.1, 0.1], "report.call.latency.mean is 0.304532, but its values give 0.1"),
        ("report.call.throughput.value", 3.0, "is of 0.914 images a call, and the configuration of 2"),
        ("report.call.memory.max_ram", True, "report.call.memory.max_ram is not a finite number"),
        ("config.scenario.input_shapes", {}, "input_shapes.batch_size is missing"),
        ("config.scenario.input_shapes.batch_size", -2, "n_samples is impossible: -2"),
        ("config.backend.model", ["a"], "config.backend.model is not a text"),
        ("config.environment", {}, "config.environment names no device"),
        ("config.backend.model", "\x1b[31m=cmd|1", None),
    ],
)
def test_what_is_not_comparable_or_not_theirs_is_refused(
    path: str, new: object, message: str | None, tmp_path: Path
) -> None:
    if message is None:
        model = imported(tmp_path, set_(path, new)).model
        assert model is not None
        assert "\x1b" not in model
        return
    with pytest.raises(InputError, match=message):
        imported(tmp_path, set_(path, new))


def test_its_rows_compare_among_themselves_and_with_no_others(tmp_path: Path) -> None:
    eager = imported(tmp_path)
    compiled = imported(tmp_path, set_("config.backend.torch_compile", True))
    lines = compare([eager, compiled], Metric.LATENCY, baseline="eager").lines
    ratios = [cell.ratio.value for line in lines for cell in line.cells if cell.ratio]
    assert ratios == [1.0]


def paths(value: Any, prefix: str = "") -> list[str]:
    """The paths of all values, branches included, but not those of steps and launchers."""
    if not isinstance(value, dict):
        return []
    own = [prefix + key for key in value if key not in ("per_step", "launcher")]
    return own + [path for key, below in value.items() for path in paths(below, f"{prefix}{key}.")]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


@given(st.sampled_from(paths(BENCHMARK)), values)
def test_any_value_anywhere_in_a_report_is_a_row_or_an_input_error(path: str, new: Any) -> None:
    value = copy.deepcopy(BENCHMARK)
    set_(path, new)(value)
    with contextlib.suppress(InputError):
        row = optimum.row(value, "x.json")
        assert row.status is Status.OK
        assert row.trials
        format_rows([row])


@given(
    st.lists(st.sampled_from(["config.backend.name", "config.backend.task", "report.call.latency", "a.b", ""])), values
)
def test_any_record_of_its_csv_is_a_row_or_an_input_error(header: list[str], new: Any) -> None:
    with contextlib.suppress(InputError):
        optimum.row(unflattened(["config.backend.name", *header], [str(new)] * 9), "x.csv")
