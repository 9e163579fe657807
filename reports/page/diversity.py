"""Whether several pictures of one unit are several views of it, and whether those of several units differ.

Knows pixels alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from filterscope.reports.page import sheets

SIDE = 32  # pixels, at which pictures are compared: texture that no two ascents share is gone
NOISE = 16.0  # grey levels², added on both sides of the fraction: flat pictures that differ by less are alike
ONE = 0.75  # likeness from which pictures are one, chosen by looking at 112 units (docs/maximisation.md)


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """How far two pictures agree pixel by pixel, in colour and in form.

    Args:
        one, other: (H, W, C) uint8, of one shape.

    Returns:
        The concordance correlation of their colours at 32 pixels, summed over the bands: 1 for equal pictures, about 0
        for unrelated ones, at least −1. It is a correlation that falls with differences in mean and contrast too.

    Source: Lin 1989, doi:10.2307/2532051.
    """
    a, b = (_small(picture) for picture in (one, other))
    means = a.mean((0, 1)), b.mean((0, 1))
    covariance = float(np.mean((a - means[0]) * (b - means[1]), (0, 1)).sum())
    spread = float((a.var((0, 1)) + b.var((0, 1)) + (means[0] - means[1]) ** 2).sum())
    return (2 * covariance + NOISE) / (spread + NOISE)


def are_one(pictures: Sequence[np.ndarray]) -> bool:
    """Whether all pictures of a unit show the same: each two of them have a likeness of 0.75 or more.

    Args:
        pictures: (H, W, C) uint8 each, of one shape; one picture alone is one.
    """
    return all(likeness(a, b) >= ONE for a, b in combinations(pictures, 2))


def median_correlation(pictures: Sequence[np.ndarray]) -> float | None:
    """How much pictures of several units look alike: 1 where they are equal, about 0 where they have nothing in common.

    Args:
        pictures: (H, W, C) uint8 each, of one shape.

    Returns:
        The median over all pairs of the correlation of their values at 32 pixels; None for fewer than three pictures.
        A picture of one colour correlates with none.
    """
    if len(pictures) < 3:
        return None
    values = np.stack([_small(picture).ravel() for picture in pictures])
    values -= values.mean(1, keepdims=True)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)
    pairs = np.triu_indices(len(values), 1)
    return float(np.median((values @ values.T)[pairs]))


def _small(picture: np.ndarray) -> np.ndarray:
    return sheets.at_most(picture, SIDE).astype(np.float64)
