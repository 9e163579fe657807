"""The provably best picture of one neuron: its receptive field as a mixed-integer program, solved.

The global maximum and a picture that reaches it, or, where time runs out, a bound and the gap that is left. What is
proven holds for every 8-bit picture of the canvas in ONNX Runtime's float32. Knows networks and searches; knows
nothing of ascent, runs or HTML.

Source: Tjeng, Xiao & Tedrake 2019, "Evaluating Robustness of Neural Networks with Mixed Integer Programming",
arXiv:1711.07356; here the objective is a neuron and the box is the whole domain.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from filterscope.analyzer.bounds.linear_relaxation import Relaxation, SharedBounds
from filterscope.analyzer.bounds.piecewise import Affine, Kink, Maximum
from filterscope.analyzer.bounds.subgraph import subgraph_before
from filterscope.analyzer.certify.branch_and_bound import branch_and_bound
from filterscope.analyzer.certify.encoding import neuron_program
from filterscope.analyzer.certify.highs import branch_and_cut
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.units.canvas import Canvas, canvas_for
from filterscope.analyzer.units.measure import Meter
from filterscope.converters.errors import SettingsError

PROVEN = 1e-3  # relative gap at which a maximum counts as proven
MIDDLE = 128


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
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
        shared: what the layers of the network share.
        clock: by which proofs count their seconds.

    Raises:
        SettingsError: the canvas is that of a channel.
        ModelError: the network up to this layer does not run on this canvas.
    """

    def __init__(
        self,
        network: Network,
        layer: Layer,
        canvas: Canvas | None = None,
        shared: SharedBounds | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.clock = clock
        self.canvas = canvas_for(network, layer, "neuron") if canvas is None else canvas
        if self.canvas.row is None:
            message = f"{layer.name}: a proof is of one neuron; give a canvas with a position"
            raise SettingsError(message, field="canvas", value=self.canvas.size)
        self.network, self.layer = network, layer
        self.relaxation = Relaxation(subgraph_before(network, layer, self.canvas.size), self.canvas, shared)
        self.meter = Meter(network, layer, self.canvas)
        self.rounding = _rounding(self.relaxation)

    def certify(self, channel: int, start: np.ndarray | None = None, seconds: float = 60.0) -> Certificate:
        """The best picture of a unit's neuron: see `certify`."""
        began = self.clock()
        size = (*self.canvas.size, self.network.input.channels)
        start = np.full(size, MIDDLE, np.uint8) if start is None else start
        image = self.network.input.to_model(start[None])
        program = neuron_program(self.relaxation, channel, image)
        left = seconds - (self.clock() - began)
        if program.has_relus_alone and program.binaries:
            solved = branch_and_bound(program, left, self.clock)
        else:  # nothing to search, or maxima, whose branches are not ReLUs
            solved = branch_and_cut(program, left)
        bound = solved.bound + float(self.rounding[channel])
        bound = min(bound, float(self.relaxation.upper("neuron", [channel])[0]))
        pictures = [start]
        if solved.values is not None:
            x = image.astype(np.float64).reshape(-1)
            x[program.pixels] = solved.values
            pictures.append(self.network.input.to_pixels(x.reshape(image.shape))[0])
        values = self.meter.activation(np.stack(pictures), np.full(len(pictures), channel))
        best = int(values.argmax())
        value, picture = float(values[best]), pictures[best]
        gap = max(0.0, bound - value) / max(abs(bound), 1e-12)
        spent = self.clock() - began
        return Certificate(
            bound=bound,
            value=value,
            image=picture,
            gap=gap,
            proven=gap <= PROVEN,
            binaries=program.binaries,
            nodes=solved.nodes,
            seconds=spent,
        )


def certify(network: Network, layer: Layer, channel: int, start: np.ndarray | None, seconds: float) -> Certificate:
    """The provably best picture of one unit's neuron, on the canvas of `canvas_for(network, layer, "neuron")`.

    Args:
        start: (H, W, C) uint8 of the canvas's size, the best picture known: the search starts there; None: mid grey.
        seconds: at most, all in all; HiGHS may take a little more to end.

    Returns:
        Its bound allows for the solver's tolerances and for float32; its picture is measured as 8 bits.

    Raises:
        SettingsError: an operator on the way that no exact program knows, or a field too large for one.
        ModelError: the network up to this layer does not run on its canvas.
    """
    return Certifier(network, layer).certify(channel, start, seconds)


def _rounding(relaxation: Relaxation) -> np.ndarray:
    """By how much ONNX Runtime may exceed exact arithmetic at the neuron of each unit: (C,) float64.

    Every operator's own rounding, carried on by what follows: by |J| through affine maps, as it is through kinks and
    maxima, which bring no two numbers further apart than they were.
    """
    errors: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for name in [relaxation.network.input.name, *relaxation.order]:
            piece, bounds = relaxation.pieces.get(name), relaxation.bounds[name]
            error = torch.zeros_like(bounds.low)
            if isinstance(piece, Affine):
                error = piece.absolute([errors[source] for source in piece.sources]).expand_as(bounds.low)
            elif isinstance(piece, Kink):
                error = errors[piece.source] * (1.0 if piece.slope is None else piece.slope.abs().clamp(min=1.0))
            elif isinstance(piece, Maximum):
                error = piece.at(errors[piece.source])
            errors[name] = error if bounds.slack is None else error + bounds.slack
    canvas = relaxation.canvas
    return np.asarray(errors[relaxation.layer.value][0, :, canvas.row, canvas.column].numpy())
