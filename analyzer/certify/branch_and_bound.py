"""The maximum of a program whose whole variables are all ReLUs', by branch and bound on linear programs with cuts.

A node of the tree says of some ReLUs that they pass their input, of others that they give 0; the binaries themselves
are left out. Each linear program is the last one with a few limits changed, and with those linear bounds of ReLU hulls
added that its solution violates. So the dual simplex method goes on from where it was, and it ends as soon as it falls
below what is known to be reachable. On svhn_cnn6's second layer hulls bring the bound from 1.50 to 1.10 times the best
value known, on average and before any branching, in 0.3 s; HiGHS finds cuts much like them, in several seconds.

Roads not taken: narrowing every ReLU's interval by linear programs under the objective's known value (the bound
falls by 1 %, no ReLU becomes certain: at first it is much too far off), strong branching, and the parent's basis at
every node (neither takes fewer iterations).

Knows programs, hulls and the solver; knows nothing of networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from filterscope.analyzer.certify.highs import Row, Solution, margin, solver_of
from filterscope.analyzer.certify.program import Program, ReluVariable
from filterscope.analyzer.certify.relu_hulls import SPARE, Hulls

if TYPE_CHECKING:
    import highspy

CLOSE = 1e-5  # relative: what promises less above the best point is not looked into
CUTS = 700  # linear bounds of hulls in the linear program at a time
FIRST, LATER = 60, 1  # rounds of cuts at the first node and at others
GAIN = {FIRST: 3e-3, LATER: 3e-2}  # share of the distance that is left, which a round must bring
VIOLATED = {FIRST: 5e-4, LATER: 2e-3}  # share of that distance by which a linear bound must be violated, weighted
DEEP = 0.9  # of the time
EVERY = 32  # nodes after which points are looked for again
CLIMBS = 6  # linear programs of a climb at most
EXACT = 1e-7  # a ReLU off by less, weighted, is not branched on


def branch_and_bound(program: Program, seconds: float, clock: Callable[[], float]) -> Solution:
    """The maximum of a program.

    Args:
        program: with at least one binary, all of them ReLUs' (`Program.has_relus_alone`).
        seconds: by the clock.
    """
    return _Search(program, clock).run(clock() + seconds)


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    """A node of the tree that is still to be looked into."""

    fixed: dict[int, bool]  # ReLU → whether it passes its input
    bound: float  # of its parent
    branched: int  # ReLU of the last branching, −1 at the first node
    off: float  # by how much that one was off at the parent's solution, weighted


class _Search:
    """The tree, the linear programs, and the best point so far."""

    def __init__(self, program: Program, clock: Callable[[], float]) -> None:
        self.program, self.clock = program, clock
        self.all = Hulls.of(program, program.relus)
        raising = [relu for relu in program.relus if relu.raising]
        self.hulls = Hulls.of(program, raising)
        self.outputs = np.array([relu.y for relu in raising])
        self.highs = np.array([relu.high for relu in raising])
        self.weights = self._weights()
        rows = [row for row in program.rows if not any(program.whole[column] for column in row[0])]
        self.first = len(rows)
        rows += [
            (np.append(relu.columns, relu.y), np.append(-relu.factors, 1.0), relu.constant, math.inf)
            for relu in raising
        ]
        self.fixed: dict[int, bool] = {}
        self.climber = solver_of(program, rows)
        self.climbed: np.ndarray | None = None  # what its ReLUs are fixed to
        self.first_cut = len(rows)  # rows before the cuts
        rows += [_triangle(relu) for relu in raising]
        self.solver = solver_of(program, rows)
        self.cuts = len(raising)
        for solver in (self.solver, self.climber):
            solver.setOptionValue("simplex_scale_strategy", 0)
        self.drops, self.times = np.zeros((2, len(raising))), np.zeros((2, len(raising)))
        self.rng = np.random.default_rng(0)
        self.point = np.array(program.start)[: len(program.pixels)]
        self.until = math.inf  # by the clock
        self.best = -math.inf
        self.settled = -math.inf  # the largest bound of what needs no more branching
        self._seen(self.point)

    def _weights(self) -> np.ndarray:
        """About how much the objective rises with each raising ReLU."""
        weights = np.zeros(len(self.program.low))
        weights[self.program.objective[0]] = np.abs(self.program.objective[1])
        for relu in reversed(self.program.relus):
            weights[relu.columns] += weights[relu.y] * np.abs(relu.factors)
        return np.asarray(weights[self.outputs])

    # points

    def _forward(self, pixels: np.ndarray) -> np.ndarray:
        """All ReLUs at a picture; binaries stay 0."""
        values = np.zeros(len(self.program.low))
        values[: len(pixels)] = np.clip(pixels, self.program.low[: len(pixels)], self.program.high[: len(pixels)])
        for relu in self.program.relus:
            values[relu.y] = max(relu.factors @ values[relu.columns] + relu.constant, 0.0)
        return values

    def _seen(self, pixels: np.ndarray) -> float:
        """The objective at a picture, which may be the best so far."""
        values = self._forward(pixels)
        columns, factors = self.program.objective
        value = float(factors @ values[columns]) + self.program.constant
        if value > self.best:
            self.best, self.point = value, values[: len(pixels)].copy()
            self.enough = value + CLOSE * abs(value)
            self.solver.setOptionValue("objective_bound", self.program.constant - self.enough)
        return value

    def _climb(self, pixels: np.ndarray) -> None:
        """From a picture upwards: the best one while each ReLU that can raise stays the linear function it is there."""
        import highspy

        value, infinite = self._seen(pixels), highspy.kHighsInf
        for _ in range(CLIMBS):
            passes = self.hulls.before(self._forward(pixels)) > 0
            for i in np.flatnonzero(passes != self.climbed if self.climbed is not None else np.ones(len(passes), bool)):
                row, column, constant = self.first + int(i), int(self.outputs[i]), self.hulls.constant[i]
                self.climber.changeRowBounds(row, *((constant, constant) if passes[i] else (-infinite, infinite)))
                self.climber.changeColBounds(column, *((-infinite, infinite) if passes[i] else (0.0, 0.0)))
            self.climbed = passes
            if self._end(self.climber) != highspy.HighsModelStatus.kOptimal:
                return
            pixels = np.array(self.climber.getSolution().col_value)[: len(pixels)]
            before, value = value, self._seen(pixels)
            if value <= before + 1e-6 * abs(before):
                return

    def _look(self, pixels: np.ndarray) -> None:
        """For better points around a solution: from itself, and from a corner of the box drawn by its values."""
        self._climb(pixels)
        count = len(pixels)
        low, high = np.array(self.program.low[:count]), np.array(self.program.high[:count])
        share = (pixels - low) / np.maximum(high - low, 1e-300)
        self._climb(np.where(self.rng.uniform(size=count) < share, high, low))

    # nodes

    def run(self, until: float) -> Solution:
        """Search until the tree is empty or time is up.

        Depth first: what branching brings is then known before the large branches are looked into, and the tree is half
        as large as with the best node first. Where the time will not do, the rest of it lowers the largest bound.
        """
        self.until = until
        turn = self.clock() + DEEP * (until - self.clock())
        waiting = [_Node({}, math.inf, -1, 0.0)]  # the next one last
        nodes = 0
        while waiting and (now := self.clock()) < until:
            if now > turn:
                waiting.sort(key=lambda node: node.bound)
            node = waiting.pop()
            if node.bound > self.enough:
                nodes += 1
                waiting += self._children(node, nodes)
        bound = max([self.enough, self.settled, *(node.bound for node in waiting)])
        return Solution(bound + margin(self.program, bound), self.point, nodes)

    def _children(self, node: _Node, number: int) -> list[_Node]:
        """What is left to look into below a node: nothing, or two nodes."""
        self._fix(node.fixed)
        bound, values = self._bound(FIRST if number == 1 else LATER)
        if node.branched >= 0 and bound < math.inf:
            way = int(node.fixed[node.branched])
            self.drops[way, node.branched] += (node.bound - max(bound, self.enough)) / node.off
            self.times[way, node.branched] += 1
        if values is None:
            if bound == math.inf:
                self.settled = max(self.settled, node.bound)
            return []
        pixels = values[: len(self.point)]
        if number & (number - 1) == 0 or number % EVERY == 0:
            self._look(pixels)
        off = self._off(values)
        if bound <= self.enough:
            return []
        chosen = self._choice(off, bound - self.enough)
        if off[chosen] <= EXACT:  # what the program promises here is there
            self._seen(pixels)
            self.settled = max(self.settled, bound)
            return []
        return [_Node({**node.fixed, chosen: way}, bound, chosen, float(off[chosen])) for way in (False, True)]

    def _off(self, values: np.ndarray) -> np.ndarray:
        """By how much each raising ReLU is above what its input makes it, weighted; 0 where a node fixes it."""
        off = self.weights * (values[self.outputs] - np.maximum(self.hulls.before(values), 0.0))
        off[list(self.fixed)] = 0.0
        return np.asarray(np.maximum(off, 0.0))

    def _choice(self, off: np.ndarray, left: float) -> int:
        """The ReLU whose two sides promise to lower the bound most, by what branching on each has brought so far."""
        whole = self.drops.sum(axis=1) / np.maximum(self.times.sum(axis=1), 1)
        mean = np.where(self.times.sum(axis=1) > 0, whole, 1.0)[:, None]
        rate = np.where(self.times > 0, self.drops / np.maximum(self.times, 1), mean)
        gains = np.clip(rate * off, 1e-9 * off, left)
        return int((gains[0] * gains[1]).argmax())

    def _fix(self, fixed: dict[int, bool]) -> None:
        """Bounds of rows and columns for a node's ReLUs; those of the node before are lifted."""
        import highspy

        for i in [i for i, way in self.fixed.items() if fixed.get(i) != way]:
            self.solver.changeRowBounds(self.first + i, self.hulls.constant[i], highspy.kHighsInf)
            self.solver.changeColBounds(int(self.outputs[i]), 0.0, self.highs[i])
            del self.fixed[i]
        for i, way in fixed.items():
            if i in self.fixed:
                continue
            if way:  # y = z, so z ≥ 0
                self.solver.changeRowBounds(self.first + i, self.hulls.constant[i], self.hulls.constant[i])
            else:  # y = 0, so z ≤ 0
                self.solver.changeColBounds(int(self.outputs[i]), 0.0, 0.0)
            self.fixed[i] = way

    def _bound(self, rounds: int) -> tuple[float, np.ndarray | None]:
        """An upper bound of the node and the solution it belongs to; None: the node holds nothing better."""
        before = math.inf
        for turn in range(rounds + 1):
            bound, values = self._linear()
            left = bound - self.enough
            if values is None or left <= 0:
                return bound, None
            if turn == rounds or before - bound < GAIN[rounds] * left:
                break
            before = bound
            slopes, offsets = self.hulls.linear_bounds(values)
            above = (slopes * values[self.hulls.columns]).sum(axis=1) + offsets
            violated = self.weights * (values[self.outputs] - above) > VIOLATED[rounds] * left
            violated[list(self.fixed)] = False
            if not violated.any():
                break
            self._cut(np.flatnonzero(violated), slopes, offsets)
        return bound, values

    def _linear(self) -> tuple[float, np.ndarray | None]:
        """The linear program as it is: its maximum and solution; None: no more than is known to be reachable."""
        import highspy

        status, statuses = self._end(self.solver), highspy.HighsModelStatus
        if status in (statuses.kInfeasible, statuses.kObjectiveBound):
            return -math.inf, None
        if status != statuses.kOptimal:
            return math.inf, None  # what the solver could not make sense of proves nothing
        bound = self.program.constant - self.solver.getInfo().objective_function_value
        return bound, np.array(self.solver.getSolution().col_value)

    def _end(self, solver: highspy.Highs) -> highspy.HighsModelStatus:
        """How a linear program ended, in the time that is left."""
        left = max(0.1, self.until - self.clock())
        solver.setOptionValue("time_limit", solver.getRunTime() + left)  # it counts all that it ever ran
        solver.run()
        return solver.getModelStatus()

    def _cut(self, chosen: np.ndarray, slopes: np.ndarray, offsets: np.ndarray) -> None:
        """Add linear bounds of hulls; where they become too many, drop those that hold nothing back."""
        import highspy

        if self.cuts + len(chosen) > CUTS:
            rows = self.solver.getBasis().row_status[self.first_cut :]
            basic = highspy.HighsBasisStatus.kBasic
            slack = np.array([i for i, status in enumerate(rows, self.first_cut) if status == basic], np.int32)
            if len(slack):
                self.solver.deleteRows(len(slack), slack)
                self.cuts -= len(slack)
        met = [np.flatnonzero(slopes[i]) for i in chosen]
        starts = np.cumsum([0, *(len(places) + 1 for places in met)])[:-1].astype(np.int32)
        columns = np.concatenate(
            [np.append(self.hulls.columns[i][places], self.outputs[i]) for i, places in zip(chosen, met, strict=True)]
        ).astype(np.int32)
        factors = np.concatenate([np.append(-slopes[i][places], 1.0) for i, places in zip(chosen, met, strict=True)])
        lows = np.full(len(chosen), -highspy.kHighsInf)
        by_rows = (len(columns), starts, columns, factors)
        self.solver.addRows(len(chosen), lows, offsets[chosen], *by_rows)
        self.cuts += len(chosen)


def _triangle(relu: ReluVariable) -> Row:
    """y ≤ high · (z − low) ÷ (high − low): which the hull lacks where z's interval is close."""
    slope = relu.high / (relu.high - relu.low)
    end = slope * (relu.constant - relu.low)
    columns, factors = np.append(relu.columns, relu.y), np.append(-slope * relu.factors, 1.0)
    return columns, factors, -math.inf, end + SPARE * (abs(end) + slope * abs(relu.constant))
