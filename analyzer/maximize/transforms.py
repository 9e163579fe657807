"""Small random movements of the picture at each step, so that what is found survives them.

A transform is a small value with one method: pictures (B, C, H, W) and a source of random numbers in, pictures out.
One draw a step serves the whole batch and depends on the seed and the step alone, never on the batch. Sizes are parts
of the picture's own sides, because our canvases are fitted to receptive fields: what a source gives in pixels of a
224 px canvas is divided by 224 (after padding, by the padded side). Torch is imported at the first call, so that a
plan, which names transforms, does without it.

Sources: Olah et al. 2017, doi:10.23915/distill.00007, section Transformation robustness; Lucid, their program; Fel et
al. 2023, arXiv:2306.06805 (crops and noise).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from filterscope.converters.errors import SettingsError

if TYPE_CHECKING:
    import torch

CROP_SPREAD = 0.05  # standard deviation of a crop's side, as a part of the picture's
CENTRE_SPREAD = 0.15  # standard deviation of a crop's centre
LESS, LEAST = 32, 128  # pixels a side that a window is smaller; of a picture of which windows are seen


class Transform(Protocol):
    """One kind of random movement."""

    def __call__(self, pictures: torch.Tensor, rng: np.random.Generator, progress: float | None = None) -> torch.Tensor:
        """Pictures moved by one draw.

        Args:
            pictures: (B, C, H, W).
            rng: of this step.
            progress: part of the ascent that is done, 0 to 1; None: not known.

        Returns:
            (copies · B, C, H', W').
        """


@dataclass(frozen=True, slots=True)
class Pad:
    """A border on all four sides."""

    part: float  # of each side
    value: float | None = 0.5  # level of the border; None: the edge repeated

    def __post_init__(self) -> None:
        _at_least("pad", self.part, 0)

    def __call__(self, pictures: torch.Tensor, rng: np.random.Generator, progress: float | None = None) -> torch.Tensor:
        """(B, C, H + 2 p, W + 2 q)."""
        from torch.nn import functional as F

        tall, wide = (round(self.part * side) for side in pictures.shape[2:])
        if not (tall or wide):
            return pictures
        if self.value is None:
            return F.pad(pictures, (wide, wide, tall, tall), mode="replicate")
        return F.pad(pictures, (wide, wide, tall, tall), value=self.value)


@dataclass(frozen=True, slots=True)
class Jitter:
    """A window a few pixels smaller than the picture, at a random place: a shift by whole pixels."""

    part: float = 0.0  # of each side that the window is smaller; the shift is half of it to either side
    pixels: int = 0  # and so many pixels more

    def __post_init__(self) -> None:
        _at_least("jitter", self.part, 0)
        _at_least("jitter", self.pixels, 0)

    def __call__(self, pictures: torch.Tensor, rng: np.random.Generator, progress: float | None = None) -> torch.Tensor:
        """(B, C, H - p, W - q), never empty."""
        for axis in (2, 3):
            side = pictures.shape[axis]
            spare = min(self.pixels + round(self.part * side), side - 1)
            pictures = pictures.narrow(axis, int(rng.integers(spare + 1)), side - spare)
        return pictures


@dataclass(frozen=True, slots=True)
class Scale:
    """Another size: a factor between two bounds, or one of a few."""

    low: float = 1.0
    high: float = 1.0
    choices: tuple[float, ...] = ()  # instead of bounds

    def __post_init__(self) -> None:
        for factor in self.choices or (self.low, self.high):
            if not 0 < factor < math.inf:
                raise SettingsError(f"scale {factor}: give factors above 0")
        _ordered("scale", self.low, self.high)

    def __call__(self, pictures: torch.Tensor, rng: np.random.Generator, progress: float | None = None) -> torch.Tensor:
        """(B, C, H · factor, W · factor), rounded, at least a pixel."""
        factor = _drawn(rng, self.low, self.high, self.choices)
        height, width = pictures.shape[2:]
        return _resized(pictures, (max(1, round(height * factor)), max(1, round(width * factor))))


@dataclass(frozen=True, slots=True)
class Rotate:
    """A turn about the centre: degrees between two bounds, or one of a few. What comes in repeats the edge."""

    low: float = 0.0
    high: float = 0.0
    choices: tuple[float, ...] = ()  # instead of bounds

    def __post_init__(self) -> None:
        if not all(math.isfinite(angle) for angle in (self.low, self.high, *self.choices)):
            raise SettingsError("rotate: give finite degrees")
        _ordered("rotate", self.low, self.high)

    def __call__(self, pictures: torch.Tensor, rng: np.random.Generator, progress: float | None = None) -> torch.Tensor:
        """(B, C, H, W)."""
        angle = math.radians(_drawn(rng, self.low, self.high, self.choices))
        return _moved(pictures, angle, 1.0, (0.0, 0.0)) if angle else pictures


@dataclass(frozen=True, slots=True)
class Crop:
    """Several crops a step, each brought back to the picture's size; noise upon each, as MACO looks at pictures.

    Crop sides fall from `largest` to `smallest` of the picture's as the ascent goes on, with a standard deviation of
    CROP_SPREAD; where progress is not known they are drawn between the two. Boxes stay inside the picture (Xplique
    lets them leave it, into zeros).
    """

    smallest: float  # part of each side
    largest: float
    count: int = 1
    noise: float = 0.0  # standard deviation of normal noise, and width of uniform noise; pictures may leave [0, 1]
    even: bool = False  # crops lie anywhere, a third of them at each border; else about the middle, which is seen most

    def __post_init__(self) -> None:
        if not 0 < self.smallest <= self.largest <= 1:
            raise SettingsError(
                f"crop {self.smallest} to {self.largest}: give parts of the side, 0 < smallest ≤ largest ≤ 1"
            )
        _at_least("crop count", self.count, 1)
        _at_least("crop noise", self.noise, 0)

    def __call__(self, pictures: torch.Tensor, rng: np.random.Generator, progress: float | None = None) -> torch.Tensor:
        """(count · B, C, H, W): crop k of picture i at row k · B + i."""
        import torch

        size = (pictures.shape[2], pictures.shape[3])
        return torch.cat([self._noisy(self._one(pictures, size, rng, progress), rng) for _ in range(self.count)])

    def _one(
        self, pictures: torch.Tensor, size: tuple[int, int], rng: np.random.Generator, progress: float | None
    ) -> torch.Tensor:
        from torch.nn import functional as F

        if progress is None:
            part = rng.uniform(self.smallest, self.largest)
        else:
            mean = self.largest + (self.smallest - self.largest) * progress
            part = float(np.clip(rng.normal(mean, CROP_SPREAD), self.smallest, 1.0))
        for axis, side in zip((2, 3), size, strict=True):
            extent = max(1, round(part * side))
            spare = side - extent
            drawn = rng.uniform(-spare, 2 * spare) if self.even else side * rng.normal(0.5, CENTRE_SPREAD) - extent / 2
            start = int(np.clip(round(drawn), 0, spare))
            pictures = pictures.narrow(axis, start, extent)
        if pictures.shape[2:] == size:
            return pictures
        return F.interpolate(pictures, size, mode="bilinear", antialias=True)

    def _noisy(self, pictures: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        if not self.noise:
            return pictures
        import torch

        shape = tuple(pictures.shape[1:])
        drawn = rng.normal(0.0, self.noise, shape) + rng.uniform(-self.noise / 2, self.noise / 2, shape)
        return pictures + torch.tensor(drawn, dtype=pictures.dtype, device=pictures.device)


@dataclass(frozen=True, slots=True)
class Window:
    """A window LESS pixels smaller than the picture, at a random place and nearly its own size, with noise upon it.

    The network sees the window alone: a fifth to a quarter less work on 224 px than the whole picture. All windows of
    a picture have one size, which differs from the picture's by a number of pixels that strides of common networks
    divide. A picture of less than LEAST pixels a side stays whole.
    """

    zoom: float  # largest relative change of size
    noise: float = 0.0  # standard deviation of normal noise; pictures may leave [0, 1]

    def __post_init__(self) -> None:
        if not 0 <= self.zoom < 1:
            raise SettingsError(f"window zoom {self.zoom}: give 0 or more, below 1")
        _at_least("window noise", self.noise, 0)

    def seen(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of what the network sees of pictures of this size."""
        if min(size) < LEAST:
            return size
        return size[0] - LESS, size[1] - LESS

    def __call__(self, pictures: torch.Tensor, rng: np.random.Generator, progress: float | None = None) -> torch.Tensor:
        """(B, C, H - LESS, W - LESS)."""
        import torch
        from torch.nn import functional as F

        size = self.seen((pictures.shape[2], pictures.shape[3]))
        zoom = float(rng.uniform(1 - self.zoom, 1 + self.zoom))
        for axis, shown in zip((2, 3), size, strict=True):
            side = pictures.shape[axis]
            extent = min(side, max(1, round(shown / zoom)))
            spare = side - extent
            start = int(np.clip(round(rng.uniform(-spare, 2 * spare)), 0, spare))  # a third of them at each border
            pictures = pictures.narrow(axis, start, extent)
        if pictures.shape[2:] != size:
            pictures = F.interpolate(pictures, size, mode="bilinear", antialias=True)
        if not self.noise:
            return pictures
        drawn = self.noise * rng.standard_normal(tuple(pictures.shape[1:]), dtype=np.float32)
        return pictures + torch.tensor(drawn, dtype=pictures.dtype, device=pictures.device)


