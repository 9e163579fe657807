"""One step uphill: Adam and two kin, a normalised gradient, the gradient itself. Each picture has its own moments.

Knows tensors; knows nothing of pictures.
"""

from __future__ import annotations

from typing import Protocol

import torch

BETA1, BETA2, EPSILON = 0.5, 0.9, 1e-20
FLOOR = 1e-6  # of the largest spread: gradients of deep units can be far below any fixed epsilon


class Optimiser(Protocol):
    """What turns gradients into steps."""

    def step(self, gradient: torch.Tensor, rate: float) -> torch.Tensor:
        """What is added to the values, (B, ...), from the gradient of what is raised."""

    def keep(self, remaining: torch.Tensor) -> None:
        """Forget the pictures that have left the batch: (B,) bool."""


class Adam:
    """Moments per number, with a short memory: an ascent under random movements turns at every step.

    On MobileNetV2's 50th convolution β = (0.5, 0.9) reaches 5.5 in 128 steps, (0.9, 0.99) 4.1, and 5.4 in 256.

    Args:
        like: the values.
        ahead: NAdam.
        pooled: whether a quarter of a number's spread, in exponent, is its whole picture's: a step from Adam, where all
            numbers move by one step size, towards moves as large as the gradients. It keeps coefficients whose gradient
            is mostly noise from wandering.

    Source: Kingma & Ba 2015, arXiv:1412.6980, algorithm 1; `ahead`: Dozat 2016, "Incorporating Nesterov momentum".
    """

    def __init__(self, like: torch.Tensor, ahead: bool = False, pooled: bool = False) -> None:
        self.first = torch.zeros_like(like, requires_grad=False)
        self.second = torch.zeros_like(like, requires_grad=False)
        self.count = 0
        self.ahead, self.pooled = ahead, pooled

    def step(self, gradient: torch.Tensor, rate: float) -> torch.Tensor:
        """rate · mean ÷ root mean square, of the gradients so far."""
        self.count += 1
        self.first.lerp_(gradient, 1 - BETA1)
        self.second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        mean = self.first / (1 - BETA1**self.count)
        if self.ahead:
            mean = self.first * (BETA1 / (1 - BETA1 ** (self.count + 1)))
            mean.add_(gradient, alpha=(1 - BETA1) / (1 - BETA1**self.count))
        square = self.second / (1 - BETA2**self.count)
        if self.pooled:
            common = _each(square.flatten(1).mean(dim=1), square).pow(1 / 8)
            half = square.sqrt_().sqrt()
            spread = half.mul_(half.sqrt()).mul_(common)  # square roots of roots: a third of the time of a power
        else:
            spread = square.sqrt_()
        floor = EPSILON + FLOOR * _each(spread.flatten(1).amax(dim=1), spread)
        return mean.div_(spread.add_(floor)).mul_(rate)

    def keep(self, remaining: torch.Tensor) -> None:
        """Forget their moments too."""
        self.first, self.second = self.first[remaining], self.second[remaining]


class NormalisedGradient:
    """The gradient divided by its own root mean square: steps of one size, as Chollet 2016 takes them."""

    def step(self, gradient: torch.Tensor, rate: float) -> torch.Tensor:
        """rate · gradient ÷ its root mean square."""
        size = gradient.flatten(1).square().mean(dim=1).sqrt()
        return gradient * _each(rate / size.clamp_min(1e-30), gradient)

    def keep(self, remaining: torch.Tensor) -> None:
        """Nothing to do: it has no moments."""


class PlainGradient:
    """The gradient as it comes."""

    def step(self, gradient: torch.Tensor, rate: float) -> torch.Tensor:
        """rate · gradient."""
        return gradient * rate

    def keep(self, remaining: torch.Tensor) -> None:
        """Nothing to do: it has no moments."""


def optimiser(name: str, like: torch.Tensor) -> Optimiser:
    """The optimiser of this name (analyzer.maximize.presets.OPTIMISERS) for values like these."""
    if name in ("adam", "nadam", "pooled"):
        return Adam(like, ahead=name == "nadam", pooled=name == "pooled")
    return NormalisedGradient() if name == "normalised" else PlainGradient()


def _each(numbers: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(B,) → (B, 1, …), as many axes as `like` has."""
    return numbers.reshape(-1, *[1] * (like.ndim - 1))
