"""The pieces of a network for bounds and exact programs: affine maps, kinks, maxima, and boxes for all else.

Every piece is written in float64 torch, on batches (N, …); positions are kept apart, borders included. Knows nodes;
knows nothing of networks, bounds, solvers or pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from filterscope.converters.graph import Node

Tensor = torch.Tensor
Tensors = Sequence[Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """y = J · x + constant, x being all of its sources."""

    node: Node
    sources: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]  # of the sources, for one image
    linear: Callable[[Tensors], Tensor]  # J · x, of (N, …) each
    absolute: Callable[[Tensors], Tensor]  # |J| · x
    constant: Tensor  # (1, …), the answer to zeros
    offset: Tensor  # (1, …), sum of the constant's absolute terms
    terms: int  # that a number of y is a sum of; 0: numbers are only moved
    transpose: Callable[[Tensor], Tensor] | None = None  # of J, where the sources are one and that is cheaper

    def back(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        """Turn coefficients of y into coefficients of each source: (N, …) → (N, …) each."""
        if self.transpose is not None:
            return (self.transpose(coefficients),)
        with torch.enable_grad():
            zeros = [
                torch.zeros(len(coefficients), *shape[1:], dtype=torch.float64, requires_grad=True)
                for shape in self.shapes
            ]
            differentiable = coefficients.requires_grad
            gradients = torch.autograd.grad(
                self.linear(zeros), zeros, coefficients, allow_unused=True, create_graph=differentiable
            )
        return tuple(torch.zeros_like(x) if part is None else part for part, x in zip(gradients, zeros, strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Kink:
    """An elementwise function with one or two kinks: clip(x, floor, ceiling), or x · slope where x is negative."""

    node: Node
    source: str
    floor: Tensor  # broadcast to the value; −∞ where there is none
    ceiling: Tensor
    slope: Tensor | None = None  # then floor and ceiling have no meaning

    def at(self, x: Tensor) -> Tensor:
        """The function's value at x."""
        if self.slope is not None:
            return torch.where(x > 0, x, x * self.slope)
        return torch.minimum(torch.maximum(x, self.floor), self.ceiling)


@dataclass(frozen=True, slots=True, eq=False)
class Maximum:
    """The largest number in each window; padding is never the largest."""

    node: Node
    source: str
    index: Tensor  # (P, K) int64: places in the flat map of a channel that window p reads; H · W: outside
    size: tuple[int, int]  # of the output map, P = product

    def gather(self, x: Tensor, outside: float) -> Tensor:
        """What each window reads: (N, C, H, W) → (N, C, P, K)."""
        flat = F.pad(x.flatten(2), (0, 1), value=outside)
        return flat[:, :, self.index]

    def scatter(self, coefficients: Tensor, extents: Sequence[int]) -> Tensor:
        """Sum coefficients of what windows read, (N, C, P, K), into those of the map, (N, C, H, W)."""
        flat = coefficients.new_zeros(*coefficients.shape[:2], math.prod(extents) + 1)
        flat.index_add_(2, self.index.flatten(), coefficients.flatten(2))
        return flat[:, :, :-1].reshape(*flat.shape[:2], *extents)

    def at(self, x: Tensor) -> Tensor:
        """The maxima, (N, C, H', W')."""
        return self.gather(x, -math.inf).amax(dim=3).reshape(*x.shape[:2], *self.size)


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """A value of which only an interval is known: its operator is none of the others."""

    node: Node


Piece = Affine | Kink | Maximum | Box
