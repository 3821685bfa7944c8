"""Step caches in their real form: what they skip, what they forget, and which models they refuse."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")

from builders import a_job  # noqa: E402

from runner.catalog import ENGINES, MODELS, misfit, parse_step_cache, step_cache_name  # noqa: E402
from runner.engines import eager  # noqa: E402
from runner.engines.compile import blocks  # noqa: E402
from runner.engines.session import PipelineSession  # noqa: E402
from runner.errors import Unsupported  # noqa: E402
from runner.models.networks import denoiser  # noqa: E402
from runner.schema import Job, Precision  # noqa: E402

TRANSFORMERS = ("tiny-sd3", "tiny-flux")
ALL = ("tiny", "tiny-sdxl", *TRANSFORMERS)


def job_of(name: str, step_cache: str, **fields: Any) -> Job:
    asked = a_job("a cat", model=f"synthetic:{name}", precision=Precision.SINGLE, step_cache=step_cache, threads=1)
    defaults = {"guidance": MODELS[name].guidance, "scheduler": MODELS[name].scheduler, "steps": 6}
    return dataclasses.replace(asked, **{**defaults, **fields})


def drawn(session: PipelineSession) -> np.ndarray[Any, Any]:
    return np.asarray(session.generate(1)[0]).astype(int)


def computed(session: PipelineSession) -> tuple[int, int]:
    seen = session.pipe.evaluations
    return seen.computed, seen.all


@pytest.mark.parametrize("name", ALL)
def test_taylorseer_computes_the_blocks_at_some_steps_and_repeats(name: str) -> None:
    plain, session = drawn(eager.load(job_of(name, "none"), None)), eager.load(job_of(name, "taylorseer:3"), None)
    first = drawn(session)
    once, every = computed(session)
    assert (once, every) == (4, 7 if MODELS[name].scheduler == "pndm" else 6)
    assert np.abs(first - plain).max() > 0
    assert np.array_equal(drawn(session), first)
    assert computed(session) == (once, every)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_first_block_skips_all_other_blocks_and_repeats(name: str) -> None:
    session = eager.load(job_of(name, "first-block:10"), None)
    first = drawn(session)
    assert computed(session) == (1, 6)
    assert np.array_equal(drawn(session), first)
    assert session.remark() == "step cache first-block:10: blocks computed in 1 of 6 evaluations"


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_threshold_of_zero_skips_nothing_and_draws_the_same_image(name: str) -> None:
    plain, session = eager.load(job_of(name, "none"), None), eager.load(job_of(name, "first-block:0"), None)
    assert np.array_equal(drawn(session), drawn(plain))
    assert computed(session) == (6, 6)
    assert plain.remark() is None


def test_only_the_first_block_is_computed_in_a_skipped_step() -> None:
    session = eager.load(job_of("tiny-flux", "first-block:10"), None)
    calls = dict.fromkeys(range(4), 0)

    def counting(number: int) -> Any:
        def count(*_: Any) -> None:
            calls[number] += 1

        return count

    inner = [each.norm1 if hasattr(each, "norm1") else each.norm for each in blocks(denoiser(session.pipe))]
    for number, norm in enumerate(inner):
        norm.register_forward_hook(counting(number))
    session.generate(1)
    assert calls == {0: 6, 1: 1, 2: 1, 3: 1}


def test_a_call_that_failed_leaves_nothing_for_the_next_one() -> None:
    session = eager.load(job_of("tiny-sd3", "taylorseer:3"), None)
    whole, image = session.pipe.transformer.forward, drawn(session)

    def fails(*given: Any, **named: Any) -> Any:
        if session.pipe.evaluations.all == 4:
            raise MemoryError
        return whole(*given, **named)

    session.pipe.transformer.forward = fails
    with pytest.raises(MemoryError):
        session.generate(1)
    session.pipe.transformer.forward = whole
    assert np.array_equal(drawn(session), image)


def test_first_block_is_unsupported_for_a_unet_with_what_fits() -> None:
    with pytest.raises(Unsupported, match="no first-block cache for a U-Net; fix: step_cache: taylorseer"):
        eager.load(job_of("tiny", "first-block"), None)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_compile_refuses_a_step_cache_of_a_unet(family: str) -> None:
    assert "as one network" in (misfit("compile", "pndm", family, "taylorseer:5") or "")


def test_engines_without_step_caches_refuse_them_and_name_one_that_has() -> None:
    for engine, facts in ENGINES.items():
        if not facts.step_caches:
            assert "fix: engine: eager or compile" in (misfit(engine, "pndm", "sd", "taylorseer:5") or "")
            assert misfit(engine, "pndm", "sd") is None


@pytest.mark.parametrize(
    ("text", "meant"),
    [("none", "none"), ("first-block", "first-block:0.05"), ("first-block:0.10", "first-block:0.1"),
     ("taylorseer", "taylorseer:5"), ("taylorseer:4.0", "taylorseer:4")],
)  # fmt: skip
def test_equal_step_caches_have_equal_names(text: str, meant: str) -> None:
    assert step_cache_name(text) == meant
    assert step_cache_name(meant) == meant


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("first-blok", "did you mean 'first-block'?"),
        ("deepcache", "expected none, first-block, taylorseer"),
        ("first-block:-1", "expected a number from 0 to 10 after first-block:"),
        ("first-block:", "expected a number"),
        ("first-block:nan", "expected a number"),
        ("taylorseer:2.5", "expected a whole number from 2 to 100"),
        ("taylorseer:1", "expected a whole number"),
    ],
)
def test_a_wrong_step_cache_is_answered_with_what_is_expected(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_step_cache(text)
