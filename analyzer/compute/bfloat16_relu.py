"""ReLU and ReLU6 in bfloat16, computed on its bits.

Read as 16-bit integers, bfloat16 numbers that are not negative keep their order and negative ones stay negative: a ReLU
is then a clamp of integers, which a processor does without the conversion to float32 that torch's own clamp needs, up
to six times as fast. The gradient is a product of its bits with 0 or 1. Knows torch; knows nothing of pictures.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

CEILING = 6.0  # of a ReLU6
REDIRECTED_PART = 0.1  # of the gradient, that a redirected ReLU passes where it is closed (redirected_relu.py)


class BFloat16ReLU(nn.Module):
    """ReLU or ReLU6 of bfloat16 on a processor.

    A value that is not a number may come out as a number; what is printed is never computed here.

    Args:
        relu: torch's ReLU or ReLU6.
    """

    def __init__(self, relu: nn.ReLU | nn.ReLU6) -> None:
        super().__init__()
        self.ceiling = _bits(CEILING) if isinstance(relu, nn.ReLU6) else None  # bits of 6; None: there is no ceiling

    def forward(self, x: torch.Tensor, redirected: bool = False) -> torch.Tensor:
        """(…) bfloat16 → the same shape.

        Args:
            x: pre-activations.
            redirected: whether a tenth of the gradient passes a closed ReLU where following it would open the ReLU.
        """
        result: torch.Tensor = _ReLU.apply(x, self, redirected)  # type: ignore[no-untyped-call]
        return result

    def clamp_(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the ReLU in place."""
        x.view(torch.int16).clamp_(0, self.ceiling)
        return x

    def gradient(self, result: torch.Tensor, above: torch.Tensor, redirected: bool) -> torch.Tensor:
        """The gradient of the input from the output and the output's gradient: (…) bfloat16 all three."""
        if self.ceiling is None:
            passed: torch.Tensor = torch.ops.aten.threshold_backward(above, result, 0)
        else:
            passed = torch.ops.aten.hardtanh_backward(above, result, 0.0, CEILING)
        if not redirected:
            return passed
        bits, slope = result.view(torch.int16), above.view(torch.int16)
        return passed.add_(self._opening_part(bits, slope).view(torch.bfloat16), alpha=REDIRECTED_PART)

    def _opening_part(self, bits: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
        """The gradient's bits where the ReLU is closed and following the gradient would open it, 0 elsewhere."""
        passed = torch.rsub(bits.clamp_max(1), 1).mul_(slope.clamp_min(0))
        if self.ceiling is None:
            return passed
        return passed.add_((bits - (self.ceiling - 1)).clamp_min_(0).mul_(slope.clamp_max(0)))


class _ReLU(torch.autograd.Function):
    """A ReLU that stores nothing for its gradient but its output."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, relu: BFloat16ReLU, redirected: bool) -> torch.Tensor:
        context.relu, context.redirected = relu, redirected
        result = relu.clamp_(x.clone())
        context.save_for_backward(result)
        return result

    @staticmethod
    def backward(context: Any, *above: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (result,) = context.saved_tensors
        return context.relu.gradient(result, above[0], context.redirected), None, None


def _bits(number: float) -> int:
    return int(torch.tensor(number, dtype=torch.bfloat16).view(torch.int16))
