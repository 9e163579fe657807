"""Compare two arrays, allowing for rounding to the file's number format and for nothing else.

A half float is within half a unit in its last place of what was computed; an 8-bit number within half a step, as long
as it is not at an end of its range. What goes beyond that is a difference. Knows ONNX's QuantizeLinear and numpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper


@dataclass(frozen=True, slots=True, eq=False)
class Rounding:
    """One QuantizeLinear of one scale."""

    value: str  # what it rounds
    scale: float
    zero_point: int
    least: int  # the ends of its integers' range
    largest: int

    def apart(self, actual: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two arrays that differ by what the rounding does not explain.

        Args:
            actual: float, before rounding.
            expected: integers, after it.

        Returns:
            `actual`, limited to the range and moved by up to half a step towards the other; and `expected` in floats.
        """
        low, high = ((end - self.zero_point) * self.scale for end in (self.least, self.largest))
        dequantised = (expected.astype(np.float64) - self.zero_point) * self.scale
        limited = np.clip(actual.astype(np.float64), low, high)
        return _moved(limited, dequantised, np.full(1, self.scale / 2)), dequantised


def roundings(model: onnx.ModelProto) -> dict[str, Rounding]:
    """Each QuantizeLinear of one constant scale, by the name of what it writes."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    constants |= {n.output[0]: n.attribute[0].t for n in model.graph.node if n.op_type == "Constant" and n.attribute}
    written = {}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or not all(name in constants for name in node.input[1:]):
            continue
        scale, *zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:])
        zero_point = zero[0] if zero else np.zeros((), np.uint8)
        if scale.size == 1 and zero_point.dtype.kind in "iu":
            limits = np.iinfo(zero_point.dtype)
            written[node.output[0]] = Rounding(
                value=node.input[0],
                scale=float(scale.item()),
                zero_point=int(zero_point.item()),
                least=int(limits.min),
                largest=int(limits.max),
            )
    return written


def beyond_rounding(actual: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays that differ by what rounding to `expected`'s format does not explain.

    Args:
        actual: float32 where `expected` is of half floats; otherwise of its own type.
        expected: as the file's own format has it.
    """
    if expected.dtype != np.float16 or actual.shape != expected.shape:
        return actual, expected
    with np.errstate(over="ignore", invalid="ignore"):  # beyond the format's range both are infinite
        half = np.nan_to_num(np.spacing(np.abs(expected)).astype(np.float64) / 2)
        finite = np.where(np.isinf(expected), actual.astype(np.float16), actual).astype(np.float64)
    return _moved(finite, expected.astype(np.float64), half), expected.astype(np.float64)


def _moved(actual: np.ndarray, expected: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """`actual`, moved towards `expected` by up to `allowed`; what is not finite stays as it is."""
    if actual.shape != expected.shape:
        return actual
    with np.errstate(invalid="ignore"):
        gap = actual - expected
        moved = expected + np.sign(gap) * np.maximum(np.abs(gap) - allowed, 0)
    return np.where(np.isfinite(gap), moved, actual)


def relative_error(actual: np.ndarray, expected: np.ndarray, least: float = 1e-6) -> tuple[float, float, float]:
    """max |a − b| ÷ max(least, max |b|), and the two numbers where it is reached.

    NaNs and infinities that both sides have in the same place agree (Parity.not_finite names them); on one side only
    they are an infinite error.
    """
    if actual.shape != expected.shape:
        return math.inf, math.nan, math.nan
    if not expected.size:
        return 0.0, 0.0, 0.0
    a, b = actual.ravel(), expected.ravel()
    if a.dtype != np.float32 or b.dtype != np.float32:
        a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(a - b)
    worst = int(distance.argmax())  # the first NaN, where there is one
    if np.isfinite(distance[worst]):  # then every number on both sides is
        largest = max(float(b.max()), -float(b.min()))
    else:
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        distance = np.where(same, 0.0, np.where(np.isnan(distance), np.inf, distance))
        worst = int(distance.argmax())
        largest = float(np.abs(b[np.isfinite(b)]).max(initial=0.0))
    return float(distance[worst]) / max(least, largest), float(b[worst]), float(a[worst])
