"""The schema that orchestrator and runner share: jobs, rows, events. Standard library only.

A `Job` goes into a container as JSON. `Row`s come back as CSV, one per case. While it runs, `Event`s are printed to
standard output, one JSON object per line.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import functools
import hashlib
import io
import itertools
import json
import math
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypeAlias

from runner.catalog import ENGINES as ENGINES
from runner.catalog import NONE
from runner.catalog import Device as Device
from runner.catalog import EngineFacts as EngineFacts
from runner.catalog import Precision as Precision

SCHEMA_VERSION = 1
csv.field_size_limit(1 << 20)  # 10 000 trials are 200 kB, and Python's own limit is 131 kB


class SchemaError(ValueError):
    """Foreign data that does not follow the schema; the message names the line and the column."""


class Status(str, Enum):
    """How a case ended. Only `ok`, `oom` and `unsupported` are outcomes; the others are faults."""

    OK = "ok"
    OOM = "oom"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"
    TIMEOUT = "timeout"
    LOST = "lost"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"

    @property
    def is_fault(self) -> bool:
        return self not in (Status.OK, Status.OOM, Status.UNSUPPORTED)


class Validity(str, Enum):
    """Whether a measurement may rank: only `valid` does."""

    VALID = "valid"
    THROTTLED = "throttled"
    CONTENDED = "contended"
    FALLBACK = "fallback"
    SPILLED = "spilled"
    UNSTABLE = "unstable"


def stable_hash(value: object, length: int = 12) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of a JSON value, the same on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


IMPORT = "import"  # in place of a job's id, in the rows of `orchestrator import`
MAX: Literal["max"] = "max"
# The largest batch that may be asked for, and the last that a search for `max` tries.
MOST_SAMPLES = 4096
Samples: TypeAlias = int | Literal["max"]


@dataclass(frozen=True, slots=True)
class Case:
    """One future row: a batch size within a job. `id` is stable across runs.

    samples: MAX is the largest that fits, which the runner finds.
    """

    id: str
    samples: Samples

    @property
    def size(self) -> float:
        """The batch size for comparisons: MAX is larger than any number."""
        return math.inf if self.samples == MAX else self.samples


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """The cases that share a model load, as the runner receives them.

    model: a hub id, a folder, or `synthetic:SIZE`.
    height, width: pixels of the image; None is the model's own size.
    repeats, max_repeats, rel_ci: at least `repeats` timed calls, then more until the relative half-width of the
        median's 95% confidence interval is at most `rel_ci` or `max_repeats` are done; rel_ci None stops at `repeats`.
    timeout_s: for each case, model load included; the runner ends a case that takes longer and goes on with the next.
    quality: compare each case's first image with single-precision eager's from the same latents.
    threads: of the CPU, for whatever computes; None is the library's own choice.
    offload: where weights are kept until they are needed. step_cache: `none`, or NAME:NUMBER of a lossy cache.
    round: which of the run's rounds, from 1; None where that is not known, as in runs of before rounds were recorded.
    image: what the container was made from (`repository:tag@sha256:…`), empty where there is none; for provenance.
    """

    run: str
    id: str
    host: str
    device: Device
    engine: str
    precision: Precision
    model: str
    cases: tuple[Case, ...]
    prompt: str
    steps: int
    height: int | None = None
    width: int | None = None
    guidance: float = 7.5
    scheduler: str = "pndm"
    seed: int = 0
    autocast: bool = False
    attention: str = "default"
    offload: str = NONE
    step_cache: str = NONE
    warmup: int = 2
    repeats: int = 3
    max_repeats: int = 3
    rel_ci: float | None = None
    timeout_s: float = 1800.0
    quality: bool = False
    threads: int | None = None
    round: int | None = None
    image: str = ""

    @property
    def image_flavour(self) -> str:
        return ENGINES[self.engine].images[self.device]

    @property
    def timed_parts(self) -> int:
        """How many parts of the job may each take timeout_s: cases, searches for the largest batch, reference image."""
        return len(self.cases) + sum(case.samples == MAX for case in self.cases) + self.quality

    def to_json(self, indent: int | None = 1) -> str:
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["cases"] = [{name: getattr(case, name) for name in case.__slots__} for case in self.cases]
        return json.dumps(fields, sort_keys=True, indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Job:
        """Raises SchemaError where the text is not a job of this version of the schema."""
        try:
            fields = json.loads(text)
            cases = tuple(Case(**case) for case in fields.pop("cases"))
            device, precision = Device(fields.pop("device")), Precision(fields.pop("precision"))
            own = fields.pop("id")
            # the jobs of a run repeat the same few texts: 100,000 jobs take 100 MB less
            fields = {name: sys.intern(value) if isinstance(value, str) else value for name, value in fields.items()}
            job = cls(**fields, id=own, cases=cases, device=device, precision=precision)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise SchemaError(f"not a job of schema version {SCHEMA_VERSION}: {error}") from error
        if not all(map(_has_types_of_its_fields, (job, *job.cases))):
            raise SchemaError(f"not a job of schema version {SCHEMA_VERSION}: a field is not of its type")
        return job

    def work(self, samples: int, height: int | None = None, width: int | None = None) -> str:
        """A hash of what the pipeline computes, whatever computes it; rows with equal hashes may be compared.

        height, width: the model's own, for a job that leaves them open: an image of 128 pixels is equal work whether
        the job or the model says so. The weights are not in it, since older rows do not state them: where two rows
        have different `weights`, their work is not equal either.
        """
        size = (self.height or height, self.width or width)
        asked = (self.model, self.prompt, self.steps, *size, self.guidance, self.scheduler, self.seed)
        return stable_hash([SCHEMA_VERSION, *asked, samples])


class SetBy(str, Enum):
    """Who may set a column. A runner's values are checked and its texts are neutralised; it cannot change a job's.

    JOB: the job; a runner must repeat it. JOB_OR_RUNNER: as JOB, but the runner where the job leaves it open.
    RUNNER: whoever measures. ORCHESTRATOR_OR_RUNNER: the orchestrator too, for a case that left no row.
    IMPORT: `orchestrator import`, out of somebody's file; it is empty in every row of a job.
    """

    JOB = "job"
    JOB_OR_RUNNER = "job, else runner"
    RUNNER = "runner"
    ORCHESTRATOR_OR_RUNNER = "orchestrator, runner"
    IMPORT = "import"


class Form(str, Enum):
    """What a text column holds, where other programs are known to change it on the way."""

    HASH = "hash"
    VERSION = "version"
    TIME = "time"
    BATCH = "batch"


# The largest integer that a float holds exactly; larger than any of our numbers.
LARGEST_NUMBER = float(2**53 - 1)
# A share or an index of similarity that is 1 may have been rounded up.
ONE = 1 + 1e-3
# A row with a lower PSNR is marked as visibly another image and not ranked: the level at which lossy image coding
# becomes visible (docs/quality.md).
GATE_DB = 30.0
# The PSNR of identical images. It stands for infinity, which JSON and readers of CSV cannot represent: two 8-bit images
# of the largest size that a job may ask for (16384 × 16384) that differ by one level in one channel of one pixel have
# 137.2 dB.
IDENTICAL_DB = 150.0


@dataclass(frozen=True)
class Column:
    """The declaration of a column; every list of columns is derived from it.

    kind: the type of its values: str, int, float, bool, tuple (of floats) or an Enum.
    section: the heading under which docs/columns.md lists it.
    least, most: bounds of a number. longest: characters of a text. form: of a text.
    later: a results.csv of an older version lacks it.
    """

    name: str
    section: str
    kind: Any
    unit: str
    meaning: str
    set_by: SetBy
    least: float
    most: float
    longest: int
    form: Form | None
    later: bool

    @property
    def is_text(self) -> bool:
        return self.kind is str

    @property
    def type_name(self) -> str:
        """The type's name in docs/columns.md."""
        if typing.get_origin(self.kind) is tuple:
            return "numbers"
        words = {str: "text", int: "whole number", float: "number", bool: "truth"}
        return words.get(self.kind, "word")


