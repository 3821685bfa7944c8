"""Axes, exclude and include, by the rules of GitHub Actions."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.config import Matrix
from orchestrator.config.matrixfile import MAX_CASES, MatrixFile, expand
from orchestrator.errors import InputError

BOTH = ["eager", "onnxruntime"]


def expanded(**keys: Any) -> Matrix:
    return expand(MatrixFile.model_validate(keys), lambda position: f"m.yaml:{'.'.join(map(str, position))}")


def cells(matrix: Matrix, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(point, name) for name in names) for point in matrix.points]


def test_axes_multiply_in_the_order_of_the_file() -> None:
    found = expanded(matrix={"engine": BOTH, "samples": [2, 1]})
    assert cells(found, "engine", "samples") == [("eager", 2), ("eager", 1), ("onnxruntime", 2), ("onnxruntime", 1)]


def test_a_value_at_the_top_holds_for_every_point() -> None:
    assert cells(expanded(steps=7, matrix={"samples": [1, 2]}), "steps") == [(7,), (7,)]


def test_an_axis_goes_before_the_value_at_the_top() -> None:
    assert cells(expanded(samples=9, matrix={"samples": [1, 2]}), "samples") == [(1,), (2,)]


def test_equal_values_and_points_count_once() -> None:
    found = expanded(
        matrix={"engine": ["eager", "eager"], "guidance": [7, 7.0]}, include=[{"engine": "onnxruntime"}] * 2
    )
    assert cells(found, "engine") == [("eager",), ("onnxruntime",)]


def test_an_exclude_that_matches_in_part_excludes() -> None:
    found = expanded(matrix={"engine": BOTH, "samples": [1, 2]}, exclude=[{"engine": "eager"}])
    assert cells(found, "engine", "samples") == [("onnxruntime", 1), ("onnxruntime", 2)]
    assert [(point.engine, point.samples) for point in found.excluded] == [("eager", 1), ("eager", 2)]


def test_an_exclude_needs_all_of_its_values() -> None:
    found = expanded(matrix={"engine": BOTH, "samples": [1, 2]}, exclude=[{"engine": "eager", "samples": 2}])
    assert cells(found, "engine", "samples") == [("eager", 1), ("onnxruntime", 1), ("onnxruntime", 2)]


def test_an_exclude_sees_the_values_at_the_top() -> None:
    found = expanded(precision="half", matrix={"engine": BOTH}, exclude=[{"engine": "eager", "precision": "half"}])
    assert cells(found, "engine") == [("onnxruntime",)]


def test_include_comes_after_exclude_and_brings_back() -> None:
    found = expanded(
        matrix={"engine": BOTH, "samples": [1, 2]},
        exclude=[{"engine": "eager"}],
        include=[{"engine": "eager", "samples": 2}],
    )
    assert ("eager", 2) in cells(found, "engine", "samples")
    assert [(point.engine, point.samples) for point in found.excluded] == [("eager", 1)]


def test_an_include_adds_its_keys_where_it_changes_no_axis_value() -> None:
    found = expanded(matrix={"engine": BOTH}, include=[{"seed": 5}, {"engine": "eager", "steps": 3}])
    assert cells(found, "engine", "seed", "steps") == [("eager", 5, 3), ("onnxruntime", 5, 50)]


def test_what_an_include_added_a_later_one_may_change() -> None:
    found = expanded(matrix={"engine": BOTH}, include=[{"seed": 5}, {"engine": "eager", "seed": 6}])
    assert cells(found, "engine", "seed") == [("eager", 6), ("onnxruntime", 5)]


def test_an_include_that_fits_nowhere_is_a_case_of_its_own() -> None:
    found = expanded(matrix={"engine": ["eager"], "steps": [9]}, include=[{"engine": "onnxruntime", "samples": 4}])
    assert cells(found, "engine", "steps", "samples") == [("eager", 9, 1), ("onnxruntime", 9, 4)]


def test_an_include_adds_nothing_to_what_an_include_made() -> None:
    found = expanded(matrix={"samples": [1]}, include=[{"samples": 2}, {"samples": 2, "seed": 5}])
    assert cells(found, "samples", "seed") == [(1, 0), (2, 0), (2, 5)]


def test_without_axes_each_include_is_a_case() -> None:
    assert cells(expanded(include=[{"samples": 1}, {"samples": 2}]), "samples") == [(1,), (2,)]


def test_a_case_of_its_own_takes_what_it_leaves_open_from_the_top() -> None:
    found = expanded(samples=8, matrix={"engine": ["eager"], "samples": [1, 2]}, include=[{"engine": "onnxruntime"}])
    assert cells(found, "engine", "samples") == [("eager", 1), ("eager", 2), ("onnxruntime", 8)]


def test_a_case_of_its_own_that_leaves_an_axis_open_is_an_error_that_names_it() -> None:
    with pytest.raises(InputError, match=r"m\.yaml:include\.0: .*which samples \(1, 2\)"):
        expanded(matrix={"engine": ["eager"], "samples": [1, 2]}, include=[{"engine": "onnxruntime"}])


def test_an_exclude_of_a_host_or_a_device_waits_for_the_hosts() -> None:
    found = expanded(matrix={"engine": BOTH}, exclude=[{"engine": "eager", "host": "a"}, {"device": "cpu"}])
    assert len(found.points) == 2
    assert [(entry.host, entry.point) for entry in found.exclude_hosts] == [("a", (("engine", "eager"),)), (None, ())]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "matrix is empty"),
        ({"matrix": {}}, "matrix is empty"),
        ({"matrix": {"engine": ["eager"]}, "exclude": [{"engine": "eager"}]}, "exclude leaves no case"),
        ({"matrix": {"engine": ["eager"]}, "exclude": [{}]}, "exclude has an entry without keys"),
        ({"matrix": {"engine": ["eager"]}, "include": [{}]}, "include has an entry without keys"),
        ({"matrix": {"samples": list(range(1, 1001)), "seed": list(range(11))}}, f"{MAX_CASES} are the limit"),
        ({"matrix": {"seed": [1]}, "exclude": [{"seed": 1}] * 101}, "100 are the limit"),
    ],
)
def test_a_matrix_of_nothing_or_of_too_much_is_an_error(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        expanded(**keys)


def test_each_model_brings_its_own_defaults() -> None:
    found = expanded(matrix={"model": ["synthetic:sd-v1-4", "synthetic:flux-dev", "black-forest-labs/FLUX.1-schnell"]})
    assert [cells(found, "steps", "guidance", "scheduler", "precision")[i] for i in range(3)] == [
        (50, 7.5, "pndm", "single"),
        (28, 3.5, "flow-euler", "bfloat16"),
        (4, 0.0, "flow-euler", "bfloat16"),
    ]


def test_what_the_file_says_goes_before_a_models_defaults() -> None:
    found = expanded(steps=9, matrix={"model": ["synthetic:flux-dev"], "guidance": [1.0]})
    assert cells(found, "steps", "guidance", "scheduler") == [(9, 1.0, "flow-euler")]


def test_an_exclude_sees_a_models_defaults() -> None:
    found = expanded(matrix={"model": ["synthetic:tiny", "synthetic:tiny-flux"]}, exclude=[{"scheduler": "flow-euler"}])
    assert cells(found, "model") == [("synthetic:tiny",)]
