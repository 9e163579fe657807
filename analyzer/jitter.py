"""The small shifts by which a picture's robustness is measured.

Knows sizes only.
"""

from __future__ import annotations

import numpy as np

JITTERS = 16
JITTER = 0.04  # of the canvas, to each side


def jitters(size: tuple[int, int]) -> np.ndarray:
    """The 16 shifts of a canvas: (16, 2) int, rows down and columns right; all 0 where it is too small to shift."""
    reach = [round(JITTER * side) for side in size]
    rng = np.random.default_rng(20171107)  # fixed, so that pictures of different runs and tools are compared alike
    return np.stack([rng.integers(-r, r + 1, JITTERS) for r in reach], axis=1)


def longest_shift(size: tuple[int, int]) -> int:
    """The most pixels, down or to the right, by which a picture of this size is shifted; 0: it is too small."""
    return int(np.abs(jitters(size)).max())