def column(
    meaning: str,
    unit: str = "",
    *,
    set_by: SetBy,
    least: float = 0,
    most: float = LARGEST_NUMBER,
    longest: int = 200,
    form: Form | None = None,
    later: bool = False,
    section: str | None = None,
) -> Any:
    """A field of Row. section: None is the section of the column before it."""
    return field(
        default=None,
        metadata={
            "meaning": meaning,
            "unit": unit,
            "set_by": set_by,
            "least": least,
            "most": most,
            "longest": longest,
            "form": form,
            "later": later,
            "section": section,
        },
    )


def _job(meaning: str, unit: str = "", **bounds: Any) -> Any:
    return column(meaning, unit, set_by=SetBy.JOB, **bounds)


def _job_or_runner(meaning: str, unit: str = "", **bounds: Any) -> Any:
    return column(meaning, unit, set_by=SetBy.JOB_OR_RUNNER, **bounds)


def _runner(meaning: str, unit: str = "", **bounds: Any) -> Any:
    return column(meaning, unit, set_by=SetBy.RUNNER, **bounds)


def _anyone(meaning: str, unit: str = "", **bounds: Any) -> Any:
    return column(meaning, unit, set_by=SetBy.ORCHESTRATOR_OR_RUNNER, **bounds)


AGAINST = "against eager in single precision, or bfloat16 where that does not fit"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """The outcome of one case. Field order is column order; None is an empty cell, never 0.

    The first eight columns are those of the Lambda benchmark's CSV.
    """

    device: str | None = _runner(
        "the GPU or CPU, as its driver names it", section="The Lambda benchmark's own columns, in its order"
    )
    precision: str | None = _job("single or half")
    autocast: bool | None = _job("mixed precision by torch.autocast")
    xformers: bool | None = _runner("memory-efficient attention in use, whatever implements it")
    runtime: str | None = _job("pytorch or onnx")
    n_samples: int | None = _job_or_runner("images in one call", "images", least=1, most=MOST_SAMPLES)
    latency: float | None = _runner("mean of the trials", "s")
    memory: float | None = _runner("reserved on the GPU; on a CPU the peak resident set", "GB")

    schema_version: int | None = _job("of these columns", section="Identity")
    run: str | None = _job("the run's name")
    job: str | None = _job("hash of what the row's container was asked for", form=Form.HASH)
    case: str | None = _job("hash of what the row was asked for", form=Form.HASH)
    samples_asked: str | None = _job(
        "batch size that was asked for: a number, or max, the largest that fits", form=Form.BATCH
    )
    round: int | None = _job("which round of the run, from 1; each is a process of its own", least=1, later=True)
    host: str | None = _job("name in hosts.yaml")
    engine: str | None = _job("what executed the pipeline")
    model: str | None = _job("hub id, folder, or synthetic:SIZE", longest=4096)
    steps: int | None = _job("denoising steps", least=1)
    height: int | None = _job_or_runner("of the image", "px", least=1, most=65_536)
    width: int | None = _job_or_runner("of the image", "px", least=1, most=65_536)
    guidance: float | None = _job("classifier-free guidance scale")
    scheduler: str | None = _job("noise scheduler")
    seed: int | None = _job("of the latents", least=-math.inf, most=math.inf)
    attention: str | None = _job("how attention was asked to be computed")
    offload: str | None = _job("where weights are kept until they are needed: none, model or sequential", later=True)
    step_cache: str | None = _job("lossy cache between denoising steps, with its number, or none", later=True)
    work: str | None = _job("hash of all that makes two rows equal work", form=Form.HASH)
    prompt: str | None = _job("hash of the prompt; an imported row may have its text", longest=10_000, later=True)

    status: Status | None = _anyone("how the case ended", section="Outcome")
    error: str | None = _anyone("why there is no measurement, or what to know of the one there is", longest=1000)

    repeats: int | None = _runner("timed calls", section="Measurement")
    latency_median: float | None = _runner("median of the trials", "s")
    latency_p90: float | None = _runner("90th percentile of the trials", "s")
    latency_min: float | None = _runner("fastest trial", "s")
    latency_std: float | None = _runner("standard deviation of the trials (n-1)", "s")
    latency_ci_low: float | None = _runner(
        "lower end of the median's 95% confidence interval, within this process", "s"
    )
    latency_ci_high: float | None = _runner(
        "upper end of the median's 95% confidence interval, within this process", "s"
    )
    throughput: float | None = _runner("images in a minute, at the median latency", "images/min")
    steps_per_s: float | None = _runner("denoising steps a second, at the median latency", "1/s")
    memory_peak: float | None = _runner("allocated on the GPU at the peak; on a CPU the peak resident set", "GB")
    memory_host: float | None = _runner("peak resident set of the process", "GB")
    load_s: float | None = _runner("from the end of the imports to a pipeline on the device", "s")
    first_call_s: float | None = _runner("the first call, compiling included", "s")
    trials: tuple[float, ...] | None = _runner("each timed call, in order", "s")

    validity: Validity | None = _runner("whether the measurement may rank", section="Validity")
    gpu_busy: float | None = _runner("share of the timed part with a kernel running", "1", most=ONE)
    sm_clock_mhz: float | None = _runner("mean SM clock in the timed part", "MHz")
    power_w: float | None = _runner("mean power in the timed part", "W")
    temperature_c: float | None = _runner("highest GPU temperature in the timed part", "°C", least=-LARGEST_NUMBER)
    energy_j: float | None = _runner("energy for one image", "J")

    psnr: float | None = _runner(
        AGAINST,
        "dB",
        least=-LARGEST_NUMBER,
        section="Quality",
    )
    ssim: float | None = _runner(AGAINST, least=-ONE, most=ONE)
    nrmse: float | None = _runner(AGAINST)
    reference: str | None = _runner("precision of eager's image that the row's image is compared with", later=True)

    image: str | None = _job("container image: tag and id, or digest", longest=1000, section="Provenance")
    python: str | None = _runner("version", form=Form.VERSION)
    torch: str | None = _runner("version", form=Form.VERSION)
    diffusers: str | None = _runner("version", form=Form.VERSION)
    cuda: str | None = _runner("version that PyTorch was built for", form=Form.VERSION)
    driver: str | None = _runner("version of the GPU's driver", form=Form.VERSION)
    cpu: str | None = _runner("model of the processor")
    started: str | None = _runner("when the case began, ISO 8601 in UTC", form=Form.TIME)
    threads: int | None = _runner("that the engine computes with on a CPU; empty on a GPU", least=1, later=True)
    weights: str | None = _runner("identity of the model's files: hub commit, or hash of their content", later=True)

    settings: str | None = column(
        "other columns of an imported file, as a JSON object of texts",
        set_by=SetBy.IMPORT,
        longest=2000,
        later=True,
        section="Imported rows",
    )
    imported_from: str | None = column(
        "the imported file, the start of its SHA-256, and its address",
        set_by=SetBy.IMPORT,
        longest=500,
        later=True,
    )

    @classmethod
    def of(cls, job: Job, case: Case, status: Status, error: str | None = None, **measured: Any) -> Row:
        """A row of one of a job's cases: identity from the job, everything else from the keywords.

        Where the case asks for MAX, the keyword n_samples says what was found, if anything was. `work` is empty as
        long as the batch or the size is not known: the model's own size is known once it is loaded.
        """
        samples: int | None = measured.get("n_samples") if case.samples == MAX else case.samples
        height, width = job.height or measured.get("height"), job.width or measured.get("width")
        identity: dict[str, Any] = {
            "precision": job.precision.value,
            "autocast": job.autocast,
            "runtime": ENGINES[job.engine].runtime,
            "n_samples": samples,
            "schema_version": SCHEMA_VERSION,
            "run": job.run,
            "job": job.id,
            "case": case.id,
            "samples_asked": str(case.samples),
            "round": job.round,
            "host": job.host,
            "engine": job.engine,
            "model": job.model,
            "steps": job.steps,
            "height": job.height,
            "width": job.width,
            "guidance": job.guidance,
            "scheduler": job.scheduler,
            "seed": job.seed,
            "attention": job.attention,
            "offload": job.offload,
            "step_cache": job.step_cache,
            "work": job.work(samples, height, width) if samples and height and width else None,
            "prompt": stable_hash(job.prompt),
            "image": job.image or None,
        }
        return cls(**{**identity, "status": status, "error": error, **measured})

    @property
    def is_imported(self) -> bool:
        """Whether the row comes from an imported file. Its validity is that file's claim, so it is never best."""
        return self.job == IMPORT

    @property
    def other_settings(self) -> Mapping[str, str]:
        """Cells of an imported file that no column of ours holds, by column, such as `{"image size": "512"}`.

        Rows that differ there are unlike: each such column that varies is an axis of the table. Its name may be that
        of an axis of ours (`size`). A cell that the file leaves empty is missing. Empty for a row of a job.
        """
        return _texts_of(self.settings) if self.settings else {}

    @property
    def batch(self) -> str:
        """The batch size in words: `28`, `max (28)`, or `max` where none was found."""
        found = "" if self.n_samples is None else str(self.n_samples)
        if self.samples_asked != MAX:
            return found
        return f"{MAX} ({found})" if found else MAX


