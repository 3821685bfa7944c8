"""Types of command-line flags."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def pixels(text: str) -> int:
    if positive(text) % 8:
        raise argparse.ArgumentTypeError(f"expected a multiple of 8, got {text}")
    return int(text)
