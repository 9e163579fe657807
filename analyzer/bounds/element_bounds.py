"""Bounds of a value, element by element, and how far float32 may move each element from its formula.

Interval arithmetic on pieces, in float64, rounded outward. Knows pieces; knows nothing of networks or objectives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from filterscope.analyzer.bounds.interval_arithmetic import ELEMENTWISE, ROUNDING, SLACK, SPARE, TINY
from filterscope.analyzer.bounds.interval_bounds import Interval
from filterscope.analyzer.bounds.piecewise import Affine, Box, Kink

Tensor = torch.Tensor
SPREAD = 1 + 2.0**-12  # of an operator's slack: its part for float64, which rounds 2²⁹ times as finely as float32


@dataclass(slots=True, eq=False)
class ElementBounds:
    """Lower and upper bounds of a value's elements, and by how much float32 may move each from its formula."""

    low: Tensor  # (1, …) float64, may be −∞
    high: Tensor
    slack: Tensor | None = None  # (1, …); None: nothing is rounded

    @property
    def finite(self) -> bool:
        """Whether both are finite for all elements."""
        return bool(torch.isfinite(self.low).all() and torch.isfinite(self.high).all())


def affine_bounds(piece: Affine, sources: Sequence[ElementBounds]) -> ElementBounds:
    """Bounds of an affine map's result, rounding included."""
    if not piece.terms:
        return ElementBounds(
            *(piece.linear([getattr(s, e) for s in sources]) + piece.constant for e in ("low", "high"))
        )
    middle = piece.linear([(s.low + s.high) / 2 for s in sources]) + piece.constant
    radius = piece.absolute([(s.high - s.low) / 2 for s in sources])
    largest = piece.absolute([torch.maximum(s.low.abs(), s.high.abs()) for s in sources]) + piece.offset
    slack = _slack(largest, piece.terms)
    return ElementBounds(middle - radius - slack, middle + radius + slack, slack)


def kink_bounds(piece: Kink, source: ElementBounds, shape: tuple[int, ...]) -> ElementBounds:
    """Bounds of a kink's result, rounding of slopes included."""
    ends = piece.at(source.low), piece.at(source.high)
    low, high = torch.minimum(*ends), torch.maximum(*ends)
    if piece.slope is None:
        return ElementBounds(low, high)
    crosses = (source.low < 0) & (source.high > 0)  # with a negative slope the kink is the least or the largest
    low, high = torch.where(crosses, low.clamp(max=0), low), torch.where(crosses, high.clamp(min=0), high)
    slack = _slack(torch.maximum(source.low.abs(), source.high.abs()) * piece.slope.abs(), 1).expand(shape)
    return ElementBounds(low - slack, high + slack, slack)


def box_bounds(
    piece: Box, shape: tuple[int, ...], before: Mapping[str, ElementBounds], constants: Mapping[str, np.ndarray]
) -> ElementBounds:
    """Bounds of an elementwise operator's result, position by position; of other operators none."""
    node = piece.node
    nothing = torch.full(shape, torch.inf, dtype=torch.float64)
    if node.domain not in ("", "ai.onnx") or node.op not in ELEMENTWISE or len(node.outputs) != 1:
        return ElementBounds(-nothing, nothing)
    operands: list[tuple[np.ndarray, np.ndarray] | None] = []
    for name in node.inputs:
        if name in before:
            operands.append((before[name].low.numpy(), before[name].high.numpy()))
        elif name in constants and constants[name].size:
            exact = constants[name].astype(np.float64)
            operands.append((exact, exact))
        elif not name or name in constants:
            operands.append(None)
        else:
            return ElementBounds(-nothing, nothing)
    with np.errstate(all="ignore"):
        low, high = ELEMENTWISE[node.op](node, operands)
    ends = (torch.from_numpy(np.broadcast_to(np.asarray(end, np.float64), shape).copy()) for end in (low, high))
    low_end, high_end = ends
    return ElementBounds(torch.nan_to_num(low_end, nan=-torch.inf), torch.nan_to_num(high_end, nan=torch.inf))


def channel_bounds(interval: Interval | None, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The interval bounds of a value's channels, in the value's shape."""
    if interval is None:
        nothing = torch.full(shape, torch.inf, dtype=torch.float64)
        return -nothing, nothing
    low, high = interval.low, interval.high
    around = [1] * len(shape)
    if interval.axis < len(shape) and len(low) == shape[interval.axis]:
        around[interval.axis] = -1
    else:  # on this canvas the axis has another length
        low, high = low.min(keepdims=True), high.max(keepdims=True)
    return tuple(torch.from_numpy(np.array(end)).reshape(around).expand(shape) for end in (low, high))  # type: ignore[return-value]


def _slack(magnitude: Tensor, terms: int) -> Tensor:
    """What float32 may do to a sum of so many terms, as `interval_arithmetic.outward` has it, and float64 here."""
    roundings = terms + SPARE
    return (magnitude * max(SLACK, roundings * ROUNDING) + roundings * TINY) * SPREAD
