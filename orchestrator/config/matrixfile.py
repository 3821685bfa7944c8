"""The model of matrix.yaml, and how axes, exclude and include become points.

The rules are those of GitHub Actions (docs.github.com, "Running variations of jobs in a workflow"). Excludes apply
first, and an entry that matches partially excludes. Then each include adds its keys to every combination whose original
axis values it would not change, or else becomes a new combination.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field, create_model

from orchestrator.config.matrix import DeviceWord, Exclude, Matrix, Point, Settings
from orchestrator.config.problems import shown
from orchestrator.config.values import Duration, Name, Value
from orchestrator.config.yamlfile import Position
from orchestrator.errors import InputError
from runner.catalog import known_model

MAX_CASES = 10_000
MAX_ENTRIES = 100

_POINT_TYPES = {name: info.rebuild_annotation() for name, info in Point.model_fields.items()}
_DESCRIPTIONS = {name: info.description for name, info in Point.model_fields.items()}


def _partial(name: str, doc: str, types: Mapping[str, Any], **more: Any) -> Any:
    """Creates a model whose keys are all optional; `model_fields_set` holds the given ones."""
    fields: dict[str, Any] = {
        key: (kind, Field(default=None, description=_DESCRIPTIONS.get(key))) for key, kind in types.items()
    }
    return create_model(name, __base__=Value, __doc__=doc, **fields, **more)


def _axis(kind: Any) -> Any:
    return Annotated[tuple.__class_getitem__((kind, ...)), Field(strict=False), AfterValidator(_not_empty)]


def _not_empty(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("must have at least one value")
    return values


Axes: Any = _partial(
    "Axes",
    "Every combination of these values is a case.",
    {key: _axis(kind) for key, kind in _POINT_TYPES.items()},
)
IncludeEntry: Any = _partial(
    "Include", "Extra keys for the matching combinations, or an additional case.", _POINT_TYPES
)
ExcludeEntry: Any = _partial(
    "Exclude",
    "Excludes combinations with all of these values.",
    _POINT_TYPES,
    host=(Name, Field(default=None, description="a name in hosts.yaml")),
    device=(DeviceWord, Field(default=None, description="cpu or cuda")),
)


class MatrixFile(Settings, Point):
    """One matrix of benchmarks: what to measure, and how."""

    timeout: Duration = Field(
        default=1800.0, description="time limit of each case, including the model load: 90s, 30m, 1h30m"
    )
    matrix: Axes = Field(default_factory=Axes, description="axes: lists of values for any key of a case")
    include: Annotated[tuple[IncludeEntry, ...], Field(strict=False)] = ()
    exclude: Annotated[tuple[ExcludeEntry, ...], Field(strict=False)] = ()


@dataclass
class _Combination:
    """original: axis values, never overwritten. added: values from includes; the last one wins."""

    original: Mapping[str, Any]
    added: dict[str, Any] = field(default_factory=dict)

    def fits(self, entry: Mapping[str, Any]) -> bool:
        return all(self.original[key] == value for key, value in entry.items() if key in self.original)


def expand(file: MatrixFile, where: Callable[[Position], str]) -> Matrix:
    """Expands the file. Raises InputError with all problems of the combined values. where: returns `file:line`."""
    axes = {key: tuple(dict.fromkeys(values)) for key, values in _given(file.matrix).items()}
    count = math.prod(map(len, axes.values()))
    if not axes and not file.include:
        raise InputError(f"{where(('matrix',))}: the matrix is empty; give it an axis, such as engine: [eager]")
    if count + len(file.include) > MAX_CASES:
        raise InputError(f"{where(('matrix',))}: the matrix has {count} combinations, and {MAX_CASES} are the limit")
    for key in ("include", "exclude"):
        if (entries := len(getattr(file, key))) > MAX_ENTRIES:
            raise InputError(f"{where((key,))}: {key} has {entries} entries, and {MAX_ENTRIES} are the limit")
    problems = list(_empty_entries(file, where))
    scalars = {key: getattr(file, key) for key in Point.model_fields if key in file.model_fields_set}
    excludes = [_given(entry) for entry in file.exclude]
    everywhere = [entry for entry in excludes if not entry.keys() & {"host", "device"}]
    kept: list[dict[str, Any]] = []
    excluded: list[dict[str, Any]] = []
    for values in itertools.product(*axes.values()) if axes else ():
        original = dict(zip(axes, values))
        whole = _whole(scalars, original)
        is_out = any(all(whole[key] == value for key, value in entry.items()) for entry in everywhere)
        (excluded if is_out else kept).append(original)
    combinations = [_Combination(original) for original in kept]
    alone: list[Mapping[str, Any]] = []
    for i, entry in enumerate(map(_given, file.include)):
        targets = [combination for combination in combinations if combination.fits(entry)]
        for target in targets:
            target.added.update(entry)
        if not targets:
            completed, missing = _completed(entry, axes, file)
            alone.append(completed)
            problems += (f"{where(('include', i))}: {_missing_text(key, axes[key])}" for key in missing)
    if problems:
        raise InputError(problems)
    found = [{**c.original, **c.added} for c in combinations] + alone
    points = tuple(dict.fromkeys(Point(**_whole(scalars, values)) for values in found))
    if not points:
        raise InputError(f"{where(('exclude',))}: exclude leaves no case of the matrix")
    return Matrix(
        **{key: getattr(file, key) for key in Settings.model_fields},
        timeout_s=file.timeout,
        points=points,
        excluded=_without(points, (Point(**_whole(scalars, values)) for values in excluded)),
        exclude_hosts=tuple(_host_exclude(entry) for entry in excludes if entry not in everywhere),
    )


def _whole(scalars: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Completes a combination by the top of the file, then by its model's defaults, then by the general ones."""
    given = {**scalars, **values}
    general = {key: info.default for key, info in Point.model_fields.items()}
    model = known_model(given.get("model", general["model"]))
    return {**general, **(model.defaults if model else {}), **given}


