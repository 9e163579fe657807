"""The provably best picture of one neuron: its receptive field as a mixed-integer program, solved by HiGHS.

The global maximum and a picture that reaches it, or, where time runs out, a bound and the gap that is left. What is
proven holds for every 8-bit picture of the canvas in ONNX Runtime's float32. Knows networks and the solver; knows
nothing of ascent, runs or HTML.

Source: Tjeng, Xiao & Tedrake 2019, "Evaluating Robustness of Neural Networks with Mixed Integer Programming",
arXiv:1711.07356; here the objective is a neuron and the box is the whole domain.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from analyzer.canvas import Canvas, canvas_for
from analyzer.layers import ConvLayer
from analyzer.measure import Meter
from analyzer.network import Network
from analyzer.piecewise import Affine, Kink, Maximum, cut
from analyzer.program import Program, neuron_program
from analyzer.relaxation import Inner, Relaxation
from converters.errors import SettingsError

if TYPE_CHECKING:
    import highspy

PROVEN = 1e-3  # relative gap at which a maximum counts as proven
FEASIBILITY = 1e-6  # HiGHS's tolerance of rows, bounds and whole numbers
OPTIMALITY = 1e-7  # of reduced costs
SEARCH = 1e-5  # relative gap at which HiGHS stops: what float32 and 8 bits cost is more
MIDDLE = 128


@dataclass(frozen=True, slots=True, eq=False)
class Certified:
    """What is proven of one neuron."""

    bound: float  # no 8-bit picture of the canvas exceeds it
    value: float  # of the best picture found, by ONNX Runtime
    image: np.ndarray  # (H, W, C) uint8, that picture
    gap: float  # (bound − value) ÷ |bound|
    proven: bool  # gap ≤ PROVEN
    binaries: int  # of the program
    nodes: int  # of the search tree
    seconds: float

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3:
            raise ValueError(f"a picture is (H, W, C) uint8, got {self.image.shape} {self.image.dtype}")


class Certifier:
    """What the neurons of one layer share.

    Args:
        network: the opened network.
        layer: whose units.
        canvas: with a position; None: that of `canvas_for(network, layer, "neuron")`.
        inner: what the layers of the network share.

    Raises:
        SettingsError: the canvas is that of a channel.
        ModelError: the network up to this layer does not run on this canvas.
    """

    def __init__(
        self,
        network: Network,
        layer: ConvLayer,
        canvas: Canvas | None = None,
        inner: Inner | None = None,
    ) -> None:
        self.canvas = canvas_for(network, layer, "neuron") if canvas is None else canvas
        if self.canvas.row is None:
            raise SettingsError(f"{layer.name}: a proof is of one neuron; give a canvas with a position")
        self.network, self.layer = network, layer
        self.relaxation = Relaxation(cut(network, layer, self.canvas.size), self.canvas, inner)
        self.meter = Meter(network, layer, self.canvas)
        self.rounding = _rounding(self.relaxation)

    def certify(
        self, channel: int, start: np.ndarray | None = None, seconds: float = 60.0, threads: int = 1
    ) -> Certified:
        """The best picture of a unit's neuron: see `certify`."""
        began = time.perf_counter()
        size = (*self.canvas.size, self.network.input.channels)
        start = np.full(size, MIDDLE, np.uint8) if start is None else start
        image = self.network.input.to_model(start[None])
        program = neuron_program(self.relaxation, channel, image)
        bound, found, nodes = _solve(program, seconds - (time.perf_counter() - began), threads)
        bound += float(self.rounding[channel])
        bound = min(bound, float(self.relaxation.upper("neuron", [channel])[0]))
        pictures = [start]
        if found is not None:
            x = image.astype(np.float64).reshape(-1)
            x[program.pixels] = found[: len(program.pixels)]
            pictures.append(self.network.input.to_pixels(x.reshape(image.shape))[0])
        values = self.meter.activation(np.stack(pictures), np.full(len(pictures), channel))
        best = int(values.argmax())
        value, picture = float(values[best]), pictures[best]
        gap = max(0.0, bound - value) / max(abs(bound), 1e-12)
        spent = time.perf_counter() - began
        return Certified(bound, value, picture, gap, gap <= PROVEN, program.binaries, nodes, spent)


def certify(
    network: Network, layer: ConvLayer, channel: int, start: np.ndarray | None, seconds: float, threads: int = 1
) -> Certified:
    """The provably best picture of one unit's neuron, on the canvas of `canvas_for(network, layer, "neuron")`.

    Args:
        start: (H, W, C) uint8 of the canvas's size, the best picture known: the search starts there; None: mid grey.
        seconds: at most, all in all; HiGHS may take a little more to end.
        threads: of the solver.

    Returns:
        Its bound allows for the solver's tolerances and for float32; its picture is measured as 8 bits.

    Raises:
        SettingsError: an operator on the way that no exact program knows, or a field too large for one.
        ModelError: the network up to this layer does not run on its canvas.
    """
    return Certifier(network, layer).certify(channel, start, seconds, threads)


