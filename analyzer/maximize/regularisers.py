"""What holds a picture back from noise: penalties on the objective, and operations on the picture after a step.

Both are small values that the presets can name, checked at birth. Pictures are u, (B, C, H, W), usually in [0, 1];
`centre` is the level that counts as nothing: mid grey, where Yosinski's program has the mean image. Torch is imported
at the first call.

Sources: Simonyan, Vedaldi & Zisserman 2014, arXiv:1312.6034 (L2); Mahendran & Vedaldi 2015, arXiv:1412.0035 (p-norm,
total variation); Yosinski et al. 2015, arXiv:1506.06579, section 3 (decay, blur, small norms, small contributions).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from filterscope.converters.errors import SettingsError

if TYPE_CHECKING:
    import torch

GREY = 0.5
NARROWEST = 0.05  # standard deviation in pixels under which a blur changes nothing that 32 bits hold
WIDEST = 256  # pixels of a blur


class Penalty(Protocol):
    """What is subtracted from each picture's objective."""

    def penalty(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → (B,), 0 or more; gradients flow."""


class Operation(Protocol):
    """What is done to the pictures after a step, without gradients."""

    def apply(self, pictures: torch.Tensor, gradients: torch.Tensor, step: int) -> torch.Tensor:
        """Pictures after the operation.

        Args:
            pictures: (B, C, H, W), after the optimiser's step.
            gradients: (B, C, H, W), of the objective at the pictures before it.
            step: from 0.
        """


@dataclass(frozen=True, slots=True)
class L2:
    """Mean square distance from the centre."""

    weight: float
    centre: float = GREY

    def __post_init__(self) -> None:
        _not_negative("l2", self.weight)

    def penalty(self, pictures: torch.Tensor) -> torch.Tensor:
        """weight · mean of (u - centre)²: (B,)."""
        return self.weight * (pictures - self.centre).square().mean(dim=(1, 2, 3))


@dataclass(frozen=True, slots=True)
class Lp:
    """Mean p-th power of the distance from the centre: the larger p, the more only outliers count."""

    weight: float
    p: float = 6.0
    centre: float = GREY

    def __post_init__(self) -> None:
        _not_negative("lp", self.weight)
        if not 1 <= self.p < math.inf:
            raise SettingsError(f"lp power {self.p}: give 1 or more")

    def penalty(self, pictures: torch.Tensor) -> torch.Tensor:
        """weight · mean of |u - centre|^p: (B,)."""
        return self.weight * (pictures - self.centre).abs().pow(self.p).mean(dim=(1, 2, 3))


@dataclass(frozen=True, slots=True)
class TotalVariation:
    """Mean absolute difference between neighbours, down and across."""

    weight: float

    def __post_init__(self) -> None:
        _not_negative("total variation", self.weight)

    def penalty(self, pictures: torch.Tensor) -> torch.Tensor:
        """weight · (sum of |differences| down + across) / (C·H·W): (B,)."""
        down = (pictures[:, :, 1:] - pictures[:, :, :-1]).abs().sum(dim=(1, 2, 3))
        across = (pictures[:, :, :, 1:] - pictures[:, :, :, :-1]).abs().sum(dim=(1, 2, 3))
        return (down + across) * (self.weight / math.prod(pictures.shape[1:]))


@dataclass(frozen=True, slots=True)
class Decay:
    """A part of the way back to the centre at each step."""

    part: float  # 0: none, 1: all
    centre: float = GREY

    def __post_init__(self) -> None:
        if not 0 <= self.part <= 1:
            raise SettingsError(f"decay {self.part}: give a part from 0 to 1")

    def apply(self, pictures: torch.Tensor, gradients: torch.Tensor, step: int) -> torch.Tensor:
        """centre + (1 - part) · (u - centre)."""
        return pictures + self.part * (self.centre - pictures)


@dataclass(frozen=True, slots=True)
class Blur:
    """A Gaussian blur every few steps, edges mirrored. Under 0.3 pixels it works very poorly, its authors say."""

    sigma: float  # standard deviation in pixels
    every: int = 1  # at steps 0, every, 2 · every, …

    def __post_init__(self) -> None:
        _not_negative("blur", self.sigma)
        if self.sigma > WIDEST:
            raise SettingsError(f"blur {self.sigma:g}: give at most {WIDEST} pixels; a wider one leaves one colour")
        if self.every < 1:
            raise SettingsError(f"blur every {self.every} steps: give 1 or more")

    def apply(self, pictures: torch.Tensor, gradients: torch.Tensor, step: int) -> torch.Tensor:
        """Blurred down and across."""
        if step % self.every or self.sigma < NARROWEST:
            return pictures
        import torch

        down, across = (
            torch.tensor(blurring(side, self.sigma), dtype=pictures.dtype, device=pictures.device)
            for side in pictures.shape[2:]
        )
        return down @ pictures @ across.T


@dataclass(frozen=True, slots=True)
class ClipSmallNorm:
    """Pixels of small norm over the bands go to the centre: only what stands out remains."""

    percentile: float  # of each picture's own pixels, 0 to 100
    centre: float = GREY

    def __post_init__(self) -> None:
        _percentile("small norm", self.percentile)

    def apply(self, pictures: torch.Tensor, gradients: torch.Tensor, step: int) -> torch.Tensor:
        """Pixels whose ‖u - centre‖ is below the percentile become the centre."""
        norms = (pictures - self.centre).square().sum(dim=1).sqrt()
        return pictures.masked_fill(_below(norms, self.percentile)[:, None], self.centre)


@dataclass(frozen=True, slots=True)
class ClipSmallContribution:
    """Pixels that contribute little to the objective go to the centre.

    The contribution is what the objective would lose by it, to first order: the sum over the bands of gradient times
    (u - centre), by default of its absolute value.
    """

    percentile: float  # of each picture's own pixels, 0 to 100
    centre: float = GREY
    absolute: bool = True  # False: pixels that harm go first

    def __post_init__(self) -> None:
        _percentile("small contribution", self.percentile)

    def apply(self, pictures: torch.Tensor, gradients: torch.Tensor, step: int) -> torch.Tensor:
        """Pixels whose contribution is below the percentile become the centre."""
        lost = (gradients * (pictures - self.centre)).sum(dim=1)
        lost = lost.abs() if self.absolute else lost
        return pictures.masked_fill(_below(lost, self.percentile)[:, None], self.centre)


def blurring(side: int, sigma: float) -> np.ndarray:
    """The blur of a line as a matrix (side, side), rows of sum 1; the window reaches 4 sigma, edges mirrored.

    The window and the mirror (d c b a | a b c d) are those of scipy's gaussian_filter, which Yosinski et al. call.
    """
    reach = int(4 * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    window = np.exp(-0.5 * (offsets / sigma) ** 2)
    places = (np.arange(side)[:, None] + offsets[None]) % (2 * side)
    places = np.minimum(places, 2 * side - 1 - places)
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.arange(side)[:, None], places), window / window.sum())
    return matrix


def _below(numbers: torch.Tensor, percentile: float) -> torch.Tensor:
    """(B, H, W) bool: below the percentile of each picture's own numbers, linear between two as numpy has it."""
    flat = numbers.flatten(1)
    place = percentile / 100 * (flat.shape[1] - 1)
    lower = math.floor(place)
    low = flat.kthvalue(lower + 1, dim=1, keepdim=True).values
    strict, loose = flat < low, flat <= low
    # The percentile lies above `low`, before the next number, unless it falls on `low` or the next number equals it.
    above = (loose.sum(dim=1, keepdim=True) == lower + 1) & (place > lower)
    return (strict | (loose & above)).reshape(numbers.shape)


def _not_negative(option: str, number: float) -> None:
    if not 0 <= number < math.inf:
        raise SettingsError(f"{option} {number}: give 0 or more")


def _percentile(option: str, number: float) -> None:
    if not 0 <= number <= 100:
        raise SettingsError(f"{option} percentile {number}: give 0 to 100")
