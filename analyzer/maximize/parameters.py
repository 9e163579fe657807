"""How a picture is held while it is optimised: pixels, or decorrelated Fourier coefficients. Neither leaves the domain.

Pictures are u in [0, 1], (B, C, H, W), RGB order. Each picture's start depends on its own seed alone, so that a unit
gets the same start in any batch.

Source of the Fourier parameterisation and of the colour matrix: Olah, Mordvintsev & Schubert 2017, "Feature
Visualization", doi:10.23915/distill.00007, section Preconditioning.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

# Square root of the colour correlation of ImageNet: rows R, G, B; divided by its largest column norm.
COLOUR = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
COLOUR /= np.linalg.norm(COLOUR, axis=0).max()
START_SPREAD = 0.01  # standard deviation of the starting coefficients


class Fourier:
    """Fourier coefficients with a 1/f spectrum, colours decorrelated, squashed into [0, 1] by a sigmoid.

    Args:
        seeds: one a picture.
        shape: (C, H, W).
        device: where to compute.
    """

    rate = 0.05

    def __init__(self, seeds: Sequence[Sequence[int]], shape: tuple[int, int, int], device: torch.device) -> None:
        bands, height, width = shape
        self._size = (height, width)
        starts = [
            np.random.default_rng(seed).normal(0, START_SPREAD, (bands, height, width // 2 + 1, 2)) for seed in seeds
        ]
        frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
        scale = 1 / np.maximum(frequencies, 1 / max(height, width)) / 4
        self._scale = torch.tensor(scale, dtype=torch.float32, device=device)[..., None]
        self._colour = torch.tensor(COLOUR, dtype=torch.float32, device=device) if bands == 3 else None
        self.values = torch.tensor(np.array(starts), dtype=torch.float32, device=device, requires_grad=True)

    def pictures(self) -> torch.Tensor:
        """The pictures as they are now."""
        return self.decode(self.values)

    def decode(self, values: torch.Tensor) -> torch.Tensor:
        """Coefficients (B, C, H, W // 2 + 1, 2) → pictures (B, C, H, W) in [0, 1]."""
        spectrum = torch.view_as_complex((values * self._scale).contiguous())
        plain = torch.fft.irfft2(spectrum, s=self._size, norm="ortho")
        if self._colour is not None:
            plain = torch.einsum("bchw,kc->bkhw", plain, self._colour)
        return torch.sigmoid(plain)

    def constrain(self) -> None:
        """Nothing to do: the sigmoid cannot leave the domain."""


class Pixels:
    """Pixels themselves, kept in [0, 1] by clipping after each step. Starts at mid grey with a little noise."""

    rate = 0.1

    def __init__(self, seeds: Sequence[Sequence[int]], shape: tuple[int, int, int], device: torch.device) -> None:
        starts = [0.5 + np.random.default_rng(seed).normal(0, START_SPREAD, shape) for seed in seeds]
        self.values = torch.tensor(np.array(starts), dtype=torch.float32, device=device, requires_grad=True)

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
