"""Activation maps over photos: their colours, and the scale that several of them share.

A map is stored in grey on its own scale, 0 for its lowest value and 255 for its highest. A filter in each page turns
grey into colours as it is drawn, so that one sheet serves every scale. Knows numbers, CSS and SVG; knows nothing of
runs or pages. static/maps.js does the same with script.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# Viridis, at 33 even steps from 0 to 1: perceptually uniform, readable with any colour blindness and in grey. By
# S. van der Walt and N. Smith (2015), in the public domain (CC0); taken from matplotlib's 256 colours, of which the
# lines between these differ by at most 1.8 of 255. How it compares with others: Nuñez, Anderton & Renslow 2018,
# doi:10.1371/journal.pone.0199239.
_STEPS = (
    "440154 470d60 48186a 482374 472d7b 453681 424086 3f4989 3b528b 375a8d 33638d "
    "2f6a8e 2c728e 297a8e 26818e 23898e 21908c 1f988b 1f9f88 21a685 28ae80 31b57b "
    "3ebc74 4cc26c 5dc963 6ece58 82d34c 96d83f abdc32 c0df24 d5e21a eae51a fde725"
)
VIRIDIS = np.array([list(bytes.fromhex(step)) for step in _STEPS.split()], np.uint8)  # (33, 3)
CLEAR, DENSE = 0.42, 0.92  # how much of the photo the lowest and the highest value hide


def table(band: int) -> str:
    """The colours' red, green or blue (0, 1, 2) as the tableValues of an SVG feComponentTransfer."""
    return " ".join(f"{value / 255:.3g}" for value in VIRIDIS[:, band])


def veil() -> str:
    """The values of an SVG feColorMatrix that makes low values of a grey map clearer than high ones."""
    return f"1 0 0 0 0 0 1 0 0 0 0 0 1 0 0 {DENSE - CLEAR:g} 0 0 {CLEAR:g} 0"


def shared_scale(ends: Sequence[tuple[float, float]], *, is_rectified: bool) -> tuple[float, float] | None:
    """The scale that several maps of one channel share.

    Args:
        ends: (lowest, highest) value of each map.
        is_rectified: whether a ReLU follows, to which everything below 0 is the same: the scale then begins at 0.

    Returns:
        Its two ends, low < high; None where the maps have no finite numbers or one value only.
    """
    finite = [pair for pair in ends if all(map(math.isfinite, pair))]
    if not finite:
        return None
    low = 0.0 if is_rectified else min(low for low, _ in finite)
    high = max(high for _, high in finite)
    if is_rectified and high <= 0:
        high = 1.0  # nothing is lit, whatever the scale
    return (low, high) if low < high else None


def rescaling(ends: tuple[float, float], scale: tuple[float, float]) -> str:
    """CSS filter functions that take a map from its own scale to another one.

    brightness(m) multiplies and contrast(k) takes x to k·x + (1 − k)/2, both cut off at 0 and 1. In the order chosen
    here nothing is cut off that the result would hold.

    Args:
        ends: (lowest, highest) value of the map, which its pixels show as 0 and 1.
        scale: (low, high), which are to be shown as 0 and 1; no map of them has a value above high.
    """
    width = scale[1] - scale[0]
    slope, start = (ends[1] - ends[0]) / width, (ends[0] - scale[0]) / width
    if start < 0:
        contrast = 1 - 2 * start
        return f"brightness({slope / contrast:.4g}) contrast({contrast:.4g})"
    bright = slope + 2 * start
    return f"contrast({slope / bright if bright else 1:.4g}) brightness({bright:.4g})"
