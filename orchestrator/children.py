"""The environment of the programs that we start: ssh, credential plugins and helpers, runners."""

from __future__ import annotations

from collections.abc import Mapping

from runner.tokens import TOKEN_VARIABLES


def without_tokens(ours: Mapping[str, str]) -> dict[str, str]:
    """Our environment for a child process. A program that needs a token is given it another way."""
    return {name: value for name, value in ours.items() if name not in TOKEN_VARIABLES}
