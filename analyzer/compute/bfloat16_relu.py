"""ReLU and ReLU6 in bfloat16, computed on its bits.

Read as 16-bit integers, bfloat16 numbers that are not negative keep their order and negative ones stay negative: a ReLU
is then a clamp of integers, which a processor does without the way through float32 that torch's own clamp takes, up to
six times as fast. What a gradient passes is a product of its bits with 0 or 1. Knows torch; knows nothing of pictures.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

PASSED = (
    0.1  # part of the gradient that goes through a closed gate while gates are open (analyzer.compute.redirected_relu)
)


class BitGate(nn.Module):
    """ReLU or ReLU6 of bfloat16 on a processor.

    A value that is not a number may come out as a number; what is printed is never computed here.

    Args:
        gate: torch's ReLU or ReLU6.
    """

    def __init__(self, gate: nn.ReLU | nn.ReLU6) -> None:
        super().__init__()
        self.top = _bits(6.0) if isinstance(gate, nn.ReLU6) else None  # ReLU's is never reached

    def forward(self, x: torch.Tensor, opened: bool = False) -> torch.Tensor:
        """(…) bfloat16 → the same shape.

        Args:
            x: pre-activations.
            opened: whether a tenth of the gradient passes where the gate is closed and following it would open it.
        """
        result: torch.Tensor = _Gate.apply(x, self, opened)  # type: ignore[no-untyped-call]
        return result

    def clamp_(self, x: torch.Tensor) -> torch.Tensor:
        """The gate itself, upon its input."""
        x.view(torch.int16).clamp_(0, self.top)
        return x

    def gradient(self, result: torch.Tensor, above: torch.Tensor, opened: bool) -> torch.Tensor:
        """The gradient of the input from what came out and its gradient: (…) bfloat16 all three."""
        bits, slope = result.view(torch.int16), above.view(torch.int16)
        passed = self._inside(bits).mul_(slope).view(torch.bfloat16)
        return passed.add_(self._ajar(bits, slope).view(torch.bfloat16), alpha=PASSED) if opened else passed

    def _inside(self, bits: torch.Tensor) -> torch.Tensor:
        """1 where an output lies between the gate's ends, 0 at them: (…) int16 → int16."""
        if self.top is None:
            return bits.clamp_max(1)
        inside = torch.rsub(bits, self.top)
        return torch.minimum(inside, bits, out=inside).clamp_max_(1)

    def _ajar(self, bits: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        """The gradient's bits where an output lies at an end and following the gradient would leave it, 0 elsewhere."""
        passed = torch.rsub(bits.clamp_max(1), 1).mul_(slope.clamp_min(0))
        if self.top is None:
            return passed
        return passed.add_((bits - (self.top - 1)).clamp_min_(0).mul_(slope.clamp_max(0)))


class _Gate(torch.autograd.Function):
    """A gate that keeps its output alone."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, gate: BitGate, opened: bool) -> torch.Tensor:
        context.gate, context.opened = gate, opened
        result = gate.clamp_(x.clone())
        context.save_for_backward(result)
        return result

    @staticmethod
    def backward(context: Any, *above: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (result,) = context.saved_tensors
        return context.gate.gradient(result, above[0], context.opened), None, None


def _bits(number: float) -> int:
    return int(torch.tensor(number, dtype=torch.bfloat16).view(torch.int16))
