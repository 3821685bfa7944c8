"""The statements of the Lambda documents, recomputed from their published files by our metrics.

`docs/benchmark-update.md` describes lambda-benchmark.csv, `docs/benchmark.md` describes lambda/benchmark-2022.csv.
Where a document disagrees with its file, the test says so and holds the file's number.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from paths import DATA

from orchestrator.results.foreign import read_file
from orchestrator.table import Metric, compare
from orchestrator.table.measured import figure
from runner.schema import Row, Status

TODAY = read_file(DATA / "lambda-benchmark.csv")
WITHOUT_XFORMERS = read_file(DATA / "lambda" / "benchmark_no_xformers.csv")
IN_2022 = read_file(DATA / "lambda" / "benchmark-2022.csv")
AMPERE = ("NVIDIA GeForce RTX 3090", "NVIDIA RTX A5500", "NVIDIA GeForce RTX 3080", "NVIDIA RTX A6000")
A100 = "NVIDIA A100 80GB PCIe"


def the_row(rows: list[Row], device: str, precision: str, samples: int = 1, runtime: str = "pytorch") -> Row:
    asked = (device, precision, samples, runtime)
    (row,) = [row for row in rows if (row.device, row.precision, row.n_samples, row.runtime) == asked]
    return row


def value(metric: Metric, row: Row) -> float:
    return figure(metric, [row], None).value


def latency(device: str, precision: str, runtime: str = "pytorch") -> float:
    return value(Metric.LATENCY, the_row(IN_2022, device, precision, runtime=runtime))


def reduction(slow: float, fast: float) -> float:
    return 100 * (1 - fast / slow)


def largest(rows: list[Row], precision: str = "half") -> Mapping[str | None, int]:
    found: dict[str | None, int] = {}
    for row in rows:
        if row.status is Status.OK and row.precision == precision:
            found[row.device] = max(found.get(row.device, 0), row.n_samples or 0)
    return found


def test_the_a100_makes_1_85_images_a_second_at_batch_128() -> None:
    """«at the maximum batch size tested (128) at half precision we observe a throughput of 1.85 images/second»"""
    row = the_row(TODAY, "NVIDIA A100-SXM4-40GB", "half", 128)
    assert value(Metric.THROUGHPUT, row) / 60 == pytest.approx(1.85, abs=0.005)


def test_the_a100_sxm4_at_batch_128_is_the_best_of_the_file() -> None:
    """«Our best performance comes using NVIDIA A100-SXM4-40GB […] at the maximum batch size tested (128)»"""
    best = max((row for row in TODAY if row.status is Status.OK), key=lambda row: value(Metric.THROUGHPUT, row))
    assert (best.device, best.precision, best.n_samples) == ("NVIDIA A100-SXM4-40GB", "half", 128)


def test_xformers_allows_larger_batches_and_saves_memory() -> None:
    """«xformers provides a significant boost in performance and memory consumption allowing large batch sizes»

    Not at every batch size: the A100-SXM4-40GB at batch 1 in half precision takes 1.18 s with and without it.
    """
    with_, without = largest(TODAY), largest(WITHOUT_XFORMERS)
    assert {device: (with_[device], without[device]) for device in with_ if device in without} == {
        "NVIDIA A10": (128, 16),
        "NVIDIA A100 80GB PCIe": (128, 64),
        "NVIDIA A100-SXM4-40GB": (128, 16),
        "NVIDIA RTX A6000": (128, 16),
    }
    for device in ("NVIDIA A10", "NVIDIA RTX A6000"):
        ours, theirs = (the_row(rows, device, "half", 16) for rows in (TODAY, WITHOUT_XFORMERS))
        assert value(Metric.LATENCY, ours) < 0.7 * value(Metric.LATENCY, theirs)
        assert value(Metric.MEMORY, ours) < value(Metric.MEMORY, theirs)
    same = [the_row(rows, "NVIDIA A100-SXM4-40GB", "half") for rows in (TODAY, WITHOUT_XFORMERS)]
    assert [value(Metric.LATENCY, row) for row in same] == [1.18, 1.18]


def test_ampere_latencies_begin_at_3_74_and_end_at_5_59() -> None:
    """«The inference latencies range between `3.74` to `5.56` seconds across our tested Ampere GPUs, including the
    consumer 3080 card to the flagship A100 80GB card.» The file says 5.59 for the 3080.
    """
    found = {device: latency(device, "half") for device in (*AMPERE, A100)}
    assert min(found, key=found.__getitem__) == A100
    assert max(found, key=found.__getitem__) == "NVIDIA GeForce RTX 3080"
    assert (min(found.values()), max(found.values())) == (3.74, 5.59)


def test_half_precision_takes_40_percent_less_on_ampere() -> None:
    """«Half-precision reduces the latency by about `40%` for Ampere GPUs, and by `52%` for the previous generation
    `RTX8000` GPU.» The 3080 ran out of memory in single precision.
    """
    assert the_row(IN_2022, "NVIDIA GeForce RTX 3080", "single").status is Status.OOM
    for device in (*(device for device in AMPERE if "3080" not in device), A100):
        assert reduction(latency(device, "single"), latency(device, "half")) == pytest.approx(40, abs=2.5)
    rtx8000 = reduction(latency("Quadro RTX 8000", "single"), latency("Quadro RTX 8000", "half"))
    assert rtx8000 == pytest.approx(52, abs=0.5)


def test_onnxruntime_saves_38_and_58_percent_on_the_two_cpus() -> None:
    """«`onnxruntime` can reduce the latency for CPU by about `40%` to `50%`, depending on the type of CPUs.»

    The file says 38% for the Core i7 and 58% for the EPYC.
    """
    cpus = ("Intel(R) Core(TM) i7-6850K CPU @ 3.60GHz", "AMD EPYC 7352 24-Core Processor")
    saved = [reduction(latency(cpu, "single"), latency(cpu, "single", "onnx")) for cpu in cpus]
    assert saved == [pytest.approx(37.7, abs=0.05), pytest.approx(57.9, abs=0.05)]


def test_gpus_are_18_to_142_times_as_fast_as_cpus() -> None:
    """«GPUs are significantly faster -- by one or two orders of magnitudes depending on the precisions.»"""
    cpus = [value(Metric.LATENCY, row) for row in IN_2022 if "CPU" in str(row.device) or "EPYC" in str(row.device)]
    gpus = [latency(device, precision) for device in (A100, "Quadro RTX 8000") for precision in ("single", "half")]
    assert min(cpus) / max(gpus) == pytest.approx(18, abs=0.5)
    assert max(cpus) / min(gpus) == pytest.approx(142, abs=0.5)


@pytest.mark.parametrize(("precision", "stated"), [("single", 7.7), ("half", 4.5)])
def test_memory_at_batch_one_is_as_stated_on_every_gpu(precision: str, stated: float) -> None:
    """«It takes about `7.7 GB` GPU memory to run single-precision inference with batch size one.», «about `4.5 GB`
    […] half-precision», «consistent across all tested GPUs».
    """
    rows = [row for row in IN_2022 if (row.precision, row.n_samples) == (precision, 1) and row.memory]
    assert len(rows) == {"single": 5, "half": 6}[precision]
    assert all(value(Metric.MEMORY, row) == pytest.approx(stated, abs=0.085) for row in rows)


def test_batch_28_makes_64_percent_more_images_than_batch_1() -> None:
    """«A100 80GB's throughput increases by `64%` when we changed the batch size from 1 to 28»"""
    one, many = (value(Metric.THROUGHPUT, the_row(IN_2022, A100, "half", samples)) for samples in (1, 28))
    assert 100 * (many / one - 1) == pytest.approx(64, abs=0.5)