@functools.lru_cache(maxsize=4096)
def _texts_of(settings: str) -> Mapping[str, str]:
    try:
        value = json.loads(settings)
    except (ValueError, RecursionError):
        return {}
    is_texts = isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    return types.MappingProxyType(value) if is_texts else {}


COLUMNS: tuple[str, ...] = tuple(f.name for f in dataclasses.fields(Row))


def _plain_type(annotation: Any) -> Any:
    """The type in `T | None`."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next(part for part in typing.get_args(annotation) if part is not type(None))
    return annotation


def _declared() -> Iterator[Column]:
    hints, section = typing.get_type_hints(Row), ""
    for each in dataclasses.fields(Row):
        section = each.metadata["section"] or section
        yield Column(**{**each.metadata, "name": each.name, "kind": _plain_type(hints[each.name]), "section": section})


COLUMN: Mapping[str, Column] = {declared.name: declared for declared in _declared()}
LAMBDA_COLUMNS = tuple(name for name in COLUMNS if COLUMN[name].section == COLUMN[COLUMNS[0]].section)


def format_cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "TRUE" if value else "FALSE"
        case Enum():
            return str(value.value)
        case float():
            return repr(value)
        case tuple():
            return ";".join(repr(item) for item in value)
        case _:
            return str(value)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a finite number")
    return number


def parse_cell(name: str, text: str) -> Any:
    """A cell's value; None where it is empty. Raises ValueError where it is not of its column's type."""
    kind, text = COLUMN[name].kind, text.strip()
    if text == "":
        return None
    if kind is bool:
        words = {"true": True, "false": False, "yes": True, "no": False}
        if text.lower() not in words:
            raise ValueError(f"{text!r} is neither TRUE nor FALSE")
        return words[text.lower()]
    if kind is float:
        return _finite(text)
    if typing.get_origin(kind) is tuple:
        return tuple(_finite(part) for part in text.split(";"))
    return kind(text)


def columns_of(header: Sequence[str]) -> tuple[str, ...] | None:
    """The columns of a file of this version, or of an older one that lacks `later` ones; None for any other file."""
    expected = tuple(name for name in COLUMNS if not COLUMN[name].later or name in header)
    return expected if tuple(header) == expected else None


def write_header(out: typing.TextIO) -> None:
    csv.writer(out, lineterminator="\n").writerow(COLUMNS)


def write_row(out: typing.TextIO, row: Row) -> None:
    csv.writer(out, lineterminator="\n").writerow([format_cell(getattr(row, name)) for name in COLUMNS])


def format_rows(rows: Iterable[Row]) -> str:
    out = io.StringIO()
    write_header(out)
    for row in rows:
        write_row(out, row)
    return out.getvalue()


def parse_row(cells: Sequence[str], line: int, columns: Sequence[str] = COLUMNS) -> Row:
    """Parses one record. Raises SchemaError, which names `line`, the line where the record ends."""
    if len(cells) != len(columns):
        raise SchemaError(f"line {line}: {len(cells)} cells instead of {len(columns)}")
    values = {}
    for name, cell in zip(columns, cells):
        try:
            values[name] = parse_cell(name, cell)
        except ValueError as error:
            raise SchemaError(f"line {line}, column {name}: {str(error)[:200]}") from error
    return Row(**values)


def parse_rows(text: str | typing.TextIO) -> list[Row]:
    """Parses a CSV with this schema's header (`columns_of`). Raises SchemaError with the line and the column.

    text: a file of it has to be opened with `newline=""`, and is read in parts: 100,000 rows as one text take 200 MB.
    """
    file = io.StringIO(text, newline="") if isinstance(text, str) else text
    if (rows := _by_columns(file)) is not None:
        return rows
    file.seek(0)
    reader = csv.reader(file, strict=True)
    rows = []
    try:
        header = next(reader, None)
        if header is None:
            raise SchemaError("line 1: the file is empty")
        columns = columns_of(header)
        if columns is None:
            odd = next((a for a, b in zip(header, COLUMNS) if a != b), f"{len(header)} columns")
            raise SchemaError(f"line 1: the header is not that of schema version {SCHEMA_VERSION} (at {odd[:40]!r})")
        for cells in reader:
            rows.append(parse_row(cells, reader.line_num, columns))
    except csv.Error as error:
        raise SchemaError(f"line {reader.line_num}: {error}") from error
    return rows


def _by_columns(file: typing.TextIO) -> list[Row] | None:
    """Parses a valid file by columns, in a third of the time that it takes by rows (docs/performance.md). None for any
    other file: parsed by rows, it gets a message.
    """
    reader = csv.reader(file, strict=True)
    rows: list[Row] = []
    try:
        if (columns := columns_of(next(reader, ()))) is None:
            return None
        while records := list(itertools.islice(reader, 1000)):
            if {*map(len, records)} != {len(columns)}:
                return None
            parsed = {name: _parse_column(name, cells) for name, cells in zip(columns, zip(*records))}
            rows += _filled({name: parsed.get(name, [None] * len(records)) for name in COLUMNS}, len(records))
    except (ValueError, csv.Error):
        return None
    return rows


def _filled(columns: Mapping[str, Sequence[Any]], count: int) -> list[Row]:
    """Rows of cells of all columns. The constructor sets a row's fields one by one, which takes three times as long."""
    rows = [object.__new__(Row) for _ in range(count)]
    for name, cells in columns.items():
        collections.deque(map(getattr(Row, name).__set__, rows, cells), maxlen=0)  # a deque of 0 only runs the map
    return rows


