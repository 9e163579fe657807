"""One neuron as a mixed-integer program: the greatest value that the pieces of its subgraph can give it, exactly.

Only what the neuron depends on enters. A ReLU that its interval settles is no variable at all; one that can only lower
the neuron needs no binary, for then the neuron's rise keeps it down; the others get one each, a maximum one for each
input that can be the largest (and a ReLU before it becomes one more input, the constant 0). Knows the pieces of a
network and their intervals; knows nothing of solvers.

Source: Tjeng, Xiao & Tedrake 2019, arXiv:1711.07356, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from filterscope.analyzer.bounds.linear_relaxation import Relaxation
from filterscope.analyzer.bounds.piecewise import Affine, Box, Kink, Maximum
from filterscope.analyzer.certify.program import Program, ReluVariable
from filterscope.converters.errors import SettingsError

LARGEST = 1 << 25  # numbers in one matrix: a field beyond this is too large for an exact program
CHUNK = 1 << 23  # numbers of coefficients followed back at a time


@dataclass(frozen=True, slots=True, eq=False)
class _Linear:
    """Some elements of a value as functions of variables: matrix · v[columns] + constant."""

    elements: np.ndarray  # (E,) sorted places in the flat value
    columns: np.ndarray  # (V,) of the program
    matrix: np.ndarray  # (E, V)
    constant: np.ndarray  # (E,)

    def of(self, elements: np.ndarray) -> _Linear:
        """Of fewer elements."""
        rows = np.searchsorted(self.elements, elements)
        return _Linear(elements, self.columns, self.matrix[rows], self.constant[rows])


@dataclass(frozen=True, slots=True, eq=False)
class _Signs:
    """Which elements of a value can raise the neuron where they rise, and which can lower it: flat bool each."""

    raising: np.ndarray
    lowering: np.ndarray

    @property
    def elements(self) -> np.ndarray:
        """Places of those that can do either."""
        return np.flatnonzero(self.raising | self.lowering)

    def at(self, element: int) -> _Effect:
        """What one element can do."""
        return _Effect(bool(self.raising[element]), bool(self.lowering[element]))


@dataclass(frozen=True, slots=True)
class _Effect:
    """Whether a number can raise the neuron where it rises, and whether it can lower it."""

    raising: bool
    lowering: bool

    def turned(self) -> _Effect:
        """Of the number's negative."""
        return _Effect(self.lowering, self.raising)


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """factors · v[columns] + constant."""

    columns: np.ndarray
    factors: np.ndarray
    constant: float


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """What can be the largest number of a window."""

    elements: np.ndarray  # places in the flat value
    floor: float  # a constant that can be; −∞: none
    least: float  # what the largest is at least


def neuron_program(relaxation: Relaxation, channel: int, image: np.ndarray) -> Program:
    """Encode one neuron as a mixed-integer program.

    Args:
        relaxation: of the neuron's subgraph and canvas.
        channel: the unit.
        image: (1, …) float, what the network is fed where the search starts.

    Raises:
        SettingsError: an operator that is neither affine nor a kink nor a maximum leads to the neuron, or its field
            is too large.
    """
    return _Builder(relaxation, channel, image).program


