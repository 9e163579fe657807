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
from dataclasses import dataclass

import numpy as np
import torch

from analyzer.bounds import Interval, intervals
from analyzer.canvas import Canvas
from analyzer.envelopes import Envelope, Faces, kink_faces
from analyzer.interval_arithmetic import ELEMENTWISE, LARGEST, ROUNDING, SLACK, SPARE, TINY, outward
from analyzer.layers import ConvLayer
from analyzer.network import Network
from analyzer.piecewise import Affine, Box, Cut, Kink, Maximum, Piece, cut

Tensor = torch.Tensor
LIMIT = 1 << 22  # numbers in all values of a cut: beyond this the interval bound is given instead
TIGHTENING = 1 << 27  # objectives × numbers of a cut that may be spent on closer intervals inside one layer's cut
BATCH = 1 << 22  # numbers of a batch of coefficients of one value
STEPS = 8  # of improving the linear functions; 8 come within 1 % of 32 on svhn_cnn6
RATE = 0.3  # of the first step: part of the way between two functions
SUMMED = 2.0**-29  # of the absolute terms, what a float64 sum of 2²⁴ of them may lose
SPREAD = 1 + 2.0**-12  # of an operator's slack: its part for float64, which rounds 2²⁹ times as finely as float32


def upper_bounds(
    network: Network,
    layer: ConvLayer,
    canvas: Canvas,
    objective: str,
    channels: Sequence[int],
    known: Mapping[str, Interval] | None = None,
) -> np.ndarray:
    """What no picture of a canvas can make of some units.

    Args:
        canvas: of the pictures; with `objective` "neuron" its position is the neuron's.
        objective: "neuron" or "channel".
        channels: the units.
        known: `bounds.intervals(network)`, where it is at hand.

    Returns:
        (N,) float64, in the units' order, never above the interval bounds; those themselves where the cut holds more
        than LIMIT numbers. ∞ where nothing is known.

    Raises:
        ModelError: the network up to this layer does not run on this canvas.
    """
    known = intervals(network) if known is None else known
    part = cut(network, layer, canvas.size)
    if part.elements > LIMIT:
        return np.array(known[layer.value].high[list(channels)])
    return Relaxation(part, canvas, known).upper(objective, channels)


@dataclass(slots=True, eq=False)
class Ends:
    """Between which numbers the elements of a value stay, and by how much float32 may move each from its formula."""

    low: Tensor  # (1, …) float64, may be −∞
    high: Tensor
    slack: Tensor | None = None  # (1, …); None: nothing is rounded

    @property
    def finite(self) -> bool:
        return bool(torch.isfinite(self.low).all() and torch.isfinite(self.high).all())


