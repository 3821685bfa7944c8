"""A parsed matrix: its points, and how they are measured."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, field_validator

from orchestrator.config.inventory import Host
from orchestrator.config.values import Name, Value
from runner.catalog import (
    ATTENTIONS,
    BASELINE,
    ENGINES,
    MODEL_FORMS,
    MODELS,
    NONE,
    OFFLOADS,
    PRECISIONS,
    SCHEDULERS,
    STEP_CACHES,
    SYNTHETIC,
    Device,
    Precision,
    step_cache_name,
)
from runner.schema import MAX, MOST_SAMPLES


class Until(Value):
    """When to stop measuring: the confidence interval is narrow enough, or a limit is reached.

    Calls are added within a process by the interval of its median; rounds, by that of the value between processes.
    """

    rel_ci: float = Field(
        gt=0, lt=1, description="half-width of the 95% confidence interval, as a fraction of the value"
    )
    max_repeats: int = Field(default=30, ge=2, le=10_000, description="maximum number of timed calls per process")
    max_rounds: int = Field(default=10, ge=1, le=1000, description="maximum number of rounds, including `rounds`")


# pydantic reads the names at run time
Engine: TypeAlias = Literal[tuple(ENGINES)]  # type: ignore[valid-type]
Scheduler: TypeAlias = Literal[tuple(SCHEDULERS)]  # type: ignore[valid-type]
Attention: TypeAlias = Literal[tuple(ATTENTIONS)]  # type: ignore[valid-type]
Offload: TypeAlias = Literal[tuple(OFFLOADS)]  # type: ignore[valid-type]
StepCacheWord: TypeAlias = Annotated[str, Field(max_length=100), AfterValidator(step_cache_name)]
PrecisionWord: TypeAlias = Annotated[Precision, Field(strict=False)]
DeviceWord: TypeAlias = Annotated[Device, Field(strict=False)]


# A union whose errors for a wrong number describe the number.
SamplesWord: TypeAlias = Annotated[
    Annotated[int, Field(ge=1, le=MOST_SAMPLES), Tag("number")] | Annotated[Literal["max"], Tag("max")],
    Discriminator(lambda value: "max" if value == MAX else "number"),
]


def _known_model(model: str) -> str:
    size = model.removeprefix(SYNTHETIC)
    if model in MODELS:
        hub = f", or '{MODELS[model].hub}' for the original" if MODELS[model].hub else ""
        raise ValueError(f"{model!r} is unknown; did you mean '{SYNTHETIC}{model}'?{hub}")
    if size != model and size not in MODELS:
        near = difflib.get_close_matches(size, MODELS, n=1)
        hint = f"did you mean '{SYNTHETIC}{near[0]}'?" if near else "the models are " + ", ".join(MODELS)
        raise ValueError(f"{model!r} is unknown; {hint}")
    return model


ModelId: TypeAlias = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_known_model)]


class Point(Value):
    """One point of the matrix, hosts aside. Every field may stand at the top of matrix.yaml, or be an axis."""

    model: ModelId = Field(default=f"{SYNTHETIC}tiny", description=MODEL_FORMS)
    prompt: str = Field(
        default="a photo of an astronaut riding a horse on mars",
        max_length=10_000,
        description="text prompt of every image",
    )
    engine: Engine = Field(default=BASELINE, description="engine that executes the pipeline")
    precision: PrecisionWord = Field(
        default=Precision.SINGLE,
        description=f"precision of weights and activations: {', '.join(PRECISIONS)}; if not set: the model's own",
    )
    samples: SamplesWord = Field(default=1, description="batch size: images per call; max: the largest that fits")
    steps: int = Field(default=50, ge=1, le=10_000, description="denoising steps; if not set: the model's own")
    height: int | None = Field(
        default=None, ge=8, le=16_384, multiple_of=8, description="pixels; if not set: the model's own"
    )
    width: int | None = Field(
        default=None, ge=8, le=16_384, multiple_of=8, description="pixels; if not set: the model's own"
    )
    guidance: float = Field(
        default=7.5, ge=0, le=1000, allow_inf_nan=False, description="guidance scale; if not set: the model's own"
    )
    scheduler: Scheduler = Field(default="pndm", description="noise scheduler; if not set: the model's own")
    seed: int = Field(default=0, ge=0, lt=2**63, description="seed of the latents, the same for every engine")
    autocast: bool = Field(default=False, description="use mixed precision (torch.autocast)")
    attention: Attention = Field(default="default", description="implementation of attention")
    offload: Offload = Field(default=NONE, description="where weights wait, to save the GPU's memory")
    step_cache: StepCacheWord = Field(
        default=NONE,
        description=f"lossy cache between denoising steps: {NONE}, {', '.join(STEP_CACHES)}, or one as NAME:NUMBER",
    )


class Settings(Value):
    """How the points are measured; the same for all of them."""

    name: Name = Field(default="bench", description="name of the benchmark; part of the run's name")
    warmup: int = Field(default=2, ge=0, le=1000, description="untimed calls before the timed ones")
    repeats: int = Field(default=3, ge=1, le=10_000, description="minimum number of timed calls")
    until: Until | None = Field(
        default=None, description="add calls and rounds until the confidence interval is narrow enough"
    )
    rounds: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="how often each host runs all its jobs, in rotated order; 1 cannot show differences",
    )
    quality: bool = Field(
        default=False, description="compare the images with those of single-precision eager from the same latents"
    )
    retries: int = Field(
        default=2,
        ge=0,
        le=100,
        description="retries after infrastructure faults; out of memory is a result and is not retried",
    )

    @field_validator("until")
    @classmethod
    def _allows_repeats(cls, until: Until | None, info: ValidationInfo) -> Until | None:
        repeats = info.data.get("repeats", 0)
        if until is not None and until.max_repeats < repeats:
            raise ValueError(f"allows {until.max_repeats} repeats at most, and repeats asks for {repeats}")
        return until

    @property
    def most_rounds(self) -> int:
        """Returns the maximum number of rounds, including those that `until` may add."""
        return self.rounds if self.until is None else max(self.rounds, self.until.max_rounds)


class Exclude(Value):
    """An exclude that names a host or a device: it takes effect where hosts are known.

    point: the values, by field of Point, that a point must have to be excluded; other points stay.
    """

    host: Name | None = None
    device: Device | None = None
    point: tuple[tuple[str, Any], ...] = ()

    def matches(self, point: Point, host: Host) -> bool:
        return (
            self.host in (None, host.name)
            and self.device in (None, host.device)
            and all(getattr(point, key) == value for key, value in self.point)
        )


class Matrix(Settings):
    """matrix.yaml, parsed. points: the axes multiplied out, with exclude and include applied.

    excluded: points that an exclude took away on every host, for `plan` to show.
    exclude_hosts: the excludes that name `host` or `device`.
    """

    points: tuple[Point, ...]
    excluded: tuple[Point, ...] = ()
    exclude_hosts: tuple[Exclude, ...] = ()
    timeout_s: float = 1800.0
