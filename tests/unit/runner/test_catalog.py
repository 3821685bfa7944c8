"""What a job may name is declared once: every list that derives from it has each entry."""

from __future__ import annotations

import importlib.util
import re
import typing

import pytest
from paths import ROOT

from orchestrator import images
from orchestrator.config import Point
from orchestrator.images import pins, recipe
from orchestrator.results import foreign
from runner.catalog import (
    ATTENTIONS,
    BASELINE,
    ENGINES,
    FAMILIES,
    FLAVOURS,
    MODEL_FORMS,
    MODELS,
    OFFLOADS,
    PRECISION_FACTS,
    SCHEDULERS,
    STEP_CACHES,
    Device,
    Precision,
    known_model,
    misfit,
    step_cache_name,
)
from runner.jobs import by_hand


def normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def test_the_matrix_takes_each_engine_scheduler_and_attention() -> None:
    fields = Point.model_fields
    keys = {"engine": ENGINES, "scheduler": SCHEDULERS, "attention": ATTENTIONS, "offload": OFFLOADS}
    for key, declared in keys.items():
        assert typing.get_args(fields[key].annotation) == tuple(declared)
    assert [Point(model=f"synthetic:{size}").model for size in MODELS] == [f"synthetic:{size}" for size in MODELS]
    assert fields["model"].description == MODEL_FORMS


def test_the_runner_by_hand_takes_each_engine_scheduler_and_attention() -> None:
    parser = by_hand.parser()
    for engine in ENGINES:
        assert parser.parse_args(["--engine", engine]).engine == (engine,)
    for scheduler in SCHEDULERS:
        assert parser.parse_args(["--scheduler", scheduler]).scheduler == scheduler
    for attention in ATTENTIONS:
        assert parser.parse_args(["--attention", attention]).attention == attention
    for offload in OFFLOADS:
        assert parser.parse_args(["--offload", offload]).offload == offload
    for name in STEP_CACHES:
        assert parser.parse_args(["--step-cache", name]).step_cache == step_cache_name(name)
    assert BASELINE in ENGINES


@pytest.mark.parametrize("name", ENGINES)
def test_each_engine_has_its_module(name: str) -> None:
    assert (ROOT / "runner" / "engines" / f"{name}.py").is_file()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_each_image_of_an_engine_can_be_built(flavour: str) -> None:
    assert "Dockerfile" in recipe.recipe(flavour)
    assert set(recipe.PINS) == {*FLAVOURS, images.CUSTOM_BASE}


@pytest.mark.parametrize("name", ENGINES)
def test_each_image_installs_what_its_engines_import(name: str) -> None:
    for flavour in ENGINES[name].images.values():
        pinned = "".join(pins.select(recipe._pins(), level) for level in recipe.PINS[flavour])
        installed = {normal(line.partition("==")[0]) for line in pinned.splitlines() if "==" in line}
        wanted = {normal(package) for package in ENGINES[name].modules.values()}
        assert {package for package in wanted if not {package, f"{package}-gpu"} & installed} == set()


@pytest.mark.parametrize("name", [name for name, facts in ENGINES.items() if facts.extra])
def test_the_extra_of_an_engine_installs_what_it_imports(name: str) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    extras = {ENGINES[name].extra, "runner"}
    listed = "".join(found[0] for extra in extras if (found := re.search(rf"^{extra} = \[.*?\]$", text, re.M | re.S)))
    named = {normal(package) for package in re.findall(r'"([\w.-]+)', listed)}
    assert {normal(package) for package in ENGINES[name].modules.values()} <= named


def test_the_runtime_of_an_imported_row_names_the_first_engine_of_it() -> None:
    assert foreign.ENGINES_BY_RUNTIME == {"pytorch": "eager", "onnx": "onnxruntime"}


def test_each_engine_has_a_device_and_an_image_for_it() -> None:
    assert all(facts.devices and set(facts.devices) <= set(Device) for facts in ENGINES.values())


@pytest.mark.skipif(importlib.util.find_spec("diffusers") is None, reason="the runner's extra is not installed")
def test_each_scheduler_is_a_class_of_diffusers() -> None:
    import diffusers

    assert [name for name, scheduler in SCHEDULERS.items() if not hasattr(diffusers, scheduler)] == []


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the runner's extra is not installed")
def test_the_synthetic_weights_have_the_identities_of_earlier_rows() -> None:
    from runner.models import synthetic

    earlier = {"tiny": "a3f13003cab3", "small": "ca3e9c04f009", "sd-v1-4": "42d2c1caba13", "sdxl": "36d9c3ebe507"}
    assert {size: synthetic.identity(size) for size in earlier} == {
        size: f"synthetic:{digest}" for size, digest in earlier.items()
    }


@pytest.mark.parametrize("engine", ["deepspeed", "mii", "onnxruntime", "openvino"])
def test_an_engine_of_one_family_refuses_the_others_with_their_names(engine: str) -> None:
    assert misfit(engine, "pndm", "sd") is None
    assert misfit(engine, "pndm", "sdxl") == (
        f"{engine} supports StableDiffusionPipeline only; this model is a StableDiffusionXLPipeline"
    )


def test_a_scheduler_of_another_kind_is_refused_with_one_that_fits() -> None:
    assert misfit("eager", "pndm", "flux") == (
        "scheduler 'pndm' does not fit a FluxPipeline; fix: scheduler: flow-euler"
    )
    assert "fix: scheduler: pndm" in str(misfit("eager", "flow-euler", "sd"))


def test_each_model_fits_its_own_defaults() -> None:
    assert [name for name, model in MODELS.items() if misfit("eager", model.scheduler, model.family)] == []


def test_each_scheduler_fits_some_family() -> None:
    assert set(SCHEDULERS) == {name for family in FAMILIES.values() for name in family.schedulers}


def test_each_precision_has_its_facts() -> None:
    assert set(PRECISION_FACTS) == set(Precision)


def test_a_hub_id_is_known_with_and_without_its_revision() -> None:
    assert known_model("black-forest-labs/FLUX.1-dev@main") is known_model("synthetic:flux-dev") is MODELS["flux-dev"]
    assert known_model("someone/else") is known_model("/folder") is known_model("synthetic:none") is None
