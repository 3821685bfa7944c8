from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import LoadError
from runner.models.source import Source


def test_a_hub_id_may_have_a_revision() -> None:
    assert Source.parse("CompVis/stable-diffusion-v1-4@fp16") == Source(
        "CompVis/stable-diffusion-v1-4", revision="fp16"
    )
    assert Source.parse("CompVis/stable-diffusion-v1-4").is_hub


def test_a_folder_that_is_there_is_a_folder(tmp_path: Path) -> None:
    source = Source.parse(str(tmp_path))
    assert source.is_folder
    assert not source.is_hub


@pytest.mark.parametrize("model", ["/no/such/folder", "./nothing", "~/nothing", "a/b/c", "synthetic:huge", "", "a b"])
def test_what_is_no_model_is_named(model: str) -> None:
    with pytest.raises(LoadError, match="there is no"):
        Source.parse(model)


@pytest.mark.parametrize("name", ["tiny", "sdxl", "flux-dev"])
def test_a_synthetic_model_without_its_prefix_is_answered_with_it(name: str) -> None:
    with pytest.raises(LoadError, match=f"there is no model '{name}'; did you mean 'synthetic:{name}'"):
        Source.parse(name)
