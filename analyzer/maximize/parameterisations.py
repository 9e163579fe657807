"""How a picture is held while it is optimised: pixels, Fourier coefficients, or phases alone. None leaves the domain.

Pictures are u in [0, 1], (B, C, H, W), RGB order. Each picture's start depends on its own seed alone, so that a unit
gets the same start in any batch. All three are made alike and have the same methods. Knows torch and priors; knows
nothing of networks.

Sources: Olah, Mordvintsev & Schubert 2017, "Feature Visualization", doi:10.23915/distill.00007, section Preconditioning
(Fourier); Fel et al. 2023, "Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained
Optimization", arXiv:2306.06805 (Maco).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from filterscope.analyzer.maximize.presets import Start
from filterscope.analyzer.maximize.priors import Prior, default_prior, one_over_f

GREY = Start("normal", 0.5, 0.01)
FAINT = Start("normal", 0.0, 0.01)  # Fourier coefficients, as Lucid starts
ANY_PHASE = Start("normal", 0.0, 1.0)
SPREAD = math.pi  # standard deviation of Maco's phases
EDGE = 1 / 510  # half a level: black and white that a sigmoid can reach, and round to themselves


class Parameters(Protocol):
    """A batch of pictures as numbers that can be stepped.

    values: (B, ...) float32, requires grad; what the optimiser moves. May be replaced by some of its rows.
    rate: the optimiser's default step.
    """

    values: torch.Tensor
    rate: float

    def pictures(self) -> torch.Tensor:
        """The pictures as they are now, (B, C, H, W) in [0, 1]; gradients flow to `values`."""

    def decode(self, values: torch.Tensor) -> torch.Tensor:
        """Some values → their pictures."""

    def constrain(self) -> None:
        """After a step: bring `values` back to where pictures are in the domain."""


class Pixels:
    """Pixels themselves, kept in [0, 1] by clipping after each step.

    Args:
        seeds: one a picture.
        shape: (C, H, W).
        device: where to compute.
        prior: not used: a pixel expects nothing.
        start: levels at the start; by default mid grey with a little noise.
    """

    rate = 0.1  # Adam

    def __init__(
        self,
        seeds: Sequence[Sequence[int]],
        shape: tuple[int, int, int],
        device: torch.device,
        prior: Prior | None = None,
        start: Start = GREY,
    ) -> None:
        self.values = _drawn(seeds, shape, device, start)

    @classmethod
    def start_from(cls, pictures: torch.Tensor, prior: Prior | None = None) -> Self:
        """Begin at given pictures, (B, C, H, W) in [0, 1]."""
        held = cls([], (pictures.shape[1], pictures.shape[2], pictures.shape[3]), pictures.device)
        held.values = pictures.detach().to(torch.float32).clamp(0.0, 1.0).requires_grad_(True)
        return held

    def pictures(self) -> torch.Tensor:
        """The pictures as they are now."""
        return self.values

    def decode(self, values: torch.Tensor) -> torch.Tensor:
        """The identity: the values are the pictures."""
        return values

    def constrain(self) -> None:
        """Back into the box."""
        with torch.no_grad():
            self.values.clamp_(0.0, 1.0)


class Fourier:
    """Fourier coefficients with a 1/f spectrum, colours decorrelated, squashed into [0, 1] by a sigmoid.

    Args:
        seeds: one a picture.
        shape: (C, H, W).
        device: where to compute.
        prior: its colours; None: those of the default prior.
        start: coefficients at the start.
        exponent: of the spectrum, 1 for 1/f.
        longest: wave in pixels from which on the spectrum falls; None: the longer side.
    """

    rate = 0.05  # Adam

    def __init__(
        self,
        seeds: Sequence[Sequence[int]],
        shape: tuple[int, int, int],
        device: torch.device,
        prior: Prior | None = None,
        start: Start = FAINT,
        exponent: float = 1.0,
        longest: int | None = None,
    ) -> None:
        bands, height, width = shape
        self._size = (height, width)
        scale = _both(torch.tensor(one_over_f(self._size, exponent, longest) / 4, dtype=torch.float32, device=device))
        self._scale, self._adjoint = scale, scale * _counted(width, device)
        self._colour = _colour(prior or default_prior(shape), shape, device)
        self.values = _drawn(seeds, (bands, height, width // 2 + 1, 2), device, start)

    @classmethod
    def start_from(
        cls, pictures: torch.Tensor, prior: Prior | None = None, exponent: float = 1.0, longest: int | None = None
    ) -> Self:
        """Begin at given pictures, (B, C, H, W) in [0, 1]; black and white become half a level less."""
        shape = (pictures.shape[1], pictures.shape[2], pictures.shape[3])
        held = cls([], shape, pictures.device, prior, exponent=exponent, longest=longest)
        with torch.no_grad():
            planes = torch.logit(pictures.detach().to(torch.float32), eps=EDGE)
            if held._colour is not None:
                planes = _mixed(planes, torch.linalg.inv(held._colour))
            coefficients = torch.view_as_real(torch.fft.rfft2(planes, norm="ortho"))
            held.values = (coefficients / held._scale).requires_grad_(True)
        return held

    def pictures(self) -> torch.Tensor:
        """The pictures as they are now."""
        return self.decode(self.values)

    def decode(self, values: torch.Tensor) -> torch.Tensor:
        """Coefficients (B, C, H, W // 2 + 1, 2) → pictures (B, C, H, W) in [0, 1]."""
        planes: torch.Tensor = _Synthesis.apply(values, self._scale, self._adjoint, self._size)  # type: ignore[no-untyped-call]
        return torch.sigmoid(planes if self._colour is None else _mixed(planes, self._colour))

    def constrain(self) -> None:
        """Nothing to do: the sigmoid cannot leave the domain."""


class Maco:
    """Phases of Fourier coefficients whose magnitudes stay what they are in natural images.

    Phases and then planes are standardised at each step, colours put back, and a sigmoid leads into [0, 1]. Phases get
    a standard deviation of π rather than the source's 1: at 1 all of them lean to 0, and their waves meet in the corner
    (level 0.89 there after 128 steps on a 32 px canvas, against 0.50), which the source's crops from the middle of
    512 px do not see. Where a picture of real numbers has two coefficients for one frequency, one phase rules both, and
    the few without a phase (the mean, and the fastest of even sides) are left out: magnitudes then hold exactly. A
    picture of at most two pixels a side has no phase and stays grey.

    Args:
        seeds: one a picture.
        shape: (C, H, W).
        device: where to compute.
        prior: its colours and magnitudes; None: those of the default prior.
        start: phases at the start.

    Source: Fel et al. 2023, arXiv:2306.06805, section 3; standardisation as in Xplique, the authors' program.
    """

    rate = 1.0  # NAdam

    def __init__(
        self,
        seeds: Sequence[Sequence[int]],
        shape: tuple[int, int, int],
        device: torch.device,
        prior: Prior | None = None,
        start: Start = ANY_PHASE,
    ) -> None:
        bands, height, width = shape
        prior = prior or default_prior(shape)
        if prior.spectrum.shape != (bands, height, width // 2 + 1):
            raise ValueError(f"prior: a spectrum of shape {prior.spectrum.shape} for pictures of shape {shape}")
        self._size = (height, width)
        magnitudes = prior.spectrum * _independent(self._size)
        largest = max(float(magnitudes.max()), 1e-30)
        scale = _both(torch.tensor(magnitudes / largest, dtype=torch.float32, device=device))
        self._scale, self._adjoint = scale, scale * _counted(width, device)
        self._colour = _colour(prior, shape, device)
        self.values = _drawn(seeds, (bands, height, width // 2 + 1), device, start)

    def pictures(self) -> torch.Tensor:
        """The pictures as they are now."""
        return self.decode(self.values)

    def decode(self, values: torch.Tensor) -> torch.Tensor:
        """Phases (B, C, H, W // 2 + 1) → pictures (B, C, H, W) in [0, 1]."""
        phases = SPREAD * _standardised(values)
        turned = torch.stack([phases.cos(), phases.sin()], dim=-1)
        planes: torch.Tensor = _Synthesis.apply(turned, self._scale, self._adjoint, self._size)  # type: ignore[no-untyped-call]
        planes = _standardised(planes)
        return torch.sigmoid(planes if self._colour is None else _mixed(planes, self._colour))

    def constrain(self) -> None:
        """Nothing to do: phases turn freely."""


class _Synthesis(torch.autograd.Function):
    """Scaled coefficients → planes, the orthonormal inverse transform; its gradient is one forward transform.

    Five times as fast as what torch derives for itself on a CPU.
    """

    @staticmethod
    def forward(
        context: Any, values: torch.Tensor, scale: torch.Tensor, adjoint: torch.Tensor, size: tuple[int, int]
    ) -> torch.Tensor:
        context.save_for_backward(adjoint)
        planes: torch.Tensor = torch.fft.irfft2(torch.view_as_complex(values * scale), s=size, norm="ortho")
        return planes

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (adjoint,) = context.saved_tensors
        return torch.view_as_real(torch.fft.rfft2(gradient, norm="ortho")) * adjoint, None, None, None


def _drawn(seeds: Sequence[Sequence[int]], shape: tuple[int, ...], device: torch.device, start: Start) -> torch.Tensor:
    drawn = [start.draw(np.random.default_rng(seed), shape) for seed in seeds]
    values = np.array(drawn) if drawn else np.zeros((0, *shape))
    return torch.tensor(values, dtype=torch.float32, device=device, requires_grad=True)


def _both(scale: torch.Tensor) -> torch.Tensor:
    """A factor for the real and the imaginary part: (...) → (..., 2), contiguous, which multiplies faster."""
    return scale[..., None].expand(*scale.shape, 2).contiguous()


def _counted(width: int, device: torch.device) -> torch.Tensor:
    """(W // 2 + 1, 1): how many of the full transform's columns each kept column stands for."""
    counts = torch.full((width // 2 + 1, 1), 2.0, device=device)
    counts[0] = 1.0
    if width % 2 == 0:
        counts[-1] = 1.0
    return counts


def _independent(size: tuple[int, int]) -> np.ndarray:
    """(H, W // 2 + 1): 2 and 0 for two coefficients that are each other's conjugate, 0 for those that have no phase.

    In the columns that the real transform keeps whole, it takes the mean of each coefficient and its partner's
    conjugate: 2 and 0 there become 1 and 1 with opposite phases.
    """
    height, width = size
    factor = np.ones((height, width // 2 + 1))
    whole = [0] if width % 2 else [0, width // 2]
    rows = np.arange(height)
    partner = (-rows) % height
    factor[:, whole] = np.where(rows < partner, 2.0, 0.0)[:, None]
    return factor


def _colour(prior: Prior, shape: tuple[int, int, int], device: torch.device) -> torch.Tensor | None:
    if len(prior.colour) != shape[0]:
        raise ValueError(f"prior: {len(prior.colour)} bands for pictures of {shape[0]}")
    if (prior.colour == np.eye(shape[0])).all():
        return None
    return torch.tensor(prior.colour, dtype=torch.float32, device=device)


def _mixed(planes: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    return (colour @ planes.flatten(2)).reshape(planes.shape)


def _standardised(values: torch.Tensor) -> torch.Tensor:
    """Each picture's numbers with mean 0 and standard deviation 1."""
    flat = values.flatten(1)
    return F.layer_norm(flat, flat.shape[1:], eps=1e-10).reshape(values.shape)
