"""Types of command-line flags."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def pixels(text: str) -> int:
    if positive(text) % 8:
        raise argparse.ArgumentTypeError(f"{text} is not a multiple of 8")
    return int(text)