@dataclass(frozen=True, slots=True)
class Move:
    """Rotation, scaling and shift in one resampling, under a frame of the picture's own size, its edges repeated."""

    jitter: float  # to each side, as a part of the picture's
    rotation: float  # degrees to each side
    scaling: float  # largest relative change of size

    def __post_init__(self) -> None:
        _at_least("jitter", self.jitter, 0)
        _at_least("rotation", self.rotation, 0)
        if not 0 <= self.scaling < 1:
            raise SettingsError(f"scaling {self.scaling}: give 0 or more, below 1")

    def __call__(self, pictures: torch.Tensor, rng: np.random.Generator, progress: float | None = None) -> torch.Tensor:
        """(B, C, H, W)."""
        if not (self.jitter or self.rotation or self.scaling):
            return pictures
        angle = math.radians(rng.uniform(-self.rotation, self.rotation))
        size = 1.0 + rng.uniform(-self.scaling, self.scaling)
        down, right = rng.uniform(-self.jitter, self.jitter, 2)
        return _moved(pictures, angle, size, (down * pictures.shape[2], right * pictures.shape[3]))


@dataclass(frozen=True, slots=True)
class TransformSequence:
    """Transforms one after another, and the result brought back to the canvas's own size, if it is not a window."""

    transforms: tuple[Transform, ...]
    steps: int | None  # of the whole ascent
    whole: bool = False  # windows too are brought back: for what reads places of a map, or runs at one size alone

    @property
    def copies(self) -> int:
        """How many pictures a call returns for each one given."""
        return math.prod(t.count for t in self.transforms if isinstance(t, Crop))

    def seen(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of what a call returns for pictures of this size."""
        last = self.transforms[-1] if self.transforms and not self.whole else None
        return last.seen(size) if isinstance(last, Window) else size

    def __call__(self, pictures: torch.Tensor, seed: int, step: int) -> torch.Tensor:
        """Pictures as the network is to see them at a step.

        Args:
            pictures: (B, C, H, W).
            seed: of the run.
            step: of the ascent; the same seed and step give the same draw.

        Returns:
            (copies · B, C, *seen((H, W))); copy k of picture i at row k · B + i. Its centre where it had grown, its
            edges repeated where it had shrunk.
        """
        if not self.transforms:
            return pictures
        from filterscope.analyzer.maximize.resample import framed

        size = self.seen((pictures.shape[2], pictures.shape[3]))
        rng = _generator(seed, step)
        progress = None if self.steps is None else min(1.0, step / max(1, self.steps - 1))
        for one in self.transforms:
            pictures = one(pictures, rng, progress)
        return framed(pictures, size)


def fitted(transforms: Sequence[Transform], steps: int | None = None) -> TransformSequence:
    """A sequence of transforms as one function of pictures, seed and step.

    Args:
        transforms: in order; none: the pictures themselves.
        steps: of the ascent, for crops that shrink as it goes on.
    """
    return TransformSequence(tuple(transforms), steps)


def _generator(seed: int, step: int) -> np.random.Generator:
    return np.random.default_rng([seed, 7, step])


def _drawn(rng: np.random.Generator, low: float, high: float, choices: tuple[float, ...]) -> float:
    return choices[int(rng.integers(len(choices)))] if choices else float(rng.uniform(low, high))


def _moved(pictures: torch.Tensor, angle: float, size: float, shift: tuple[float, float]) -> torch.Tensor:
    from filterscope.analyzer.maximize.resample import resampled

    cosine, sine = math.cos(angle) / size, math.sin(angle) / size
    frame = (pictures.shape[2], pictures.shape[3])
    return resampled(pictures, frame, ((cosine, sine), (-sine, cosine)), shift)


def _resized(pictures: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    from filterscope.analyzer.maximize.resample import resampled

    height, width = pictures.shape[2:]
    if (height, width) == size:
        return pictures
    return resampled(pictures, size, ((height / size[0], 0.0), (0.0, width / size[1])))


def _at_least(option: str, number: float, least: float) -> None:
    if not least <= number < math.inf:
        raise SettingsError(f"{option} {number}: give {least} or more")


def _ordered(option: str, low: float, high: float) -> None:
    if low > high:
        raise SettingsError(f"{option} {low} to {high}: give the lower bound first")
