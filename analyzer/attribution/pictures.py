"""Attributions as pictures: the exact signed map, its colours over the image, and where the strong ones are.

Knows pixels; knows nothing of networks or files.
"""

from __future__ import annotations

import numpy as np

FOR, AGAINST = (178.0, 24.0, 43.0), (33.0, 102.0, 172.0)  # red and blue, told apart by colour-blind readers too
CLIPPED = 0.99  # part of the pixels that are below full colour: a few extreme ones must not hide the rest
PALE = 0.6  # contrast that the image keeps under the colours


def signed_tile(signed: np.ndarray) -> np.ndarray:
    """(H, W) of any numbers → (H, W, 1) uint8: 128 is 0, 1 and 255 are ∓ the largest absolute value."""
    largest = float(np.abs(signed).max())
    scaled = signed / largest if largest > 0 else np.zeros_like(signed)
    return np.rint(128 + 127 * scaled).astype(np.uint8)[..., None]


def overlay(pixels: np.ndarray, signed: np.ndarray) -> np.ndarray:
    """The picture in pale grey, red where pixels speak for the target and blue where against it: (H, W, 3) uint8.

    Full colour stands for the 99th percentile of the absolute values, and all above it.

    Args:
        pixels: (H, W, C) uint8.
        signed: (H, W).
    """
    grey = pixels.astype(np.float64).mean(-1, keepdims=True)
    base = 255 - PALE * (255 - grey)
    weight = _to_unit(np.abs(signed))[..., None]
    colour = np.where(signed[..., None] >= 0, FOR, AGAINST)
    blended: np.ndarray = np.rint(base * (1 - weight) + colour * weight).astype(np.uint8)
    return blended


def absolute(strength: np.ndarray) -> np.ndarray:
    """(H, W) of numbers from 0 upwards → (H, W, 1) uint8: black is 0, white the 99th percentile and all above it."""
    shades: np.ndarray = np.rint(255 * _to_unit(strength)).astype(np.uint8)[..., None]
    return shades


def _to_unit(strength: np.ndarray) -> np.ndarray:
    top = float(np.quantile(strength, CLIPPED)) or float(strength.max())
    return np.clip(strength / top, 0, 1) if top > 0 else np.zeros_like(strength)
