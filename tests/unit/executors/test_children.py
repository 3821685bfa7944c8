"""Programs that we start get our environment without our tokens, whichever variable holds one."""

from __future__ import annotations

import re

import pytest
from paths import ROOT

from orchestrator.commands.driving import hub_token
from orchestrator.executors.children import without_tokens
from runner.wire.tokens import TOKEN_VARIABLES


@pytest.mark.parametrize("name", TOKEN_VARIABLES)
def test_a_child_gets_no_token_and_all_else(name: str) -> None:
    assert without_tokens({name: "hf_x", "AWS_PROFILE": "bench", "PATH": "/bin"}) == {
        "AWS_PROFILE": "bench",
        "PATH": "/bin",
    }


@pytest.mark.parametrize("name", TOKEN_VARIABLES)
def test_each_token_variable_is_taken_as_the_token(name: str) -> None:
    assert hub_token({name: "hf_x"}) == "hf_x"


def test_token_variables_are_listed_in_one_place_alone() -> None:
    lists = re.compile(r"HF_AUTH_TOKEN|HUGGING_FACE_HUB_TOKEN|HUGGINGFACE_TOKEN")
    sources = [*ROOT.glob("orchestrator/**/*.py"), *ROOT.glob("runner/**/*.py")]
    assert [path.name for path in sources if lists.search(path.read_text())] == ["tokens.py"]


def test_the_docs_name_every_token_variable() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    assert [name for name in TOKEN_VARIABLES if f"`{name}`" not in text] == []