def test_the_a100_fits_the_largest_batch_and_makes_most_images() -> None:
    """«A100 80GB is the top performer and has the highest throughput», with «the larger maximum batch size»: 28 is «the
    largest without causing an out of memory error».
    """
    frontier = largest(IN_2022)
    assert frontier == {
        "NVIDIA GeForce RTX 3080": 1,
        "NVIDIA GeForce RTX 3090": 4,
        "NVIDIA RTX A5500": 4,
        "NVIDIA RTX A6000": 16,
        "Quadro RTX 8000": 16,
        A100: 28,
    }
    at_largest = {
        device: value(Metric.THROUGHPUT, the_row(IN_2022, str(device), "half", samples))
        for device, samples in frontier.items()
    }
    assert max(at_largest, key=at_largest.__getitem__) == A100


def of_table(metric: Metric, rows: list[Row], **where: object) -> dict[object, float]:
    """The values of a table of the rows, by host."""
    cells = compare(rows, metric).cells()
    chosen = [cell for cell in cells if all(cell.key.get(name) == value for name, value in where.items())]
    return {cell.key["host"]: cell.value for cell in chosen if cell.value is not None}


def test_the_tables_largest_batch_is_the_frontier_of_the_file() -> None:
    """The same as above, by the metric `largest-batch`: out of memory is a limit, not a latency of -1."""
    found = of_table(Metric.LARGEST_BATCH, IN_2022, precision="half")
    assert found == largest(IN_2022)
    assert of_table(Metric.LARGEST_BATCH, TODAY, precision="half")["Tesla V100-SXM2-16GB"] == 64


def test_the_tables_half_speedup_says_what_the_document_says() -> None:
    """«`40%` for Ampere GPUs, and by `52%` for the previous generation `RTX8000` GPU», by the metric `half-speedup`."""
    found = of_table(Metric.HALF_SPEEDUP, IN_2022, samples=1)
    assert 100 * (1 - 1 / found["Quadro RTX 8000"]) == pytest.approx(52, abs=0.5)
    ampere = [speedup for host, speedup in found.items() if host in (*AMPERE, A100)]
    assert len(ampere) == 4
    assert all(100 * (1 - 1 / speedup) == pytest.approx(40, abs=2.5) for speedup in ampere)
