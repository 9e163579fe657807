"""Where in an image speaks for one class rather than another, in a sentence that its numbers carry.

Knows signed pictures; knows nothing of runs or HTML.
"""

from __future__ import annotations

import numpy as np

from filterscope.reports.page import words

NINTH = 0.4  # share of what speaks for a class that one ninth of the image must hold to be named
THIRD = 0.6  # share that one third of it, a band across or down, must hold to be named
ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "middle", "right")
BANDS = (  # across, down
    ("upper third of the image", "middle third of the image, between top and bottom", "lower third of the image"),
    ("left third of the image", "middle third of the image, between left and right", "right third of the image"),
)


def sentence(signed: np.ndarray, answer: str, other: str) -> str:
    """Where most of what speaks for the answer lies.

    Args:
        signed: (H, W, 1) uint8 of an attribution, 128 is 0.
        answer: the class that it is for.
        other: the class that it is against.

    Returns:
        A sentence; empty where nothing speaks for the answer.
    """
    positive = np.clip(signed[..., 0].astype(np.float64) - 128, 0, None)
    total = positive.sum()
    if not total:
        return ""
    speaks = f"speaks for {answer} rather than {other}"
    ninths = _ninths(positive) / total
    thirds = np.stack([ninths.sum(1), ninths.sum(0)])  # across, down
    if ninths.max() >= NINTH:
        row, column = divmod(int(ninths.argmax()), 3)
        return f"{words.percent(float(ninths.max()))} of what {speaks} lies in the {_ninth(row, column)} of the image."
    if thirds.max() >= THIRD:
        way, place = divmod(int(thirds.argmax()), 3)
        return f"{words.percent(float(thirds.max()))} of what {speaks} lies in the {BANDS[way][place]}."
    return f"What {speaks} is spread over the image."


def _ninths(values: np.ndarray) -> np.ndarray:
    """Sums over three by three parts of an image, as equal as whole pixels allow: (3, 3)."""
    parts = [np.array_split(band, 3, axis=1) for band in np.array_split(values, 3, axis=0)]
    return np.array([[part.sum() for part in band] for band in parts])


def _ninth(row: int, column: int) -> str:
    return "central ninth" if (row, column) == (1, 1) else f"{ROWS[row]} {COLUMNS[column]} ninth"
