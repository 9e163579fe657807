"""Pictures that begin at a photo: what a unit likes of it becomes stronger, and the rest fades.

Source: Hamblin et al. 2024, "Feature Accentuation: Revealing 'What' Features Respond to in Natural Images",
arXiv:2402.10039.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from filterscope.analyzer.data.images import find, fit, load, photos_of
from filterscope.analyzer.network.inputs import InputSpec
from filterscope.analyzer.units.canvas import Canvas
from filterscope.converters import checks

CONTRAST = 0.75  # of a photo where its accentuation begins


def faded(pictures: np.ndarray) -> np.ndarray:
    """Pictures with less contrast about their own mean colour: (N, H, W, C) uint8."""
    mean = pictures.mean(axis=(1, 2), keepdims=True)
    levels: np.ndarray = np.clip(np.rint(mean + (pictures - mean) * CONTRAST), 0, 255)
    return levels.astype(np.uint8)


def on_canvas(photo: str | Path | np.ndarray, spec: InputSpec, canvas: Canvas) -> np.ndarray:
    """A photo that covers a canvas, cut to it: (H, W, C) uint8.

    Args:
        photo: a file, or (H, W, C) numbers in RGB order.
        spec: of the network's input, for its channels.

    Raises:
        InputError: it cannot be read as a picture.
        SettingsError: it stands for several pictures.
    """
    sized = replace(spec, height=canvas.height, width=canvas.width)
    if isinstance(photo, np.ndarray):
        return fit(photos_of({"start": photo})[0], sized, "cover")
    sources = find([photo])
    if len(sources) != 1:
        checks.refuse("start", photo, f"stands for {len(sources)} pictures; give one")
    ((_, pixels),) = load(sources, sized, "cover")
    return pixels
