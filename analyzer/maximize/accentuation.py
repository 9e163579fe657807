"""Pictures that begin at a photo: what a unit likes of it becomes stronger, and the rest fades.

Source: Hamblin et al. 2024, "Feature Accentuation: Revealing 'What' Features Respond to in Natural Images",
arXiv:2402.10039.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from filterscope.analyzer.data.images import Photo, find, fit, photos_of, read
from filterscope.analyzer.network.inputs import InputSpec
from filterscope.analyzer.units.canvas import Canvas
from filterscope.converters import checks

CONTRAST = 0.75  # of a photo where its accentuation begins


def faded(pictures: np.ndarray) -> np.ndarray:
    """Pictures with less contrast about their own mean colour: (N, H, W, C) uint8."""
    mean = pictures.mean(axis=(1, 2), keepdims=True)
    levels: np.ndarray = np.clip(np.rint(mean + (pictures - mean) * CONTRAST), 0, 255)
    return levels.astype(np.uint8)


def read_photo(photo: str | Path | np.ndarray, white: float | None = None) -> Photo:
    """One photo; of an animation the first frame.

    Args:
        photo: a file, or (H, W) or (H, W, C) numbers in RGB order.
        white: of more than 8 bits, as in analyzer.data.images.find.

    Raises:
        InputError: it cannot be read as a picture.
        SettingsError: it stands for several pictures.
    """
    if isinstance(photo, np.ndarray):
        return photos_of({"start": photo}, white)[0]
    sources = find([photo], white)
    if len(sources) != 1:
        checks.refuse("start", str(photo), f"stands for {len(sources)} pictures; give one")
    return read(sources[0])


def on_canvas(photo: Photo, spec: InputSpec, canvas: Canvas) -> np.ndarray:
    """A photo that covers a canvas, cut to it: (H, W, C) uint8.

    Args:
        spec: of the network's input, for its channels.

    Raises:
        InputError: the network takes another number of channels.
    """
    return fit(photo, replace(spec, height=canvas.height, width=canvas.width), "cover")