def _parse_column(name: str, cells: Sequence[str]) -> Sequence[Any]:
    """Cells of one column, as `parse_cell` parses them. Equal ones are parsed once, but for numbers, which are rarely
    equal. Raises ValueError, for a number between spaces too."""
    kind = COLUMN[name].kind
    if kind is float:
        return [_finite(cell) if cell else None for cell in cells]
    if typing.get_origin(kind) is tuple:
        return [tuple(map(_finite, cell.split(";"))) if cell else None for cell in cells]
    known = {cell: parse_cell(name, cell) for cell in {*cells}}
    return [known[cell] for cell in cells]


@functools.cache
def _checks(kind: Any) -> Sequence[tuple[str, Any, frozenset[Any]]]:
    """Each field's name, its annotation, and types whose every value matches it: `_is_of` takes ten times as long."""
    hints = typing.get_type_hints(kind).items()
    parts = {
        name: typing.get_args(hint) if _is_union(hint) else (typing.get_origin(hint) or hint,) for name, hint in hints
    }
    return tuple((name, hint, frozenset(parts[name]) - {float}) for name, hint in hints)


def _has_types_of_its_fields(value: object) -> bool:
    """Whether a dataclass filled from JSON matches its annotations and holds finite numbers only."""
    kind: Any = type(value)
    for name, hint, plain in _checks(kind):
        it = getattr(value, name)
        if type(it) not in plain and not _is_of(it, hint):
            return False
    return True


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _is_of(value: object, hint: Any) -> bool:
    if isinstance(value, float):
        if not math.isfinite(value):
            return False
        if hint is float:
            return True
    if _is_union(hint):
        return any(_is_of(value, part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, (int, float) if hint is float else typing.get_origin(hint) or hint)


class EventKind(str, Enum):
    """The kinds of events that a runner prints while it works."""

    LOADING = "loading"
    LOADED = "loaded"
    CASE_STARTED = "case_started"
    WARMED_UP = "warmed_up"
    TRIAL = "trial"
    CASE_ENDED = "case_ended"
    JOB_ENDED = "job_ended"


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of a runner's standard output.

    at: seconds since the epoch, by the runner's clock. trial: index of the timed call, from 1. of: the maximum.
    """

    kind: EventKind
    at: float
    case: str | None = None
    trial: int | None = None
    of: int | None = None
    latency_s: float | None = None
    status: Status | None = None

    def to_json(self) -> str:
        present = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        return json.dumps(present, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Event | None:
        """None where the line is not an event: libraries print to standard output too."""
        if not line.startswith("{"):
            return None
        try:
            fields = json.loads(line)
            kind = EventKind(fields.pop("kind"))
            status = fields.pop("status", None)
            event = cls(kind=kind, status=Status(status) if status else None, **fields)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return event if _has_types_of_its_fields(event) else None
