"""Imports a report of Hugging Face's optimum-benchmark: one row of a text-to-image benchmark, with its raw latencies.

The format is that of optimum_benchmark 0.2 to 0.6: `benchmark.json` and `benchmark.csv` hold `config` and `report`,
`benchmark_report.json` holds the report alone. Memory is in MB (10^6 bytes), energy in kWh for one call.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.errors import InputError
from orchestrator.results.lambda_script import PRECISION_WORDS
from orchestrator.results.optimum_report import Report, is_header, nested
from orchestrator.results.settings import LONGEST_NAME, LONGEST_VALUE, shortened
from orchestrator.results.validate import STATISTICS, TOLERANCE, made_harmless, within
from runner.schema import COLUMN, ENGINES, Row, Status

CONFIG = "benchmark_config.json"  # beside benchmark_report.json
TASK, SCENARIO = "text-to-image", "inference"
DEFAULT_STEPS = 30  # optimum-benchmark's own, in all its versions; an unchanged default is not in the file
JOULES_PER_KWH = 3.6e6
# A backend's options that columns hold, and those that change no result. Any other that is set is a setting.
IN_COLUMNS = frozenset({"name", "version", "model", "device", "device_ids", "torch_dtype", "autocast_enabled"}) | {
    "torch_compile",
    "torch_compile_target",
    "deepspeed_inference",
    "half",
    "intra_op_num_threads",
}
NO_EFFECT = frozenset({"_target_", "processor", "task", "library", "model_type", "seed", "inter_op_num_threads"}) | {
    "eval_mode",
    "provider",
    "export",
    "low_cpu_mem_usage",
}
CALL_IN_COLUMNS = frozenset({"num_inference_steps", "num_images_per_prompt", "height", "width", "guidance_scale"})


def row(value: Mapping[str, Any], name: str) -> Row:
    """Returns the report's row. Raises InputError if it is of another task, or not what the tool writes."""
    if is_header(list(value)):
        value = nested(value.items())
    _require_text_to_image(value, name)
    report = Report(value, name)
    found = _row(report)
    if report.problems:
        raise InputError([f"{name}: {problem}" for problem in report.problems[:20]])
    return found


def _require_text_to_image(value: Mapping[str, Any], name: str) -> None:
    if "report" not in value and "backend" in value:
        raise InputError(f"{name}: is a configuration of optimum-benchmark without results; fix: import benchmark.json")
    if "config" not in value:
        raise InputError(
            f"{name}: is a report of optimum-benchmark without its configuration: neither device nor model is known; "
            "fix: import benchmark.json, which holds both"
        )
    report = Report(value, name)
    task, scenario = report.get("config.backend.task"), report.get("config.scenario.name")
    if task != TASK:
        raise InputError(f"{name}: is a report of the task {str(task)[:40]!r}; only {TASK!r} can be compared with rows")
    if scenario != SCENARIO:
        raise InputError(
            f"{name}: is a report of the scenario {str(scenario)[:40]!r}; only {SCENARIO!r} times single calls"
        )
    processes = report.get("config.launcher.nproc_per_node")
    if processes not in (None, 1):
        raise InputError(f"{name}: joins {str(processes)[:20]} processes; only the report of one process is a row")
    if report.get("report.call.latency") is None:
        raise InputError(f"{name}: has no report.call.latency: the benchmark was run with latency=false, or it failed")


def _row(report: Report) -> Row:
    on_gpu = report.get("config.backend.device") not in ("cpu", "CPU", None)
    latencies = report.numbers("report.call.latency.values")
    mean = report.quantity("report.call.latency", "mean")
    samples = _samples(report, mean)
    engine, runtime = _engine(report)
    device = _gpu(report) if on_gpu else report.text("config.environment.cpu")
    steps = report.whole("config.scenario.call_kwargs.num_inference_steps") or DEFAULT_STEPS
    found = Row(
        device=device,
        host=device,
        run=report.text("config.name"),
        precision=_precision(report),
        autocast=_flag(report, "config.backend.autocast_enabled"),
        runtime=runtime,
        engine=engine,
        n_samples=samples,
        model=report.text("config.backend.model"),
        steps=steps,
        height=report.whole("config.scenario.call_kwargs.height"),
        width=report.whole("config.scenario.call_kwargs.width"),
        guidance=report.number("config.scenario.call_kwargs.guidance_scale"),
        status=Status.OK,
        trials=latencies or None,
        repeats=len(latencies) or None,
        load_s=report.quantity(f"report.{_load_target(report)}.latency", "mean"),
        first_call_s=report.quantity("report.first_call.latency", "mean"),
        energy_j=_energy(report, samples) if on_gpu else None,
        python=report.text("config.environment.python_version"),
        torch=report.text("config.backend.version") if runtime == "pytorch" else None,
        diffusers=report.text("config.environment.diffusers_version"),
        cpu=report.text("config.environment.cpu"),
        threads=None if on_gpu else report.whole("config.backend.intra_op_num_threads"),
        settings=_settings(report),
        **_memory(report, on_gpu=on_gpu),
    )
    report.problems.extend(_faults(found, mean))
    return made_harmless(_with_statistics(found, latencies, steps)) if latencies else found