class _Builder:
    """Signs from the neuron back to the image, then variables and rows from the image to the neuron."""

    def __init__(self, relaxation: Relaxation, channel: int, image: np.ndarray) -> None:
        self.relaxation, self.image = relaxation, image
        self.shapes = relaxation.subgraph.shapes
        self.signs: dict[str, _Signs] = {}
        self.jacobians: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        self.program = Program()
        target = relaxation.layer.value
        canvas = relaxation.canvas
        assert canvas.row is not None
        assert canvas.column is not None
        place = np.ravel_multi_index((0, channel, canvas.row, canvas.column), self.shapes[target])
        signs = self._signs(target)
        signs.raising[place] = True
        with torch.no_grad():
            for name in reversed(relaxation.order):
                if name in self.signs:
                    self._back(name)
            self.functions: dict[str, _Linear] = {relaxation.network.input.name: self._pixels()}
            for name in relaxation.order:
                if name in self.signs and name not in self.functions:
                    self._forward(name)
        end = self.functions[target]
        nonzero = np.flatnonzero(end.matrix[0])
        self.program.objective = (end.columns[nonzero], end.matrix[0][nonzero])
        self.program.constant = float(end.constant[0])

    def _signs(self, name: str) -> _Signs:
        if name not in self.signs:
            size = math.prod(self.shapes[name])
            self.signs[name] = _Signs(np.zeros(size, bool), np.zeros(size, bool))
        return self.signs[name]

    def _bounds(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        bounds = self.relaxation.bounds[name]
        return bounds.low.flatten().numpy(), bounds.high.flatten().numpy()

    # from the neuron to the image

    def _back(self, name: str) -> None:
        piece, signs = self.relaxation.pieces[name], self.signs[name]
        layer = self.relaxation.layer.name
        if isinstance(piece, Box):
            raise SettingsError(
                f"{layer}: {piece.node.op} ({piece.node.name}) leads to its neurons; exact programs know affine "
                "operators, ReLU and its kin, and max-pooling: choose an earlier layer",
                field="layer",
                value=layer,
            )
        if isinstance(piece, Affine):
            self._back_affine(name, piece, signs)
            return
        if isinstance(piece, Kink):
            low, high = self._bounds(piece.source)
            floor, ceiling = self._limits(piece)
            moves = (high > floor) & (low < ceiling)
            source = self._signs(piece.source)
            falls = np.broadcast_to(0.0 if piece.slope is None else piece.slope.numpy(), self.shapes[name]).ravel() < 0
            source.raising[:] |= moves & (signs.raising | (falls & signs.lowering))
            source.lowering[:] |= moves & (signs.lowering | (falls & signs.raising))
            return
        value, _ = self._behind(piece)
        source = self._signs(value)
        for element in signs.elements:
            places = self._candidates(piece, element).elements
            source.raising[places] |= signs.raising[element]
            source.lowering[places] |= signs.lowering[element]

    def _back_affine(self, name: str, piece: Affine, signs: _Signs) -> None:
        elements, shape = signs.elements, self.shapes[name]
        largest = max(math.prod(extents) for extents in (*piece.shapes, shape))
        parts: list[list[np.ndarray]] = [[] for _ in piece.sources]
        size = max(1, CHUNK // largest)
        columns = [np.zeros(math.prod(extents), bool) for extents in piece.shapes]
        if len(elements) * largest > 8 * LARGEST:
            raise SettingsError(
                f"{self.relaxation.layer.name}: the field of its neurons holds too much for an exact program "
                f"({len(elements)} × {largest} coefficients at {piece.node.name}); choose an earlier layer",
                field="layer",
                value=self.relaxation.layer.name,
            )
        for start in range(0, len(elements), size):
            chosen = torch.from_numpy(elements[start : start + size])
            seeds = torch.zeros(len(chosen), math.prod(shape), dtype=torch.float64)
            seeds[torch.arange(len(chosen)), chosen] = 1.0
            for index, part in enumerate(piece.back(seeds.reshape(len(chosen), *shape[1:]))):
                parts[index].append(part.flatten(1).numpy())
        self.jacobians[name] = []
        for index, source in enumerate(piece.sources):
            whole = np.concatenate(parts[index]) if parts[index] else np.zeros((0, len(columns[index])))
            met = np.flatnonzero(whole.any(axis=0))
            matrix = whole[:, met]
            self.jacobians[name].append((met, matrix))
            raising, lowering = signs.raising[elements], signs.lowering[elements]
            up, down = matrix > 0, matrix < 0
            of_source = self._signs(source)
            of_source.raising[met] |= up[raising].any(axis=0) | down[lowering].any(axis=0)
            of_source.lowering[met] |= down[raising].any(axis=0) | up[lowering].any(axis=0)

    def _limits(self, piece: Kink) -> tuple[np.ndarray, np.ndarray]:
        """Floor and ceiling of each element; of a leaky kink none."""
        shape = self.shapes[piece.source]
        return tuple(np.broadcast_to(end.numpy(), shape).ravel() for end in (piece.floor, piece.ceiling))  # type: ignore[return-value]

    def _behind(self, piece: Maximum) -> tuple[str, float]:
        """The value whose maximum is taken: that before a ReLU, for which its floor is one more number; or −∞."""
        before = self.relaxation.pieces.get(piece.source)
        plain = isinstance(before, Kink) and before.slope is None and bool(torch.isinf(before.ceiling).all())
        if plain and isinstance(before, Kink) and before.floor.numel() == 1:
            return before.source, float(before.floor)
        return piece.source, -math.inf

    def _candidates(self, piece: Maximum, element: int) -> _Candidates:
        """What can be the largest number of the window of an element."""
        value, floor = self._behind(piece)
        low, high = self._bounds(value)
        extents = self.shapes[value]
        size = math.prod(extents[2:])
        channel, window = divmod(int(element), math.prod(piece.size))
        places = piece.index[window].numpy()
        places = channel * size + places[places < size]
        least = max(float(low[places].max()), floor)
        possible = places[high[places] > least]
        if floor >= least:
            return _Candidates(possible, floor, least)
        if not len(possible):
            possible = places[[int(low[places].argmax())]]
        return _Candidates(possible, -math.inf, least)

    # from the image to the neuron

    def _pixels(self) -> _Linear:
        name = self.relaxation.network.input.name
        elements = self._signs(name).elements
        low, high = self._bounds(name)
        values = self.image.reshape(-1)
        columns = [self.program.add_variable(low[e], high[e], float(values[e])) for e in elements]
        self.program.pixels = elements
        return _Linear(elements, np.array(columns, np.int64), np.eye(len(elements)), np.zeros(len(elements)))

    def _forward(self, name: str) -> None:
        piece, elements = self.relaxation.pieces[name], self.signs[name].elements
        if isinstance(piece, Affine):
            self.functions[name] = self._affine(name, piece, elements)
        elif isinstance(piece, Kink):
            self.functions[name] = self._kink(piece, elements, self.signs[name])
        else:
            assert isinstance(piece, Maximum)
            self.functions[name] = self._maximum(piece, elements, self.signs[name])

    def _affine(self, name: str, piece: Affine, elements: np.ndarray) -> _Linear:
        sources = [self.functions[source] for source in piece.sources]
        columns = np.unique(np.concatenate([source.columns for source in sources]))
        if len(elements) * len(columns) > LARGEST:
            raise SettingsError(
                f"{self.relaxation.layer.name}: the field of its neurons holds too much for an exact program "
                f"({len(elements)} × {len(columns)} at {piece.node.name}); choose an earlier layer",
                field="layer",
                value=self.relaxation.layer.name,
            )
        matrix = np.zeros((len(elements), len(columns)))
        constant = piece.constant.reshape(-1).numpy()[elements].copy()
        for source, (met, jacobian) in zip(sources, self.jacobians[name], strict=True):
            part = source.of(met)
            matrix[:, np.searchsorted(columns, part.columns)] += jacobian @ part.matrix
            constant += jacobian @ part.constant
        return _Linear(elements, columns, matrix, constant)

    def _kink(self, piece: Kink, elements: np.ndarray, signs: _Signs) -> _Linear:
        low, high = (end[elements] for end in self._bounds(piece.source))
        before = self.functions.get(piece.source)
        rows = _Rows(before, elements)
        floor, ceiling = (end[elements] for end in self._limits(piece))
        slope = None if piece.slope is None else np.broadcast_to(piece.slope.numpy(), self.shapes[piece.source]).ravel()
        for i, element in enumerate(elements):
            effect, interval = signs.at(element), (float(low[i]), float(high[i]))
            if slope is not None:
                s = float(slope[element])
                if low[i] >= 0 or high[i] <= 0:
                    rows.copy(i, 1.0 if low[i] >= 0 else s)
                    continue
                rows.copy(i, s)
                rows.add(i, self._relu(rows.before(i), 0.0, interval, effect.turned() if s > 1 else effect), 1 - s)
                continue
            if high[i] <= floor[i] or low[i] >= ceiling[i]:
                rows.constant[i] += floor[i] if high[i] <= floor[i] else ceiling[i]
                continue
            if low[i] >= floor[i]:
                rows.copy(i, 1.0)
            else:
                rows.constant[i] += floor[i]
                rows.add(i, self._relu(rows.before(i), floor[i], interval, effect), 1.0)
            if high[i] > ceiling[i]:
                rows.add(i, self._relu(rows.before(i), ceiling[i], interval, effect.turned()), -1.0)
        return rows.linear()

    def _relu(self, z: _Row, shift: float, interval: tuple[float, float], effect: _Effect) -> int:
        """The variable max(z − shift, 0), where low < shift < high of z's interval."""
        columns, factors = z.columns, z.factors
        constant, low, high = z.constant - shift, interval[0] - shift, interval[1] - shift
        at = float(factors @ np.array(self.program.start)[columns]) + constant
        y = self.program.add_variable(0.0, high, max(at, 0.0))
        if effect.lowering:  # y ≥ z, and the neuron's rise keeps it there
            self.program.add_row([*columns, y], [*-factors, 1.0], constant, math.inf)
        if effect.raising:  # y ≤ z − low · (1 − a), y ≤ high · a
            a = self.program.add_variable(0.0, 1.0, float(at > 0), whole=True)
            self.program.add_row([*columns, y, a], [*-factors, 1.0, -low], -math.inf, constant - low)
            self.program.add_row([y, a], [1.0, -high], -math.inf, 0.0)
        relu = ReluVariable(
            y=y,
            columns=columns,
            factors=factors,
            constant=constant,
            low=low,
            high=high,
            raising=effect.raising,
        )
        self.program.relus.append(relu)
        return y

    def _maximum(self, piece: Maximum, elements: np.ndarray, signs: _Signs) -> _Linear:
        value, _ = self._behind(piece)
        low, high = self._bounds(value)
        before = self.functions.get(value)
        rows = _Rows(before, elements)
        for i, element in enumerate(elements):
            candidates = self._candidates(piece, element)
            if len(candidates.elements) + (candidates.floor > -math.inf) == 1:
                if len(candidates.elements):
                    rows.copy(i, 1.0, candidates.elements[0])
                else:
                    rows.constant[i] += candidates.floor
                continue
            assert before is not None
            part = before.of(np.sort(candidates.elements))
            intervals = (low[part.elements], high[part.elements])
            rows.add(i, self._largest(part, intervals, candidates, signs.at(element)), 1.0)
        return rows.linear()

    def _largest(
        self, part: _Linear, intervals: tuple[np.ndarray, np.ndarray], candidates: _Candidates, effect: _Effect
    ) -> int:
        """The variable max(x, floor) over the rows x of a part, which have these intervals."""
        program, (low, high) = self.program, intervals
        floor, least = candidates.floor, candidates.least
        start = part.matrix @ np.array(program.start)[part.columns] + part.constant
        y = program.add_variable(least, float(high.max()), max(float(start.max()), floor))
        met = [np.flatnonzero(row) for row in part.matrix]
        if effect.lowering:
            for row, columns, constant in zip(part.matrix, met, part.constant, strict=True):
                program.add_row([*part.columns[columns], y], [*-row[columns], 1.0], constant, math.inf)
        if not effect.raising:
            return y
        best = int(start.argmax()) if start.max() >= floor else -1
        chosen = []
        for k, columns in enumerate(met):  # y ≤ x + (what y can be more than x) · (1 − a)
            a = program.add_variable(0.0, 1.0, float(best == k), whole=True)
            others = max(np.delete(high, k).max(initial=-math.inf), floor)
            more = max(0.0, others - low[k])
            row = part.matrix[k][columns]
            program.add_row([*part.columns[columns], y, a], [*-row, 1.0, more], -math.inf, part.constant[k] + more)
            chosen.append(a)
        if floor > -math.inf:
            a = program.add_variable(0.0, 1.0, float(best < 0), whole=True)
            program.add_row([y, a], [1.0, float(high.max()) - floor], -math.inf, float(high.max()))
            chosen.append(a)
        program.add_row(chosen, [1.0] * len(chosen), 1.0, 1.0)
        for m in np.unique([least, *high[high < high.max()]]):  # linear_envelopes.Envelope, the concave envelope
            slopes = np.where(high > m, (high - m) / np.maximum(high - np.minimum(low, m), 1e-300), 0.0)
            row = slopes @ part.matrix
            constant = float(m + slopes @ (part.constant - np.minimum(low, m)))
            columns = np.flatnonzero(row)
            program.add_row(
                [*part.columns[columns], y], [*-row[columns], 1.0], -math.inf, constant + 1e-12 * abs(constant)
            )
        return y


class _Rows:
    """Elements behind a kink or maximum: multiples of what stood before, and new variables."""

    def __init__(self, before: _Linear | None, elements: np.ndarray) -> None:
        self._before, self._elements = before, elements
        self._copies: dict[int, tuple[int, float]] = {}
        self._additions: list[tuple[int, int, float]] = []
        self.constant = np.zeros(len(elements))

    def before(self, i: int) -> _Row:
        """Element i before the kink."""
        assert self._before is not None
        row = int(np.searchsorted(self._before.elements, self._elements[i]))
        met = np.flatnonzero(self._before.matrix[row])
        return _Row(self._before.columns[met], self._before.matrix[row][met], float(self._before.constant[row]))

    def copy(self, i: int, factor: float, element: int | None = None) -> None:
        """Make row i a factor times an element from before: its own, unless another is named."""
        assert self._before is not None
        row = int(np.searchsorted(self._before.elements, self._elements[i] if element is None else element))
        self._copies[i] = (row, factor)
        self.constant[i] += factor * self._before.constant[row]

    def add(self, i: int, column: int, factor: float) -> None:
        """Add a factor times a variable to row i."""
        self._additions.append((i, column, factor))

    def linear(self) -> _Linear:
        """All rows as one matrix."""
        old = self._before.columns if self._copies and self._before is not None else np.empty(0, np.int64)
        columns = np.concatenate([old, np.array([column for _, column, _ in self._additions], np.int64)])
        matrix = np.zeros((len(self._elements), len(columns)))
        for i, (row, factor) in self._copies.items():
            assert self._before is not None
            matrix[i, : len(old)] = factor * self._before.matrix[row]
        for place, (i, _, factor) in enumerate(self._additions):
            matrix[i, len(old) + place] = factor
        order = np.argsort(columns)
        return _Linear(self._elements, columns[order], matrix[:, order], self.constant)