class Relaxation:
    """The cut of one layer on one canvas with the intervals of its values, ready for objectives.

    Args:
        part: the cut, of the canvas's size.
        known: `bounds.intervals(network)`: intervals a channel that no interval here exceeds.
        tightening: how much may be spent on intervals closer than interval arithmetic's; 0: none.
    """

    def __init__(
        self, part: Cut, canvas: Canvas, known: Mapping[str, Interval] | None = None, tightening: int = TIGHTENING
    ) -> None:
        self.cut, self.canvas = part, canvas
        self.network, self.layer = part.network, part.layer
        self._known = intervals(part.network) if known is None else known
        self.pieces: dict[str, Piece] = dict(self.cut.pieces)
        self.order = list(self.pieces)
        self._made: dict[str, Envelope | tuple[Faces, Faces]] = {}
        self._starts: dict[str, Tensor] = {}  # of the maxima: m
        self.ends: dict[str, Ends] = {part.network.input.name: self._image()}
        with torch.no_grad():
            for name in self.order:
                self._forward(name)
            if tightening:
                self._tighten(tightening)

    def upper(self, objective: str, channels: Sequence[int], steps: int = STEPS) -> np.ndarray:
        """Upper bounds of units: see `upper_bounds`.

        Args:
            steps: in which the choice of linear functions is improved for each unit.
        """
        limit = self._known[self.layer.value].high[list(channels)]
        shape = self.cut.shapes[self.layer.value]
        size = self._batch()
        found = [np.empty(0)]
        for start in range(0, len(channels), size):
            part = torch.tensor(list(channels[start : start + size]))
            seeds = torch.zeros(len(part), *shape[1:], dtype=torch.float64)
            if objective == "neuron":
                seeds[torch.arange(len(part)), part, self.canvas.row, self.canvas.column] = 1.0
            else:
                seeds[torch.arange(len(part)), part] = 1.0 / math.prod(shape[2:])
            found.append(self.maximum(self.layer.value, seeds, steps).numpy())
        return np.asarray(np.minimum(np.concatenate(found), limit))

    def maximum(self, value: str, coefficients: Tensor, steps: int = 0) -> Tensor:
        """Upper bounds of Σ coefficient · element of a value.

        Args:
            value: of the cut.
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
            ends, piece = self.ends[name], self.pieces.get(name)
            if ends.slack is not None:
                add(c.abs() * ends.slack)
            if piece is None or isinstance(piece, Box):
                add(_in_box(c, ends))
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
        faces = self._faces(name)
        if isinstance(faces, Envelope):
            assert isinstance(piece, Maximum)
            m, extents = self._starts[name], self.cut.shapes[piece.source][2:]
            if chosen is not None:
                m = faces.least + chosen[name] * (faces.most - faces.least)
            weights, offset = faces.above(m)
            flat, below = positive.flatten(2), negative.flatten(2)
            spread = flat[..., None] * weights + below[..., None] * faces.chosen
            return [(piece.source, piece.scatter(spread, extents), flat * offset)]
        above, below_faces = faces
        t = (above.start, below_faces.start) if chosen is None else chosen[name].unbind(-1)
        up, over = above.between(t[0])
        down, under = below_faces.between(t[1])
        return [(piece.source, positive * up + negative * down, positive * over + negative * under)]

    def _faces(self, name: str) -> Envelope | tuple[Faces, Faces]:
        """Linear functions above and below a kink or maximum, made once for its source's interval."""
        if name not in self._made:
            piece = self.pieces[name]
            assert isinstance(piece, Kink | Maximum)
            ends = self.ends[piece.source]
            with torch.no_grad():
                if isinstance(piece, Maximum):
                    self._made[name] = made = Envelope.of(piece, ends.low, ends.high)
                    self._starts[name] = made.start()
                else:
                    self._made[name] = kink_faces(piece, ends.low, ends.high)
        return self._made[name]

    def _start(self, value: str, count: int) -> dict[str, Tensor]:
        """Parameters in [0, 1] of the linear functions that lead to a value, at constants where these will do.

        A start at constants gives the interval bound, and from there it only falls; one at the functions that are
        closest on average ends a little higher.
        """
        found = {}
        for name in self.order[: self.order.index(value) + 1]:
            if not isinstance(self.pieces[name], Kink | Maximum):
                continue
            faces = self._faces(name)
            if isinstance(faces, Envelope):
                start = torch.ones_like(faces.least)
            else:
                start = torch.stack([faces[0].start, torch.zeros_like(faces[1].start)], dim=-1)
            found[name] = start.repeat(count, *[1] * (start.ndim - 1)).requires_grad_(True)
        return found

    def _batch(self) -> int:
        """Objectives at a time."""
        largest = max(math.prod(self.cut.shapes[name]) for name in (*self.order, self.network.input.name))
        return max(1, BATCH // largest)

    # intervals

    def _image(self) -> Ends:
        shape = self.cut.image_shape()
        around = [1, 1, 1, 1]
        around[1 if self.network.input.layout == "NCHW" else 3] = self.network.input.channels
        low, high = (end.reshape(around) for end in self.network.input.domain())
        low, high = outward(low, high, np.maximum(abs(low), abs(high)))
        return Ends(*(torch.from_numpy(np.broadcast_to(end, shape).copy()) for end in (low, high)))

    def _forward(self, name: str) -> None:
        """The interval of a value, from those of its sources; a piece without finite sources becomes a box."""
        piece = self.pieces[name]
        if not all(self.ends[source].finite for source in _sources(piece)):
            self.pieces[name] = piece = Box(piece.node)
        shape = self.cut.shapes[name]
        if isinstance(piece, Affine):
            ends = self._affine_ends(piece)
        elif isinstance(piece, Kink):
            ends = self._kink_ends(piece, shape)
        elif isinstance(piece, Maximum):
            source = self.ends[piece.source]
            ends = Ends(piece.at(source.low), piece.at(source.high))
        else:
            ends = self._box_ends(piece, shape)
        low, high = self._channel_ends(name, shape)
        beyond = (ends.low < -LARGEST, ends.high > LARGEST)
        ends.low = torch.maximum(torch.where(beyond[0], -torch.inf, ends.low).expand(shape), low)
        ends.high = torch.minimum(torch.where(beyond[1], torch.inf, ends.high).expand(shape), high)
        self.ends[name] = ends
        for reader in self.order:
            if name in _sources(self.pieces[reader]):
                self._made.pop(reader, None)

    def _affine_ends(self, piece: Affine) -> Ends:
        sources = [self.ends[source] for source in piece.sources]
        if not piece.terms:
            return Ends(*(piece.linear([getattr(s, e) for s in sources]) + piece.constant for e in ("low", "high")))
        middle = piece.linear([(s.low + s.high) / 2 for s in sources]) + piece.constant
        radius = piece.absolute([(s.high - s.low) / 2 for s in sources])
        largest = piece.absolute([torch.maximum(s.low.abs(), s.high.abs()) for s in sources]) + piece.offset
        slack = _slack(largest, piece.terms)
        return Ends(middle - radius - slack, middle + radius + slack, slack)

    def _kink_ends(self, piece: Kink, shape: tuple[int, ...]) -> Ends:
        source = self.ends[piece.source]
        ends = piece.at(source.low), piece.at(source.high)
        low, high = torch.minimum(*ends), torch.maximum(*ends)
        if piece.slope is None:
            return Ends(low, high)
        crosses = (source.low < 0) & (source.high > 0)  # with a negative slope the kink is the least or the largest
        low, high = torch.where(crosses, low.clamp(max=0), low), torch.where(crosses, high.clamp(min=0), high)
        slack = _slack(torch.maximum(source.low.abs(), source.high.abs()) * piece.slope.abs(), 1).expand(shape)
        return Ends(low - slack, high + slack, slack)

    def _box_ends(self, piece: Box, shape: tuple[int, ...]) -> Ends:
        """Of an elementwise operator position by position; of others nothing that its channels do not say."""
        node = piece.node
        nothing = torch.full(shape, torch.inf, dtype=torch.float64)
        constants = self.network.model.graph.initializers
        if node.domain not in ("", "ai.onnx") or node.op not in ELEMENTWISE or len(node.outputs) != 1:
            return Ends(-nothing, nothing)
        operands: list[tuple[np.ndarray, np.ndarray] | None] = []
        for name in node.inputs:
            if name in self.ends:
                operands.append((self.ends[name].low.numpy(), self.ends[name].high.numpy()))
            elif name in constants and constants[name].size:
                exact = constants[name].astype(np.float64)
                operands.append((exact, exact))
            elif not name or name in constants:
                operands.append(None)
            else:
                return Ends(-nothing, nothing)
        with np.errstate(all="ignore"):
            low, high = ELEMENTWISE[node.op](node, operands)
        ends = (torch.from_numpy(np.broadcast_to(np.asarray(end, np.float64), shape).copy()) for end in (low, high))
        low_end, high_end = ends
        return Ends(torch.nan_to_num(low_end, nan=-torch.inf), torch.nan_to_num(high_end, nan=torch.inf))

    def _channel_ends(self, name: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """What bounds.py knows of the value's channels, in the value's shape."""
        known = self._known.get(name)
        if known is None:
            nothing = torch.full(shape, torch.inf, dtype=torch.float64)
            return -nothing, nothing
        low, high = known.low, known.high
        around = [1] * len(shape)
        if known.axis < len(shape) and len(low) == shape[known.axis]:
            around[known.axis] = -1
        else:  # on this canvas the axis has another length
            low, high = low.min(keepdims=True), high.max(keepdims=True)
        return tuple(torch.from_numpy(np.array(end)).reshape(around).expand(shape) for end in (low, high))  # type: ignore[return-value]

    def _tighten(self, budget: int) -> None:
        """Closer intervals of what kinks and maxima read, from the front to the back, as far as the budget goes."""
        for name in self.order:
            piece = self.pieces[name]
            if not isinstance(piece, Kink | Maximum) or not isinstance(self.pieces.get(piece.source), Affine):
                continue
            source = piece.source
            before = self.order[: self.order.index(source)]
            if not any(isinstance(self.pieces[other], Kink | Maximum) for other in before):
                continue  # an affine map of a box: its interval is exact
            ends = self.ends[source]
            loose = torch.nonzero(self._matters(piece, ends).flatten())[:, 0]
            cost = 2 * len(loose) * sum(math.prod(self.cut.shapes[other]) for other in before)
            if not len(loose) or cost > budget:
                continue
            budget -= cost
            self._tighten_value(source, loose)
            self._made.clear()
            for later in self.order[self.order.index(source) + 1 :]:
                old = self.ends[later]
                self._forward(later)
                new = self.ends[later]
                new.low, new.high = torch.maximum(old.low, new.low), torch.minimum(old.high, new.high)

    def _matters(self, piece: Kink | Maximum, ends: Ends) -> Tensor:
        """Elements whose interval decides what a piece is replaced by."""
        if isinstance(piece, Kink):
            first, last = (0.0, math.inf) if piece.slope is not None else (piece.floor, piece.ceiling)
            return ((ends.low < first) & (ends.high > first)) | ((ends.low < last) & (ends.high > last))
        return torch.ones_like(ends.low, dtype=torch.bool)

    def _tighten_value(self, value: str, elements: Tensor) -> None:
        ends = self.ends[value]
        shape = self.cut.shapes[value]
        low, high = ends.low.flatten().clone(), ends.high.flatten().clone()
        size = self._batch()
        for start in range(0, len(elements), size):
            part = elements[start : start + size]
            seeds = torch.zeros(len(part), low.numel(), dtype=torch.float64)
            seeds[torch.arange(len(part)), part] = 1.0
            seeds = seeds.reshape(len(part), *shape[1:])
            high[part] = torch.minimum(high[part], self.maximum(value, seeds))
            low[part] = torch.maximum(low[part], -self.maximum(value, -seeds))
        ends.low, ends.high = low.reshape(shape), torch.maximum(low, high).reshape(shape)


def _in_box(c: Tensor, ends: Ends) -> Tensor:
    """The largest value of each term c · x."""
    return torch.where(c == 0, 0.0, torch.where(c > 0, c * ends.high, c * ends.low))


def _sources(piece: Piece) -> tuple[str, ...]:
    if isinstance(piece, Box):
        return ()
    return piece.sources if isinstance(piece, Affine) else (piece.source,)


def _slack(magnitude: Tensor, terms: int) -> Tensor:
    """What float32 may do to a sum of so many terms, as `interval_arithmetic.outward` has it, and float64 here."""
    roundings = terms + SPARE
    return (magnitude * max(SLACK, roundings * ROUNDING) + roundings * TINY) * SPREAD