def _without(points: Iterable[Point], excluded: Iterable[Point]) -> tuple[Point, ...]:
    """Returns the points that stay excluded: an include may have added a point back."""
    back = set(points)
    return tuple(point for point in dict.fromkeys(excluded) if point not in back)


def _given(entry: Value) -> dict[str, Any]:
    """Returns only the keys that the file sets, in the order of the fields."""
    return {key: getattr(entry, key) for key in type(entry).model_fields if key in entry.model_fields_set}


def _empty_entries(file: MatrixFile, where: Callable[[Position], str]) -> Iterator[str]:
    for key in ("include", "exclude"):
        for i, entry in enumerate(getattr(file, key)):
            if not entry.model_fields_set:
                yield f"{where((key, i))}: {key} has an entry without keys"


def _completed(
    entry: Mapping[str, Any], axes: Mapping[str, tuple[Any, ...]], file: MatrixFile
) -> tuple[dict[str, Any], list[str]]:
    """Completes an entry from axes with one value; also returns the axes that leave it incomplete.

    Values at the top of the file are not copied: they are every point's defaults.
    """
    open_axes = [key for key in axes if key not in entry and key not in file.model_fields_set]
    single = {key: axes[key][0] for key in open_axes if len(axes[key]) == 1}
    return {**single, **entry}, [key for key in open_axes if key not in single]


def _missing_text(key: str, values: tuple[Any, ...]) -> str:
    listed = ", ".join(shown(getattr(value, "value", value)) for value in values[:6])
    return (
        f"this include is a case of its own, so it must say which {key} ({listed}{', …' if len(values) > 6 else ''}), "
        f"or {key} must have a value at the top of the file"
    )


def _host_exclude(entry: Mapping[str, Any]) -> Exclude:
    point = tuple((key, value) for key, value in entry.items() if key not in ("host", "device"))
    return Exclude(host=entry.get("host"), device=entry.get("device"), point=point)
