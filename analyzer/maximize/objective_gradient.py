"""The objective as a function of pictures that can be differentiated.

The graph is cut at the layer and its weights are frozen; of the last convolution only the channels that the batch needs
are computed. Knows torch; knows nothing of parameterisations or transforms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from filterscope.analyzer.compute.last_convolution import Directions
from filterscope.analyzer.compute.pixels import input_map
from filterscope.analyzer.compute.precision import cut_for_gradients
from filterscope.analyzer.compute.redirected_relu import with_redirected_relus
from filterscope.analyzer.maximize.problem import Problem

UnitDirections = Directions | torch.Tensor | None  # directions of a batch: as kernels, as weights of maps, or none


class ObjectiveGradient:
    """The objective of a problem as a function of pictures that can be differentiated.

    Args:
        problem: what is maximised.
        device: where to compute.
        exact: float32, also where bfloat16 is faster.
    """

    def __init__(self, problem: Problem, device: torch.device, exact: bool = False) -> None:
        network, layer, objective = problem.network, problem.layer, problem.objective
        network.check_process()
        self.layer, self.objective, self.device = layer, objective, device
        self.bands = network.input.channels
        self.to_model = input_map(network.input, device)
        self.computes_last_layer = (
            layer.op == "Conv" and layer.is_constant and objective.direction(0, layer.out_channels) is not None
        )
        target = layer.source if self.computes_last_layer else layer.value
        self.dtype = torch.float32
        self.plain_path: Callable[..., Any] = _identity
        self.redirected_path: Callable[..., Any] = _identity
        if target != network.input.name:
            sample = self.to_model(torch.rand(1, network.input.channels, *problem.canvas.size, device=device))
            cut, self.dtype = cut_for_gradients(network.twin.cut([target]), sample, device, exact)
            self.plain_path, self.redirected_path = network.apart(cut), network.apart(with_redirected_relus(cut))

    @torch.no_grad()
    def runs_on(self, size: tuple[int, int]) -> bool:
        """Whether the network up to the layer takes pictures of this height and width."""
        try:
            self.plain_path(self.to_model(torch.zeros(1, self.bands, *size, device=self.device)).to(self.dtype))
        except RuntimeError:
            return False
        return True

    def directions(self, units: Sequence[int]) -> UnitDirections:
        """The directions of a batch's units, one unit a picture; None where the objective reads all channels."""
        candidates = [self.objective.direction(unit, self.layer.out_channels) for unit in units]
        directions = [direction for direction in candidates if direction is not None]
        if not directions:
            return None
        if self.computes_last_layer:
            return Directions.of(self.layer, np.stack(directions), self.device, self.dtype)
        return torch.tensor(np.stack(directions), device=self.device)

    def evaluate(
        self, pictures: torch.Tensor, directions: UnitDirections, redirected: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the objective of each picture.

        Args:
            pictures: (copies · B, C, H, W) in [0, 1], copy k of picture i at row k · B + i.
            directions: of B pictures.
            redirected: whether ReLUs are redirected ones.

        Returns:
            The objectives, (copies · B,) float32, and the layer's input, (copies · B, …); its output where the whole
            layer is computed.
        """
        inputs = self.to_model(pictures).to(self.dtype)
        answer = self.redirected_path(inputs) if redirected else self.plain_path(inputs)
        source: torch.Tensor = answer if torch.is_tensor(answer) else answer[0]
        return self.objective.value(self._maps(source, directions)), source

    def _maps(self, source: torch.Tensor, directions: UnitDirections) -> torch.Tensor:
        if isinstance(directions, Directions):
            return directions.times(len(source) // len(directions.weight)).maps(source)
        maps = source.float()
        maps = maps.reshape(*maps.shape, *[1] * (4 - maps.ndim))  # scores are maps of one place
        if directions is None:
            return maps
        return torch.einsum("bchw,bc->bhw", maps, directions.repeat(len(source) // len(directions), 1))


def select_directions(directions: UnitDirections, which: torch.Tensor) -> UnitDirections:
    """The directions of some pictures; `which` is (B,) bool or indices."""
    if directions is None:
        return None
    return directions.some(which) if isinstance(directions, Directions) else directions[which]


def _identity(x: torch.Tensor) -> torch.Tensor:
    return x
