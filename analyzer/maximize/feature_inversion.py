"""A picture whose activations at a layer are those of another picture, or more of the same.

Inversion descends on the squared distance between the two activations: a few steps of Adam away from noise, then
L-BFGS, both on Fourier coefficients, then Adam on pixels. Caricatures ascend. Knows torch; knows nothing of runs
or files.

Sources: Mahendran & Vedaldi 2015, "Understanding Deep Image Representations by Inverting Them", arXiv:1412.0035
(relative squared distance, total variation, sixth powers); Olah et al. 2017, doi:10.23915/distill.00007 (Fourier
coefficients), and Olah's caricatures in Lucid: dot product times a power of the cosine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from filterscope.analyzer.compute.pixels import eight_bit, input_map
from filterscope.analyzer.compute.precision import cut_for_gradients
from filterscope.analyzer.maximize.optimisers import Adam
from filterscope.analyzer.maximize.parameterisations import Fourier
from filterscope.analyzer.maximize.presets import PRESETS, Quality, Recipe
from filterscope.analyzer.maximize.priors import Prior
from filterscope.analyzer.maximize.regularisers import Lp
from filterscope.analyzer.maximize.transforms import fitted
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network

FIRST = 16  # steps of Adam before L-BFGS, which from noise lies still for a hundred steps at late layers
RATE = 0.15  # of Adam
HISTORY = 20  # of L-BFGS
LAST = 1 / 2  # part of the evaluations that goes to pixels: at early layers L-BFGS lies still, and they do not
LAST_RATE, LAST_BETAS = 0.01, (0.9, 0.9)  # of Adam on pixels
ROUND = 32  # evaluations between two looks at how it gets on
ENOUGH = 0.01  # relative distance below which the rounding to 8 bits is most of what is left
GAIN = 0.02  # part of the distance that a round must take away
LEAST_COSINE = 0.1  # a caricature's cosine counts as no less: from noise it may be negative


@dataclass(frozen=True, slots=True)
class Restraint:
    """What keeps an inverted picture from noise that the layer does not see.

    Weights stand beside the relative squared distance, ‖Φ(x) − Φ(x₀)‖² ÷ ‖Φ(x₀)‖².
    """

    smooth: float = 0.02  # of the mean squared difference between neighbours: total variation with β = 2
    outliers: float = 0.01  # of the mean sixth power of the distance from mid grey


@dataclass(frozen=True, slots=True, eq=False)
class MatchedPicture:
    """A picture whose activations were matched, and the work that it took."""

    tile: np.ndarray  # (H, W, C) uint8
    steps: int  # evaluations of the network with its gradient
    seconds: float


class Matcher:
    """One layer's activations at the network's own input size, and what finds pictures from them.

    Args:
        network: the opened network.
        layer: whose pre-activations, all channels and places of them.
        device: where to compute.
        prior: colours of the user's images; None: those of ImageNet.
    """

    def __init__(self, network: Network, layer: Layer, device: torch.device, prior: Prior | None = None) -> None:
        self.layer, self.device, self.prior = layer, device, prior
        self.shape = (network.input.channels, network.input.height, network.input.width)
        self._to_model = input_map(network.input, device)
        sample = self._to_model(torch.rand(1, *self.shape, device=device))
        # In bfloat16 distances below a hundredth would be rounding.
        cut, _ = cut_for_gradients(network.twin.cut([layer.value]), sample, device, exact=True)
        self._cut = network.apart(cut)

    def invert(
        self,
        picture: np.ndarray,
        evaluations: int,
        seed: int = 0,
        restraint: Restraint | None = None,
        first: int = FIRST,
        last: float = LAST,
    ) -> MatchedPicture:
        """The picture whose activations come nearest to a picture's own, found from noise.

        Args:
            picture: (H, W, C) uint8, at the network's input size.
            evaluations: of the network with its gradient, at most; fewer where nothing is gained any more.
            seed: of the noise.
            restraint: None: the usual weights.
            first: evaluations that go to Adam, before L-BFGS.
            last: part of the evaluations that goes to Adam on pixels, after L-BFGS.
        """
        started = time.process_time()
        target = self._activations(self._pictures(picture)).detach()
        scale = 1 / target.square().sum().clamp_min(1e-30)
        held_back = restraint or Restraint()

        def loss(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            distance = (self._activations(pictures) - target).square().sum() * scale
            return distance + _restraint_penalty(pictures, held_back), distance

        parameters = self._noise(seed)
        polishing = int(last * evaluations)
        steps = _first_steps(parameters, loss, min(first, evaluations - polishing))
        used, nearest = _descend(parameters, loss, evaluations - polishing - steps)
        steps += used
        pictures = parameters.pictures().detach()
        if polishing and nearest > ENOUGH:
            pictures = _polish(pictures, loss, polishing)
            steps += polishing
        return MatchedPicture(np.asarray(eight_bit(pictures)[0]), steps, time.process_time() - started)

    def caricature(self, picture: np.ndarray, quality: Quality, power: float, seed: int = 0) -> MatchedPicture:
        """More of what a picture's activations point to: raises dot product × cosine^power under small movements.

        Args:
            picture: (H, W, C) uint8, at the network's input size.
            quality: its steps and their size.
            power: 0: the direction alone counts for nothing beside the length; the higher, the more it counts.
        """
        started = time.process_time()
        recipe = Recipe(PRESETS["filterscope"], quality)
        moved = fitted(recipe.preset.transforms, recipe.steps)
        target = self._activations(self._pictures(picture)).detach().flatten()
        target = target / target.norm().clamp_min(1e-15)
        parameters = self._noise(seed)
        optimiser = Adam(parameters.values)
        for step in range(recipe.steps):
            seen = self._activations(moved(parameters.pictures(), seed, step)).flatten()
            dot = seen @ target
            cosine = dot / seen.norm().clamp_min(1e-15)
            (gradient,) = torch.autograd.grad(dot * cosine.clamp_min(LEAST_COSINE) ** power, parameters.values)
            _step_parameters(parameters, optimiser.step(gradient, recipe.rate_at(step)))
        tile = np.asarray(eight_bit(parameters.pictures().detach())[0])
        return MatchedPicture(tile, recipe.steps, time.process_time() - started)

    def _noise(self, seed: int) -> Fourier:
        return Fourier([[seed, self.layer.index]], self.shape, self.device, self.prior)

    def _pictures(self, picture: np.ndarray) -> torch.Tensor:
        pixels = torch.tensor(picture[None], dtype=torch.float32, device=self.device)
        return (pixels.permute(0, 3, 1, 2) / 255).contiguous()

    def _activations(self, pictures: torch.Tensor) -> torch.Tensor:
        activations: torch.Tensor = self._cut(self._to_model(pictures))[0]
        return activations


Loss = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]  # pictures → what is lowered, distance² in it


def _first_steps(parameters: Fourier, loss: Loss, steps: int) -> int:
    optimiser = Adam(parameters.values)
    for step in range(steps):
        (gradient,) = torch.autograd.grad(-loss(parameters.pictures())[0], parameters.values)
        _step_parameters(
            parameters, optimiser.step(gradient, RATE * (0.1 + 0.45 * (1 + math.cos(math.pi * step / steps))))
        )
    return steps


def _descend(parameters: Fourier, loss: Loss, evaluations: int) -> tuple[int, float]:
    """L-BFGS, round after round, until the picture is near enough or a round gains nothing: evaluations, distance."""
    values = parameters.values
    optimiser = torch.optim.LBFGS(
        [values], 1.0, tolerance_grad=0.0, tolerance_change=0.0, history_size=HISTORY, line_search_fn="strong_wolfe"
    )
    steps, nearest = 0, math.inf

    def closure() -> float:
        nonlocal steps, nearest
        steps += 1
        values.grad = None
        total, distance = loss(parameters.pictures())
        total.backward()  # type: ignore[no-untyped-call]
        nearest = min(nearest, math.sqrt(max(0.0, distance.item())))
        return total.item()

    while steps < evaluations:
        before, began = nearest, steps
        optimiser.param_groups[0]["max_iter"] = optimiser.param_groups[0]["max_eval"] = min(ROUND, evaluations - steps)
        optimiser.step(closure)  # type: ignore[no-untyped-call]
        if not nearest < before * (1 - GAIN) or nearest < ENOUGH or steps == began:
            break
    return steps, nearest


def _polish(pictures: torch.Tensor, loss: Loss, steps: int) -> torch.Tensor:
    """Adam on pixels, whose scale is another than that of waves; the picture as it was where that comes no nearer."""
    began, pixels = pictures, pictures.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([pixels], LAST_RATE, LAST_BETAS, eps=1e-12)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = LAST_RATE * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))
        (gradient,) = torch.autograd.grad(loss(pixels)[0], pixels)
        pixels.grad = torch.nan_to_num(gradient, posinf=0.0, neginf=0.0)
        optimiser.step()
        with torch.no_grad():
            pixels.clamp_(0.0, 1.0)
    polished = pixels.detach()
    with torch.no_grad():
        return polished if bool(loss(polished)[0] < loss(began)[0]) else began


def _step_parameters(parameters: Fourier, step: torch.Tensor) -> None:
    step = torch.nan_to_num(step, posinf=0.0, neginf=0.0)
    parameters.values = (parameters.values.detach() + step).requires_grad_(True)


def _restraint_penalty(pictures: torch.Tensor, restraint: Restraint) -> torch.Tensor:
    down = pictures[:, :, 1:] - pictures[:, :, :-1]
    across = pictures[:, :, :, 1:] - pictures[:, :, :, :-1]
    rough = (down.square().sum() + across.square().sum()) / pictures.numel()
    return restraint.smooth * rough + Lp(restraint.outliers, 6.0).penalty(pictures).sum()