def _rounding(relaxation: Relaxation) -> np.ndarray:
    """By how much ONNX Runtime may exceed exact arithmetic at the neuron of each unit: (C,) float64.

    Every operator's own rounding, carried on by what follows: by |J| through affine maps, as it is through kinks and
    maxima, which bring no two numbers further apart than they were.
    """
    errors: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for name in [relaxation.network.input.name, *relaxation.order]:
            piece, ends = relaxation.pieces.get(name), relaxation.ends[name]
            error = torch.zeros_like(ends.low)
            if isinstance(piece, Affine):
                error = piece.absolute([errors[source] for source in piece.sources]).expand_as(ends.low)
            elif isinstance(piece, Kink):
                error = errors[piece.source] * (1.0 if piece.slope is None else piece.slope.abs().clamp(min=1.0))
            elif isinstance(piece, Maximum):
                error = piece.at(errors[piece.source])
            errors[name] = error if ends.slack is None else error + ends.slack
    canvas = relaxation.canvas
    return np.asarray(errors[relaxation.layer.value][0, :, canvas.row, canvas.column].numpy())


def _solve(program: Program, seconds: float, threads: int) -> tuple[float, np.ndarray | None, int]:
    """An upper bound of a program, the best values of its variables (None: none found), and nodes searched.

    HiGHS computes in float64 with tolerances. A bound from duals that miss optimality by OPTIMALITY in each reduced
    cost is off by no more than that times the sum of the variables' ranges (Neumaier & Shcherbina 2004,
    doi:10.1007/s10107-003-0433-3), and nodes are cut off that promise less than FEASIBILITY above the best: both are
    added. Rows that are missed by a tolerance only raise the maximum.
    """
    import highspy

    with _without_banner():
        solver = highspy.Highs()  # type: ignore[no-untyped-call]
        solver.silent()
    solver.setOptionValue("threads", threads)
    solver.setOptionValue("time_limit", max(0.1, seconds))
    solver.setOptionValue("primal_feasibility_tolerance", FEASIBILITY)
    solver.setOptionValue("dual_feasibility_tolerance", OPTIMALITY)
    solver.setOptionValue("mip_feasibility_tolerance", FEASIBILITY)
    solver.setOptionValue("mip_rel_gap", SEARCH)
    solver.setOptionValue("mip_abs_gap", 0.0)
    solver.passModel(_model(program))
    start = highspy.HighsSolution()
    start.col_value = program.start
    solver.setSolution(start)
    solver.run()
    info, status = solver.getInfo(), solver.getModelStatus()
    whole = program.binaries > 0
    bound = info.mip_dual_bound if whole else info.objective_function_value
    statuses = highspy.HighsModelStatus
    if status != statuses.kOptimal and not (whole and status == statuses.kTimeLimit):
        bound = math.inf  # what the solver could not make sense of proves nothing
    solution = solver.getSolution()
    found = np.array(solution.col_value) if solution.value_valid else None
    ranges = sum(high - low for low, high in zip(program.low, program.high, strict=True))
    margin = OPTIMALITY * ranges + FEASIBILITY * (1 + abs(bound)) if math.isfinite(bound) else 0.0
    return bound + margin, found, int(max(0, info.mip_node_count)) if whole else 0


@contextlib.contextmanager
def _without_banner() -> Iterator[None]:
    """HiGHS greets on standard output, past Python, when its first solver of a process is made."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _model(program: Program) -> highspy.HighsLp:
    """The program in HiGHS's own terms."""
    import highspy

    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(program.low), len(program.rows)
    lp.col_lower_, lp.col_upper_ = np.array(program.low), np.array(program.high)
    costs = np.zeros(len(program.low))
    costs[program.objective[0]] = program.objective[1]
    lp.col_cost_, lp.offset_ = costs, program.constant
    lp.sense_ = highspy.ObjSense.kMaximize
    infinite = highspy.kHighsInf
    lp.row_lower_ = np.array([max(low, -infinite) for *_, low, _ in program.rows])
    lp.row_upper_ = np.array([min(high, infinite) for *_, high in program.rows])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.concatenate([[0], np.cumsum([len(columns) for columns, *_ in program.rows])]).astype(
        np.int32
    )
    lp.a_matrix_.index_ = np.concatenate([np.empty(0), *(columns for columns, *_ in program.rows)]).astype(np.int32)
    lp.a_matrix_.value_ = np.concatenate([np.empty(0), *(factors for _, factors, *_ in program.rows)])
    kinds = highspy.HighsVarType
    lp.integrality_ = [kinds.kInteger if whole else kinds.kContinuous for whole in program.whole]
    return lp
