"""Gradients of any value of a network by the picture, under one of three backpropagation rules.

`plain` is the derivative; `guided` backpropagation and the `deconvnet` change what flows back through each rectifier.
Pictures are in [0, 1], so that a gradient is per full range of a pixel, whatever the network's preprocessing is. Knows
torch; knows nothing of methods or targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from filterscope.analyzer.attribution.rectifiers import Rectifier, rectifiers
from filterscope.analyzer.compute.frozen_convolutions import with_frozen_convolutions
from filterscope.analyzer.compute.pixels import input_map
from filterscope.analyzer.network.network import Network
from filterscope.converters.errors import SettingsError, setting
from filterscope.converters.runtime import Session
from filterscope.converters.torch_import.importer import ancestors

RULES = ("plain", "guided", "deconvnet")
MEMORY = 1 << 30  # bytes of values that a batch may hold
LARGEST_BATCH = 32


class Backpropagation:
    """One network in forms that can be differentiated, one for each backpropagation rule.

    Args:
        network: the opened network.
        device: where gradients are computed; None: the processor.
        weights: a copy of the network's torch module with other weights; None: the network's own weights.
    """

    def __init__(self, network: Network, device: torch.device | None = None, weights: nn.Module | None = None) -> None:
        self.network = network
        self.device = device or torch.device("cpu")
        self.weights = weights
        self.to_model = input_map(network.input, self.device)
        self._modules: dict[tuple[tuple[str, ...], str], nn.Module] = {}
        self._sessions: dict[str, Session] = {}

    @cached_property
    def rectifiers(self) -> list[Rectifier]:
        """The rectifiers that the torch form has."""
        values = self.network.twin.values
        return [piece for piece in rectifiers(self.network.model.graph) if piece.output in values]

    def rectifies_before(self, value: str) -> bool:
        """Whether a rectifier stands before a value or makes it."""
        before = self.before(value)
        return any(piece.output in before for piece in self.rectifiers)

    def before(self, value: str) -> set[str]:
        """A value and all that it is computed from, constants too."""
        return self.network.model.graph.ancestors(value)

    def batch(self, value: str) -> int:
        """How many pictures may go through the network at once, gradients kept. By the plan alone, not by the machine:
        noise is drawn batch by batch."""
        graph, shapes = self.network.model.graph, self.network.shapes
        sizes = sum(math.prod(shapes[n]) for n in self.before(value) if graph.producer(n) is not None and n in shapes)
        return max(1, min(LARGEST_BATCH, MEMORY // (12 * sizes + 1)))

    def values(self, pictures: torch.Tensor, names: Sequence[str], rule: str = "plain") -> tuple[torch.Tensor, ...]:
        """Values of the network for pictures (N, C, H, W) in [0, 1], RGB order, in a form that can be differentiated.

        Raises:
            SettingsError: a value that cannot be imported into torch.
        """
        answers: tuple[torch.Tensor, ...] = self._module(tuple(names), rule)(self.to_model(pictures))
        return answers

    def measured(self, pixels: np.ndarray, value: str) -> np.ndarray:
        """A value for pictures (N, H, W, C) uint8, by ONNX Runtime, whatever `weights` are."""
        if value not in self._sessions:
            self._sessions[value] = self.network.session([value])
        return self._sessions[value].run(self.network.input.to_model(pixels))[value]

    def _module(self, names: tuple[str, ...], rule: str) -> nn.Module:
        if (names, rule) not in self._modules:
            lost = next((name for name in names if name not in self.network.twin.values), None)
            if lost is not None:
                raise SettingsError(
                    f"{lost}: stands behind operators that cannot be imported into torch, so no gradient leads to it; "
                    f"give a {setting('target')} before it, such as LAYER:CHANNEL",
                    field="target",
                    value=lost,
                )
            cut = self._cut(names, rule)
            frozen = with_frozen_convolutions(cut, torch.float32).to(self.device)
            self._modules[names, rule] = self.network.apart(frozen)
        return self._modules[names, rule]

    def _cut(self, names: tuple[str, ...], rule: str) -> fx.GraphModule:
        """The part of the twin that leads to some values, its rectifiers changed by the rule."""
        twin = self.network.twin
        pieces = [] if rule == "plain" else self.rectifiers
        by_output = {twin.values[piece.output]: piece for piece in pieces}
        readers: dict[fx.Node, tuple[Rectifier, fx.Node]] = {}  # a node that reads a rectified value, and that value
        if rule == "guided":
            readers = {twin.calls[name]: (p, twin.values[p.source]) for p in pieces for name in p.readers}
        graph = fx.Graph()
        copied: dict[fx.Node, fx.Node] = {}
        by_arguments: dict[tuple[Any, ...], fx.Node] = {}  # one output of several is a node of its own for each reader
        rising: dict[str, fx.Node] = {}

        def reached(source: fx.Node) -> fx.Node:
            return copied[source] if source in copied else by_arguments[source.args]

        needed = ancestors([twin.node_of(name) for name in names])
        for node in twin.module.graph.nodes:
            if node not in needed and node.op != "placeholder":
                continue
            entry = dict(copied)
            if node in readers:
                piece, source = readers[node]
                if piece.output not in rising:
                    rising[piece.output] = graph.call_function(_positive_gradient, (reached(source),))
                entry |= {old: rising[piece.output] for old in node.all_input_nodes if _same(old, source)}
            new = graph.node_copy(node, entry.__getitem__)
            if rule == "deconvnet" and node in by_output:
                piece = by_output[node]
                new = graph.call_function(_deconvnet_rectifier, (reached(twin.values[piece.source]), new, piece.slope))
            copied[node] = new
            if node.op == "call_function":
                by_arguments[node.args] = new
        graph.output(tuple(copied[twin.values[name]] for name in names))
        return fx.GraphModule(self.weights or twin.module, graph)


class _PositiveGradient(torch.autograd.Function):
    """The identity; of the gradient, what is above 0."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, *above: torch.Tensor) -> torch.Tensor:
        return above[0].clamp(min=0)


class _DeconvnetRectifier(torch.autograd.Function):
    """y = f(x) as computed; of its gradient, what is above 0 goes to x, whether the rectifier is open or not."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, y: torch.Tensor, slope: float) -> torch.Tensor:
        context.slope = slope
        return y.view_as(y)

    @staticmethod
    def backward(context: Any, *above: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return above[0].clamp(min=0) * context.slope, None, None


def _positive_gradient(x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = _PositiveGradient.apply(x)  # type: ignore[no-untyped-call]
    return result


def _deconvnet_rectifier(x: torch.Tensor, y: torch.Tensor, slope: float) -> torch.Tensor:
    result: torch.Tensor = _DeconvnetRectifier.apply(x, y, slope)  # type: ignore[no-untyped-call]
    return result


def _same(one: fx.Node, other: fx.Node) -> bool:
    return one is other or (one.op == other.op == "call_function" and one.args == other.args)
