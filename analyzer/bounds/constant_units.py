"""Units whose activation never changes: their weights are zero, or their inputs are constant.

Seen in what was measured, not proven. Knows numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

ROUNDING = 1e-6  # relative, of means over maps in float32


def is_constant(answers: Iterable[float | None]) -> bool:
    """Whether all activations of a unit are one number.

    Args:
        answers: to pictures of different kinds; None where there was no finite one.

    Returns:
        False where there are fewer than two, or any is not finite.
    """
    finite: list[float] = []
    for answer in answers:
        if answer is None or not math.isfinite(answer):
            return False
        finite.append(answer)
    return len(finite) > 1 and max(finite) - min(finite) <= ROUNDING * max(map(abs, finite))
