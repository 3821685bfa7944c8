"""What docs/method.md says of a call, where no other test holds it."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from fake_engine import FakeEngine, FakeSession, job_of

from runner.schema import Job
from runner.worker import run_cases

torch = pytest.importorskip("torch", reason="the runner's extra is not installed")

from runner import pipeline  # noqa: E402
from runner.engines import eager  # noqa: E402


def tiny(**fields: Any) -> Job:
    return job_of("a photo of an astronaut", **{"steps": 2, "threads": torch.get_num_threads(), **fields})


def test_a_call_has_inference_mode_and_neither_gradient_nor_checker_nor_bar() -> None:
    session, modes = eager.load(tiny(), None), []
    session.pipe.unet.register_forward_hook(
        lambda *_: modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
    )
    session.generate(1)
    assert set(modes) == {(True, False)}
    assert session.pipe.safety_checker is None
    assert session.pipe._progress_bar_config["disable"] is True


def test_the_latents_are_drawn_before_the_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    session, drawn = eager.load(tiny(), None), []
    draw = pipeline.latents
    monkeypatch.setattr(pipeline, "latents", lambda *given: drawn.append(given[2]) or draw(*given))
    for _ in range(3):
        session.generate(2)
    assert drawn == [2]


class CollectedEngine(FakeEngine):
    def load(self, job: Job, token: str | None) -> FakeSession:
        session = super().load(job, token)
        generate = session.generate

        def watched(samples: int) -> Any:
            self.frozen, self.collects = gc.get_freeze_count(), gc.isenabled()
            return generate(samples)

        session.generate = watched  # type: ignore[method-assign]
        return session


def test_what_is_loaded_is_kept_out_of_the_collectors_way_and_it_still_runs() -> None:
    engine, job = CollectedEngine(), job_of(samples=(1,))
    try:
        run_cases(job, job.cases, engine, None, lambda _: None)
        assert (engine.frozen > 1000, engine.collects) == (True, True)
    finally:
        gc.unfreeze()
