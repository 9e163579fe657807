"""What stands beside how telling a picture is: padding, natural surroundings, and the path through the layers.

Padding: the share of a unit's activation that neurons have whose field reaches beyond the canvas. Surroundings: what
the unit's neurons in the middle answer once the picture stands in the mean of some photos. Path: whether channels of
earlier layers rank under the picture as they do under the natural images that excite the unit most. Knows arrays;
knows nothing of networks or files.

Source of the paths: Geirhos, Zimmermann, Bilodeau, Brendel & Kim 2024, arXiv:2306.04719, as docs/truth.md has it.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

SURROUNDING = 8  # photos in whose mean a picture stands
MIDDLE = 2 / 7  # of the canvas, along each axis: 64 of 224 pixels, the smallest picture


@dataclass(frozen=True, slots=True)
class Axis:
    """Where a layer's neurons look along one axis, in pixels."""

    start: float  # first pixel of neuron 0; negative where it sees padding
    jump: float  # between neighbouring neurons
    size: float  # of a field

    def inside(self, neurons: int, pixels: int) -> np.ndarray:
        """(neurons,) bool: whose field lies on a canvas of so many pixels."""
        first = self.start + self.jump * np.arange(neurons)
        return np.asarray((first >= 0) & (first + self.size <= pixels))

    def middle(self, neurons: int, pixels: int) -> np.ndarray:
        """(neurons,) bool: whose field has its middle in the canvas's; at least the nearest one."""
        away = np.abs(self.start + self.jump * np.arange(neurons) + self.size / 2 - pixels / 2)
        return np.asarray((away <= pixels * MIDDLE / 2) | (away == away.min()))


def share_from_padding(values: np.ndarray, axes: tuple[Axis, Axis], size: tuple[int, int]) -> float:
    """Share of a map's positive activation, 0 to 1, of neurons whose field reaches beyond the canvas.

    Args:
        values: (H, W) of one unit; NaN is returned where no neuron is above 0.
        axes: rows, columns.
        size: height and width of the canvas, pixels.
    """
    positive = np.maximum(values.astype(np.float64), 0)
    rows, columns = (axes[i].inside(values.shape[i], size[i]) for i in (0, 1))
    total = positive.sum()
    return float(1 - positive[np.ix_(rows, columns)].sum() / total) if total > 0 else float("nan")


def activation_in_the_middle(maps: np.ndarray, axes: tuple[Axis, Axis], size: tuple[int, int]) -> np.ndarray:
    """Mean over the middle neurons of maps (N, H, W): (N,). The same neurons whatever size a picture has."""
    rows, columns = (axes[i].middle(maps.shape[1 + i], size[i]) for i in (0, 1))
    return np.asarray(maps[:, rows][:, :, columns].mean(axis=(1, 2), dtype=np.float64))


def placed(pictures: np.ndarray, surroundings: np.ndarray) -> np.ndarray:
    """Pictures (N, H, W, C) in the middle of surroundings (H', W', C): (N, H', W', C) uint8."""
    height, width = pictures.shape[1:3]
    top, left = (surroundings.shape[0] - height) // 2, (surroundings.shape[1] - width) // 2
    canvases = np.repeat(surroundings[None], len(pictures), axis=0)
    canvases[:, top : top + height, left : left + width] = pictures
    return canvases


def middle_of(pictures: np.ndarray, side: int) -> np.ndarray:
    """Pictures (N, H, W, C), of each the middle where it is larger than a side."""
    height, width = (min(extent, side) for extent in pictures.shape[1:3])
    top, left = (pictures.shape[1] - height) // 2, (pictures.shape[2] - width) // 2
    return pictures[:, top : top + height, left : left + width]


def mean_of(photos: np.ndarray) -> np.ndarray:
    """Mean of photos (N, H, W, C) uint8: (H, W, C) uint8."""
    return np.asarray(photos.mean(axis=0).round().astype(np.uint8))


def resized(pictures: np.ndarray, side: int) -> np.ndarray:
    """(P, H, W, C) uint8 → the same at side × side."""
    if pictures.shape[1:3] == (side, side):
        return pictures
    images = [Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC) for one in pictures]
    return np.stack([np.asarray(image) for image in images])


@dataclass(frozen=True, slots=True)
class Paths:
    """Mean rank correlations with the strongest natural images of a unit, in one earlier layer."""

    picture: float
    natural: float  # of these images among themselves
    chance: float  # of random images


def paths(pictures: np.ndarray, strongest: np.ndarray, others: np.ndarray) -> Paths:
    """Compare ranks of an earlier layer's channels.

    Args:
        pictures, strongest, others: (N, channels) ranks, centred and of length 1, so that products are correlations.
    """
    among = (strongest @ strongest.T)[np.triu_indices(len(strongest), 1)]
    return Paths(float((pictures @ strongest.T).mean()), float(among.mean()), float((others @ strongest.T).mean()))
