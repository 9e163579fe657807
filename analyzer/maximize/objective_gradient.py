"""The objective as a function of pictures: what is raised, and the way through the network by which gradients come.

The graph is cut at the layer and its weights are frozen; of the last convolution only what the batch asks for is
computed. Knows torch; knows nothing of how a picture is held or moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from filterscope.analyzer.compute.last_convolution import Directions
from filterscope.analyzer.compute.pixels import input_map
from filterscope.analyzer.compute.precision import cut_for_gradients
from filterscope.analyzer.compute.redirected_relu import with_open_gates
from filterscope.analyzer.network.layers import ConvLayer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.units.canvas import Canvas
from filterscope.analyzer.units.objectives import Objective

Asked = Directions | torch.Tensor | None  # directions of a batch: as kernels, as weights of maps, or none


class Slope:
    """One objective on one layer and canvas.

    Args:
        exact: float32, also where bfloat16 is faster.
    """

    def __init__(
        self,
        network: Network,
        layer: ConvLayer,
        canvas: Canvas,
        objective: Objective,
        device: torch.device,
        exact: bool = False,
    ) -> None:
        self.layer, self.objective, self.device = layer, objective, device
        self.to_model = input_map(network.input, device)
        self.last_alone = (
            layer.op == "Conv" and layer.is_constant and objective.direction(0, layer.out_channels) is not None
        )
        target = layer.source if self.last_alone else layer.value
        self.dtype = torch.float32
        self.before: Callable[..., Any] = _identity
        self.opened: Callable[..., Any] = _identity
        if target != network.input.name:
            sample = self.to_model(torch.rand(1, network.input.channels, *canvas.size, device=device))
            cut, self.dtype = cut_for_gradients(network.twin.cut([target]), sample, device, exact)
            self.before, self.opened = network.apart(cut), network.apart(with_open_gates(cut))

    def directions(self, units: Sequence[int]) -> Asked:
        """What a batch asks for, a unit a picture."""
        found = [self.objective.direction(unit, self.layer.out_channels) for unit in units]
        kept = [direction for direction in found if direction is not None]
        if not kept:
            return None
        if self.last_alone:
            return Directions.of(self.layer, np.stack(kept), self.device, self.dtype)
        return torch.tensor(np.stack(kept), device=self.device)

    def raised(self, pictures: torch.Tensor, asked: Asked, opened: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """The objective of each picture, and the layer's input (its output where that is not taken apart).

        Args:
            pictures: (copies · B, C, H, W) in [0, 1], copy k of picture i at row k · B + i.
            asked: of B pictures.
            opened: whether gradients pass closed ReLUs.

        Returns:
            (copies · B,) float32, and (copies · B, …).
        """
        seen = self.to_model(pictures).to(self.dtype)
        answer = self.opened(seen) if opened else self.before(seen)
        source: torch.Tensor = answer if torch.is_tensor(answer) else answer[0]
        return self.objective.value(self._maps(source, asked)), source

    def _maps(self, source: torch.Tensor, asked: Asked) -> torch.Tensor:
        if isinstance(asked, Directions):
            return asked.times(len(source) // len(asked.weight)).maps(source)
        maps = source.float()
        maps = maps.reshape(*maps.shape, *[1] * (4 - maps.ndim))  # scores are maps of one place
        if asked is None:
            return maps
        return torch.einsum("bchw,bc->bhw", maps, asked.repeat(len(source) // len(asked), 1))


def some(asked: Asked, which: torch.Tensor) -> Asked:
    """The directions of some pictures: (B,) bool or indices."""
    return asked.some(which) if isinstance(asked, Directions) else None if asked is None else asked[which]


def _identity(x: torch.Tensor) -> torch.Tensor:
    return x
