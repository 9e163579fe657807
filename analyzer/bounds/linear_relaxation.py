"""Linear relaxations: upper bounds of a neuron, or of the mean of a map, closer than interval arithmetic gets.

The objective, a weighting of a layer's pre-activations, is followed backwards through the network: affine maps exactly,
each kink and maximum replaced by the linear function above or below it that its interval allows and the sign of its
coefficient asks for. At the image, and at every operator without a rule, what is left is maximised over a box.

Soundness is the contract of bounds.py: no 8-bit image lets ONNX Runtime's float32 exceed a bound. Each operator's
result is taken to be off by what float32 may do to it, and that, times the coefficient found, is added. Knows the
pieces of a network; knows nothing of pictures, ascent or solvers.

Source: CROWN (Zhang et al. 2018, arXiv:1811.00866) and DeepPoly (Singh et al. 2019, doi:10.1145/3290354).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from filterscope.analyzer.bounds.element_bounds import (
    ElementBounds,
    affine_bounds,
    box_bounds,
    channel_bounds,
    kink_bounds,
)
from filterscope.analyzer.bounds.interval_arithmetic import LARGEST, outward
from filterscope.analyzer.bounds.interval_bounds import Interval, intervals
from filterscope.analyzer.bounds.linear_envelopes import Envelope, LinearBounds, kink_linear_bounds
from filterscope.analyzer.bounds.piecewise import Affine, Box, Kink, Maximum, Piece
from filterscope.analyzer.bounds.subgraph import Subgraph, is_translation_equivariant, subgraph_before
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.units.canvas import Canvas, canvas_for

Tensor = torch.Tensor
LIMIT = 1 << 22  # numbers in all values of a subgraph: beyond this the interval bound is given instead
WORK = 1 << 20  # numbers of coefficients that improving one unit's bound may take
MOST_SHARED = 1 << 22  # units × numbers of a subgraph up to which a layer's own intervals are found for those after it
BATCH = 1 << 22  # numbers of a batch of coefficients of one value
STEPS = 8  # of improving the linear functions; 8 come within 1 % of 32 on svhn_cnn6
RATE = 0.3  # of the first step: part of the way between two functions
SUMMED = 2.0**-29  # of the absolute terms, what a float64 sum of 2²⁴ of them may lose


def upper_bounds(
    network: Network,
    layer: Layer,
    canvas: Canvas,
    objective: str,
    channels: Sequence[int],
    shared: SharedBounds | None = None,
    limit: int = LIMIT,
) -> np.ndarray:
    """Upper bounds of some units over all pictures of a canvas.

    Args:
        canvas: of the pictures; with `objective` "neuron" its position is the neuron's.
        objective: "neuron" or "channel".
        channels: the units.
        shared: what the layers of the network share; kept, it is found only once.
        limit: numbers in all values of the subgraph beyond which the interval bounds are given.

    Returns:
        (N,) float64, in the units' order, never above the interval bounds; those themselves where the subgraph holds
        more than `limit` numbers. ∞ where nothing is known.

    Raises:
        ModelError: the network up to this layer does not run on this canvas.
    """
    shared = SharedBounds(network) if shared is None else shared
    subgraph = subgraph_before(network, layer, canvas.size)
    if subgraph.elements > limit:
        return np.array(shared.interval_bounds[layer.value].high[list(channels)])
    return Relaxation(subgraph, canvas, shared).upper(objective, channels)


class Relaxation:
    """The subgraph of one layer on one canvas with the bounds of its values, ready for objectives.

    Args:
        subgraph: of the canvas's size.
        canvas: of that size; its position is the neuron's.
        shared: what the layers of the network share.
    """

    def __init__(self, subgraph: Subgraph, canvas: Canvas, shared: SharedBounds | None = None) -> None:
        self.subgraph, self.canvas = subgraph, canvas
        self.network, self.layer = subgraph.network, subgraph.layer
        self.shared = SharedBounds(subgraph.network) if shared is None else shared
        self.pieces: dict[str, Piece] = dict(self.subgraph.pieces)
        self.order = list(self.pieces)
        self._linear_bounds: dict[str, Envelope | tuple[LinearBounds, LinearBounds]] = {}
        self._starts: dict[str, Tensor] = {}  # of the maxima: m
        self.bounds: dict[str, ElementBounds] = {subgraph.network.input.name: self._image()}
        with torch.no_grad():
            for name in self.order:
                self._forward(name)

    def upper(self, objective: str, channels: Sequence[int], steps: int | None = None, sign: float = 1.0) -> np.ndarray:
        """Upper bounds of units: see `upper_bounds`.

        Args:
            steps: in which the choice of linear functions is improved for each unit; None: STEPS, fewer where the
                subgraph is so large that they would cost more than WORK.
            sign: −1: of the units' negatives.
        """
        steps = min(STEPS, WORK // (2 * self.subgraph.elements)) if steps is None else steps
        interval = self.shared.interval_bounds[self.layer.value]
        limit = (interval.high if sign > 0 else -interval.low)[list(channels)]
        shape = self.subgraph.shapes[self.layer.value]
        size = self._batch()
        uppers = [np.empty(0)]
        for start in range(0, len(channels), size):
            part = torch.tensor(list(channels[start : start + size]))
            seeds = torch.zeros(len(part), *shape[1:], dtype=torch.float64)
            if objective == "neuron":
                seeds[torch.arange(len(part)), part, self.canvas.row, self.canvas.column] = sign
            else:
                seeds[torch.arange(len(part)), part] = sign / math.prod(shape[2:])
            uppers.append(self.maximum(self.layer.value, seeds, steps).numpy())
        return np.asarray(np.minimum(np.concatenate(uppers), limit))

    def maximum(self, value: str, coefficients: Tensor, steps: int = 0) -> Tensor:
        """Upper bounds of Σ coefficient · element of a value.

        Args:
            value: of the subgraph.
            coefficients: (N, …) float64, in the value's shape.
            steps: in which the choice of linear functions is improved, by gradient descent on the bound.

        Returns:
            (N,) float64, ∞ where none is known.
        """
        with torch.no_grad():
            best = self._substituted(value, coefficients, None)
        chosen = self._start(value, len(coefficients)) if steps and bool(best.isfinite().any()) else {}
        for step in range(steps if chosen else 0):
            with torch.enable_grad():
                bound = self._substituted(value, coefficients, chosen)
                if not bound.requires_grad:
                    break  # no kink on the way: all is said
                sum_of_finite = torch.where(bound.isfinite(), bound, 0.0).sum()
                slopes = torch.autograd.grad(sum_of_finite, list(chosen.values()), allow_unused=True)
            best = torch.minimum(best, bound.detach())
            rate = RATE * (1 - step / steps)
            with torch.no_grad():
                for parameter, slope in zip(chosen.values(), slopes, strict=True):
                    if slope is not None:
                        size = slope.abs()
                        mean = size.flatten(1).mean(dim=1).reshape(-1, *[1] * (slope.ndim - 1))
                        parameter.sub_(rate * slope / (size + mean + 1e-300)).clamp_(0.0, 1.0)
        return best

    def _substituted(self, value: str, coefficients: Tensor, chosen: Mapping[str, Tensor] | None) -> Tensor:
        """The bound under a choice of linear functions, None: those that are closest on average."""
        waiting = {value: coefficients}
        total = torch.zeros(len(coefficients), dtype=torch.float64)
        size = torch.zeros_like(total)  # of all that is summed, signs left out

        def add(terms: Tensor) -> None:
            nonlocal total, size
            flat = terms.flatten(1)
            total, size = total + flat.sum(dim=1), size + flat.detach().abs().sum(dim=1)

        last = self.order.index(value)
        for name in reversed([self.network.input.name, *self.order[: last + 1]]):
            c = waiting.pop(name, None)
            if c is None:
                continue
            bounds, piece = self.bounds[name], self.pieces.get(name)
            if bounds.slack is not None:
                add(c.abs() * bounds.slack)
            if piece is None or isinstance(piece, Box):
                add(_in_box(c, bounds))
                continue
            for source, part, terms in self._through(name, piece, c, chosen):
                waiting[source] = waiting[source] + part if source in waiting else part
                if terms is not None:
                    add(terms)
        bound = total + size * SUMMED
        return torch.where(bound.isnan(), torch.inf, bound)

    def _through(
        self, name: str, piece: Affine | Kink | Maximum, c: Tensor, chosen: Mapping[str, Tensor] | None
    ) -> list[tuple[str, Tensor, Tensor | None]]:
        """Coefficients of a piece's value → of each of its sources, and the constant terms that come beside."""
        if isinstance(piece, Affine):
            parts = piece.back(c)
            beside = [c * piece.constant, *[None] * (len(parts) - 1)]
            return list(zip(piece.sources, parts, beside, strict=True))
        positive, negative = c.clamp(min=0), c.clamp(max=0)
        linear = self._linear_bounds_of(name)
        if isinstance(linear, Envelope):
            assert isinstance(piece, Maximum)
            m, extents = self._starts[name], self.subgraph.shapes[piece.source][2:]
            if chosen is not None:
                m = linear.least + chosen[name] * (linear.most - linear.least)
            weights, offset = linear.above(m)
            flat, below = positive.flatten(2), negative.flatten(2)
            spread = flat[..., None] * weights + below[..., None] * linear.chosen
            return [(piece.source, piece.scatter(spread, extents), flat * offset)]
        above, below_bounds = linear
        t = (above.start, below_bounds.start) if chosen is None else chosen[name].unbind(-1)
        up, over = above.between(t[0])
        down, under = below_bounds.between(t[1])
        return [(piece.source, positive * up + negative * down, positive * over + negative * under)]

    def _linear_bounds_of(self, name: str) -> Envelope | tuple[LinearBounds, LinearBounds]:
        """Linear functions above and below a kink or maximum, computed once, from its source's bounds."""
        if name not in self._linear_bounds:
            piece = self.pieces[name]
            assert isinstance(piece, Kink | Maximum)
            bounds = self.bounds[piece.source]
            with torch.no_grad():
                if isinstance(piece, Maximum):
                    envelope = Envelope.of(piece, bounds.low, bounds.high)
                    self._linear_bounds[name], self._starts[name] = envelope, envelope.start()
                else:
                    self._linear_bounds[name] = kink_linear_bounds(piece, bounds.low, bounds.high)
        return self._linear_bounds[name]

    def _start(self, value: str, count: int) -> dict[str, Tensor]:
        """Parameters in [0, 1] of the linear functions that lead to a value, at constants where these will do.

        A start at constants gives the interval bound, and from there it only falls; one at the functions that are
        closest on average ends a little higher.
        """
        starts = {}
        for name in self.order[: self.order.index(value) + 1]:
            if not isinstance(self.pieces[name], Kink | Maximum):
                continue
            linear = self._linear_bounds_of(name)
            if isinstance(linear, Envelope):
                start = torch.ones_like(linear.least)
            else:
                start = torch.stack([linear[0].start, torch.zeros_like(linear[1].start)], dim=-1)
            starts[name] = start.repeat(count, *[1] * (start.ndim - 1)).requires_grad_(True)
        return starts

    def _batch(self) -> int:
        """How many objectives fit into a batch."""
        largest = max(math.prod(self.subgraph.shapes[name]) for name in (*self.order, self.network.input.name))
        return max(1, BATCH // largest)

    # intervals

    def _image(self) -> ElementBounds:
        shape = self.subgraph.image_shape()
        around = [1, 1, 1, 1]
        around[1 if self.network.input.layout == "NCHW" else 3] = self.network.input.channels
        low, high = (end.reshape(around) for end in self.network.input.domain())
        low, high = outward(low, high, np.maximum(abs(low), abs(high)))
        return ElementBounds(*(torch.from_numpy(np.broadcast_to(end, shape).copy()) for end in (low, high)))

    def _forward(self, name: str) -> None:
        """Bound a value's elements from those of its sources; a piece without finite sources becomes a box."""
        piece = self.pieces[name]
        if not all(self.bounds[source].finite for source in _sources(piece)):
            self.pieces[name] = piece = Box(piece.node)
        shape = self.subgraph.shapes[name]
        if isinstance(piece, Affine):
            bounds = affine_bounds(piece, [self.bounds[source] for source in piece.sources])
        elif isinstance(piece, Kink):
            bounds = kink_bounds(piece, self.bounds[piece.source], shape)
        elif isinstance(piece, Maximum):
            source = self.bounds[piece.source]
            bounds = ElementBounds(piece.at(source.low), piece.at(source.high))
        else:
            bounds = box_bounds(piece, shape, self.bounds, self.network.model.graph.initializers)
        low, high = channel_bounds(self.shared.interval_bounds.get(name), shape)
        beyond = (bounds.low < -LARGEST, bounds.high > LARGEST)
        bounds.low = torch.maximum(torch.where(beyond[0], -torch.inf, bounds.low).expand(shape), low)
        bounds.high = torch.minimum(torch.where(beyond[1], torch.inf, bounds.high).expand(shape), high)
        close = None if name == self.layer.value else self.shared.element_bounds(name, self.canvas.size, shape)
        if close is not None:
            bounds.low, bounds.high = torch.maximum(bounds.low, close[0]), torch.minimum(bounds.high, close[1])
        self.bounds[name] = bounds


class SharedBounds:
    """Bounds that the relaxations of all layers of a network share.

    Interval bounds of every value, and the relaxation's own bounds of inner convolutions where these see no padding.
    There a convolution computes the same function of its pixels at every position, so it is bounded once, on the
    neuron's canvas of its own layer, and the bounds serve all later layers. Closer bounds make closer functions.

    Args:
        network: the opened network.
        interval_bounds: `intervals(network)`, where it is at hand.
    """

    def __init__(self, network: Network, interval_bounds: Mapping[str, Interval] | None = None) -> None:
        self.network = network
        self.interval_bounds = intervals(network) if interval_bounds is None else interval_bounds
        self._layers = {layer.value: layer for layer in network.convolutions}
        self._layer_bounds: dict[str, tuple[Tensor, Tensor] | None] = {}

    def element_bounds(self, value: str, size: tuple[int, int], shape: tuple[int, ...]) -> tuple[Tensor, Tensor] | None:
        """Low and high of a value on a canvas, ±∞ where padding is seen; None where nothing is known."""
        layer = self._layers.get(value)
        if layer is None or layer.field is None or len(shape) != 4:
            return None
        if value not in self._layer_bounds:
            self._layer_bounds[value] = self._bounds_of(layer)
        bounds = self._layer_bounds[value]
        if bounds is None:
            return None
        free = [_unpadded(layer, axis, size[axis], np.arange(shape[2 + axis])) for axis in (0, 1)]
        inside = torch.from_numpy(free[0][:, None] & free[1][None])
        low, high = (end.reshape(1, -1, 1, 1) for end in bounds)
        return torch.where(inside, low, -torch.inf), torch.where(inside, high, torch.inf)

    def _bounds_of(self, layer: Layer) -> tuple[Tensor, Tensor] | None:
        if layer.op != "Conv" or layer.is_global or layer.sees_image:
            return None  # where it sees the image, interval arithmetic is exact
        canvas = canvas_for(self.network, layer, "neuron")
        places = ((0, canvas.row or 0), (1, canvas.column or 0))
        if not all(_unpadded(layer, axis, canvas.size[axis], np.array([at]))[0] for axis, at in places):
            return None
        subgraph = subgraph_before(self.network, layer, canvas.size)
        if subgraph.elements * layer.out_channels > MOST_SHARED or not is_translation_equivariant(subgraph):
            return None
        relaxation = Relaxation(subgraph, canvas, self)
        channels = range(layer.out_channels)
        high = relaxation.upper("neuron", channels)
        low = -relaxation.upper("neuron", channels, sign=-1.0)
        return torch.from_numpy(low), torch.from_numpy(np.maximum(high, low))


def _unpadded(layer: Layer, axis: int, extent: int, positions: np.ndarray) -> np.ndarray:
    """Which positions of a layer's map have their whole receptive field on a canvas of this extent, without padding."""
    assert layer.field is not None
    first = layer.field.start[axis] + positions * layer.field.jump[axis]
    return np.asarray((first >= 0) & (first + layer.field.size[axis] <= extent))


def _in_box(c: Tensor, bounds: ElementBounds) -> Tensor:
    """The largest value of each term c · x."""
    return torch.where(c == 0, 0.0, torch.where(c > 0, c * bounds.high, c * bounds.low))


def _sources(piece: Piece) -> tuple[str, ...]:
    if isinstance(piece, Box):
        return ()
    return piece.sources if isinstance(piece, Affine) else (piece.source,)
