"""The colours of figures: told apart by colour-blind readers, and strong enough against the page."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from orchestrator.report.figures.theme import MOST_SERIES, PAGE, SHAPES, config, palette

# How each kind of colour-blindness mixes linear RGB at full severity (Machado, Oliveira and Fernandes, 2009).
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)
JUST_TOLD_APART = 2.3  # of CIELAB's distance
LEAST_CONTRAST = 3  # of graphics (WCAG 2.2, 1.4.11)
MOST_COMMON = 5


def linear(colour: str) -> Any:
    parts = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb: Any) -> Any:
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("sight", SIGHT)
def test_all_series_are_told_apart_by_everyone(sight: str, dark: bool) -> None:
    seen = [lab(np.array(SIGHT[sight]) @ linear(colour)) for colour in palette(dark)]
    assert min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2)) > 6 * JUST_TOLD_APART


@pytest.mark.parametrize("dark", [False, True])
def test_the_first_series_stand_out_from_the_page(dark: bool) -> None:
    for colour in palette(dark)[:MOST_COMMON]:
        assert contrast(colour, PAGE[dark]) >= LEAST_CONTRAST


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_from_the_page(dark: bool) -> None:
    found = config(dark)
    for colour in (found["title"]["color"], found["title"]["subtitleColor"], found["axis"]["labelColor"]):
        assert contrast(colour, PAGE[dark]) >= 4.5


def test_each_series_has_a_shape_of_its_own() -> None:
    assert len(set(SHAPES)) == MOST_SERIES == len(palette(False)) == len(palette(True))