def _load_target(report: Report) -> str:
    return "load_model" if report.get("report.load_model") else "load"  # optimum-benchmark 0.4


def _samples(report: Report, mean: float | None) -> int | None:
    """Returns the images of one call. The throughput, images over the mean latency, must say the same."""
    batch = report.whole("config.scenario.input_shapes.batch_size")
    each = report.whole("config.scenario.call_kwargs.num_images_per_prompt")
    if batch is None:
        report.problems.append("config.scenario.input_shapes.batch_size is missing")
        return None
    samples = batch * (1 if each is None else each)
    throughput = report.quantity("report.call.throughput", "value")
    if None not in (throughput, mean) and not math.isclose(throughput * mean, samples, rel_tol=TOLERANCE):  # type: ignore[operator]
        report.problems.append(
            f"report.call.throughput is of {throughput * mean:.3g} images a call, and the configuration of {samples}"  # type: ignore[operator]
        )
    return samples


def _with_statistics(found: Row, latencies: Sequence[float], steps: int) -> Row:
    middle = statistics.median(latencies)
    several = len(latencies) > 1
    derived: dict[str, Any] = {name: computed(found, latencies, middle) for name, computed in STATISTICS.items()}
    return replace(
        found,
        **derived,
        latency_std=statistics.stdev(latencies) if several else None,
        latency_p90=statistics.quantiles(latencies, n=10, method="inclusive")[8] if several else latencies[0],
        steps_per_s=steps / middle,
    )


def _faults(found: Row, mean: float | None) -> Iterator[str]:
    for column in COLUMN.values():
        if not within(column, getattr(found, column.name)):
            yield f"{column.name} is impossible: {str(getattr(found, column.name))[:40]}"
    if found.device is None:
        yield "config.environment names no device"
    if found.trials and mean is not None and not math.isclose(mean, statistics.fmean(found.trials), rel_tol=TOLERANCE):
        yield f"report.call.latency.mean is {mean:g}, but its values give {statistics.fmean(found.trials):.6g}"


def _engine(report: Report) -> tuple[str | None, str | None]:
    """Returns the engine and the Lambda benchmark's name of its runtime."""
    backend = report.text("config.backend.name")
    if backend is None:
        return None, None
    if backend != "pytorch":
        return backend, ENGINES[backend].runtime if backend in ENGINES else backend
    if report.get("config.backend.deepspeed_inference"):
        return "deepspeed", backend
    return "compile" if report.get("config.backend.torch_compile") else "eager", backend


def _precision(report: Report) -> str | None:
    if report.get("config.backend.half") is True:  # OpenVINO's
        return "half"
    dtype = report.text("config.backend.torch_dtype")
    return None if dtype in (None, "auto") else PRECISION_WORDS.get(dtype, dtype)


def _flag(report: Report, path: str) -> bool | None:
    value = report.get(path)
    return value if isinstance(value, bool) else None


def _gpu(report: Report) -> str | None:
    """Returns the name of the GPU that was used; `2x NAME` for two."""
    names = report.get("config.environment.gpu")
    names = names if isinstance(names, list) else [names]
    used = [part for part in str(report.get("config.backend.device_ids") or "0").split(",") if part.strip().isdecimal()]
    chosen = [names[int(part)] for part in used if len(part) < 5 and int(part) < len(names)] or names
    different = list(dict.fromkeys(str(name).strip() for name in chosen if name))
    if not different:
        return None
    count = f"{len(used)}x " if len(used) > 1 else ""
    return f"{count}{' + '.join(different[:8])}"


def _memory(report: Report, *, on_gpu: bool) -> dict[str, Any]:
    """Returns what columns of ours mean the same: on a GPU PyTorch's own counts, on a CPU the peak resident set."""
    names = ("max_reserved", "max_allocated", "max_ram") if on_gpu else ("max_ram",) * 3
    found = (report.quantity("report.call.memory", name) for name in names)
    gigabytes = (None if megabytes is None else megabytes / 1000 for megabytes in found)
    return dict(zip(("memory", "memory_peak", "memory_host"), gigabytes))


def _energy(report: Report, samples: int | None) -> float | None:
    """Returns the GPU's joules for one image. The tool's total adds estimates for the CPU and the RAM."""
    kilowatt_hours = report.quantity("report.call.energy", "gpu")
    return kilowatt_hours * JOULES_PER_KWH / samples if kilowatt_hours and samples else None


def _settings(report: Report) -> str | None:
    """Returns the options that were set and that no column holds, so that rows that differ there are not compared."""
    options: list[tuple[str, Any]] = []
    for path, known in (("config.backend", IN_COLUMNS | NO_EFFECT), ("config.scenario.call_kwargs", CALL_IN_COLUMNS)):
        found = report.mapping(path)
        options += [(key, value) for key, value in found.items() if key not in known]
    set_ = {key: value for key, value in options if value not in (None, False, "", {}, [])}
    if set_.get("processor_kwargs") == set_.get("model_kwargs"):
        set_.pop("processor_kwargs", None)
    texts = {
        shortened(key, LONGEST_NAME): shortened(
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str), LONGEST_VALUE
        )
        for key, value in set_.items()
    }
    return json.dumps(texts, ensure_ascii=False, separators=(",", ":")) if texts else None
