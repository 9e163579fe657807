"""Gradients through closed gates: a ReLU at rest lets no gradient through, and a unit behind it never starts.

For the first steps of an ascent a tenth of the gradient passes a closed ReLU (or a saturated ReLU6) where it would open
it; the forward pass stays exact. The cure for grey pictures of units that start without a gradient, and for units of
which one half stays asleep. All of the gradient would be too much: on MobileNetV2's 46th convolution the first steps
then lead nowhere, while a tenth costs nothing there.

Source: the gradient redirection of Lucid (Olah et al. 2017, doi:10.23915/distill.00007, its code), which passes all of
it where the whole gradient of a unit is blocked.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx, nn

from filterscope.analyzer.compute.bfloat16_relu import PASSED, BitGate
from filterscope.analyzer.compute.frozen_convolutions import FrozenConv


class _OpenGate(torch.autograd.Function):
    """clamp(x, 0, ceiling) whose gradient passes inside, and a part of it where following it would bring x inside."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, ceiling: float) -> torch.Tensor:
        context.save_for_backward(x)
        context.ceiling = ceiling
        return x.clamp(0.0, ceiling)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (x,) = context.saved_tensors
        low, high = x <= 0, x >= context.ceiling
        blocked = (low & (gradient < 0)) | (high & (gradient > 0))
        return torch.where(blocked, 0.0, torch.where(low | high, PASSED * gradient, gradient)), None


def open_gate(x: torch.Tensor, ceiling: float) -> torch.Tensor:
    """ReLU (ceiling ∞) or ReLU6 (ceiling 6) that lets gradients through where it is closed."""
    result: torch.Tensor = _OpenGate.apply(x, ceiling)  # type: ignore[no-untyped-call]
    return result


def with_open_gates(module: fx.GraphModule) -> fx.GraphModule:
    """The same module, weights shared, whose ReLUs and ReLU6s have open gates."""
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        gate = module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(gate, (nn.ReLU, nn.ReLU6)):  # the ceiling of a plain ReLU is never reached
            ceiling = 6.0 if isinstance(gate, nn.ReLU6) else math.inf
            copied[node] = graph.call_function(open_gate, (copied[node.args[0]], ceiling))
            continue
        copied[node] = graph.node_copy(node, lambda old: copied[old])
        if isinstance(gate, BitGate) or (isinstance(gate, FrozenConv) and gate.gate is not None):
            copied[node].kwargs = {"opened": True}
    return fx.GraphModule(module, graph)
