"""Tell a hard sigmoid that is written as several nodes from an affine map before a Clip. Knows numbers alone."""

from __future__ import annotations

import math

# Of limits 0 and 1: torch's and Keras 3's hard sigmoid is clip(x ÷ 6 + ½), that of Keras 2 and Theano clip(x ÷ 5 + ½).
SLOPES = (1 / 6, 0.2)


def is_hard_sigmoid(scale: float, shift: float, high: float) -> bool:
    """Whether clip(scale · x + shift, 0, high) is a hard sigmoid, up to a factor."""
    if not (math.isfinite(high) and high > 0) or not math.isclose(shift, high / 2, rel_tol=1e-4):
        return False
    return any(math.isclose(scale, slope * high, rel_tol=1e-3) for slope in SLOPES)
