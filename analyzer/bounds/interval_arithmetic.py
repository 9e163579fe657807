"""Interval arithmetic: numbers known to lie between a low and a high end, and what elementwise operators make of them.

Each end is computed in float64 and moved outward by what float32 may do in ONNX Runtime: by 2⁻²⁰ of the sum of the
absolute terms, and by (n + 8)·2⁻²⁴ of it where a sum of n terms could be off by more (Higham 2002, section 3.1). That
covers float32 in any order of summation; TF32 on a GPU rounds more coarsely. Knows numbers and nodes; knows no graph.

Source: Moore 1966, Interval Analysis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from filterscope.converters.graph import Node

SLACK = 2.0**-20  # of the sum of absolute terms, at least
ROUNDING = 2.0**-24  # of one float32 operation
TINY = 2.0**-126  # what one float32 operation may lose where it flushes small numbers to 0
SPARE = 8  # roundings besides those of a sum: of weights that ONNX Runtime folds, of a bias, of a division
LARGEST = float(np.finfo(np.float32).max)
PIECES = 256  # of an interval, in `pieces`

Pair = tuple[np.ndarray, np.ndarray]  # low and high, float64, of one shape


def settled(pair: Pair) -> Pair:
    """The interval, unbounded where it leaves float32's range or is not a number."""
    low, high = (np.asarray(end, np.float64) for end in pair)
    low = np.where(np.isnan(low) | (low < -LARGEST), -np.inf, np.minimum(low, LARGEST))
    high = np.where(np.isnan(high) | (high > LARGEST), np.inf, np.maximum(high, -LARGEST))
    return low, high


def outward(low: np.ndarray, high: np.ndarray, magnitude: np.ndarray | float, terms: int = 1) -> Pair:
    """Widen an interval by what float32 may do to a sum of so many terms, whose absolute values sum to `magnitude`."""
    roundings = terms + SPARE
    slack = np.asarray(magnitude) * max(SLACK, roundings * ROUNDING) + roundings * TINY
    return low - slack, high + slack


def rounded(low: np.ndarray, high: np.ndarray) -> Pair:
    """Outward by the rounding of a result that keeps its sign, whatever is rounded."""
    wide = outward(low, high, np.maximum(abs(low), abs(high)))
    return np.where(low >= 0, np.maximum(wide[0], 0), wide[0]), np.where(high <= 0, np.minimum(wide[1], 0), wide[1])


def unbounded(rank: int) -> Pair:
    ends = np.full((1,) * rank, np.inf)
    return -ends, ends


def largest(pair: Pair) -> np.ndarray:
    """The largest absolute value in each interval."""
    return np.asarray(np.maximum(abs(pair[0]), abs(pair[1])))


def hull(*pairs: Pair) -> Pair:
    low, high = pairs[0]
    for other in pairs[1:]:
        low, high = np.minimum(low, other[0]), np.maximum(high, other[1])
    return low, high


def with_zero(pair: Pair) -> Pair:
    return np.minimum(pair[0], 0), np.maximum(pair[1], 0)


def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Product in which 0 beats infinity: an unbounded number times 0 is 0."""
    return np.where((a == 0) | (b == 0), 0.0, a * b)


def pieces(low: np.ndarray, high: np.ndarray) -> Pair:
    """Each interval in PIECES pieces along a new first axis, the finer the nearer to 0."""
    ticks = np.linspace(-1, 1, PIECES + 1).reshape(-1, *(1,) * low.ndim)
    reach = np.maximum(abs(low), abs(high))
    knots = np.clip(reach * ticks * abs(ticks), low, high)
    knots[0], knots[-1] = low, high
    return knots[:-1], knots[1:]


def weighted(positive: np.ndarray, negative: np.ndarray, pair: Pair) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Low, high and largest sum of absolute terms of Σ w·x.

    Args:
        positive, negative: (G, M, K), the weights above and below 0.
        pair: (G, K) each.

    Returns:
        (G, M) each.
    """
    low, high = pair
    return (
        _dot(positive, low, -np.inf) + _dot(negative, high, -np.inf),
        _dot(positive, high, np.inf) + _dot(negative, low, np.inf),
        _dot(positive - negative, largest(pair), np.inf),
    )


def _dot(weights: np.ndarray, x: np.ndarray, unbounded: float) -> np.ndarray:
    infinite = np.isinf(x)
    total = (weights @ np.where(infinite, 0, x)[..., None])[..., 0]
    if infinite.any():
        total[((weights != 0) & infinite[..., None, :]).any(axis=-1)] = unbounded
    return np.asarray(total)


# elementwise operators: node, intervals of its inputs (None: absent) → interval

Operands = list[Any]  # of Pair | None; a rule knows which of its inputs are there


def _monotone(function: Callable[[np.ndarray, Mapping[str, Any]], np.ndarray], absolute: float) -> Callable[..., Pair]:
    """Rule of a function that never falls. `absolute`: size of the terms inside it besides its result."""

    def rule(node: Node, operands: Operands) -> Pair:
        low, high = (function(end, node.attributes) for end in operands[0])
        if absolute == 0:
            return rounded(low, high)
        if math.isinf(absolute):
            return low, high  # no arithmetic, no rounding
        return outward(low, high, np.maximum(abs(low), abs(high)) + absolute)

    return rule


EXACT = math.inf


def _valley(function: Callable[[np.ndarray, Mapping[str, Any]], np.ndarray], lowest: float) -> Callable[..., Pair]:
    """Rule of a function that falls up to `lowest` and rises from there."""

    def rule(node: Node, operands: Operands) -> Pair:
        low, high = operands[0]
        ends = [function(end, node.attributes) for end in (low, high, np.clip(lowest, low, high))]
        return outward(ends[2], np.maximum(ends[0], ends[1]), largest(operands[0]) + 1)

    return rule


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _erf(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def _gelu(x: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    if attributes.get("approximate", "none") == "tanh":
        return times(x, 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return times(x, 0.5 * (1 + _erf(x / math.sqrt(2))))


def _elu(x: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    return np.where(x > 0, x, attributes.get("alpha", 1.0) * np.expm1(np.minimum(x, 0)))


def _selu(x: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    alpha, gamma = (
        attributes.get("alpha", 1.67326319217681884765625),
        attributes.get("gamma", 1.05070102214813232421875),
    )
    return np.asarray(gamma * _elu(x, {"alpha": alpha}))


def _celu(x: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    alpha = attributes.get("alpha", 1.0)
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))


def _hard_sigmoid(x: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    return np.asarray(np.clip(attributes.get("alpha", 0.2) * x + attributes.get("beta", 0.5), 0, 1))


def _never_falling(attribute: str, default: float, rule: Callable[..., Pair]) -> Callable[..., Pair]:
    """The rule for attributes that are not negative; unbounded for others."""

    def guarded(node: Node, operands: Operands) -> Pair:
        return rule(node, operands) if node.attributes.get(attribute, default) >= 0 else unbounded(0)

    return guarded


def _identity(node: Node, operands: Operands) -> Pair:
    low, high = operands[0]
    return low, high


def _add(node: Node, operands: Operands) -> Pair:
    low, high = sum(o[0] for o in operands), sum(o[1] for o in operands)
    return outward(low, high, sum(largest(o) for o in operands), len(operands))


def _mean(node: Node, operands: Operands) -> Pair:
    low, high = _add(node, operands)
    return low / len(operands), high / len(operands)


def _negative(node: Node, operands: Operands) -> Pair:
    return -operands[0][1], -operands[0][0]


def _subtract(node: Node, operands: Operands) -> Pair:
    return _add(node, [operands[0], _negative(node, operands[1:])])


def _multiply(node: Node, operands: Operands) -> Pair:
    corners = [times(a, b) for a in operands[0] for b in operands[1]]
    return rounded(np.minimum.reduce(corners), np.maximum.reduce(corners))


def _reciprocal(node: Node, operands: Operands) -> Pair:
    low, high = operands[0]
    crosses = (low <= 0) & (high >= 0)
    return rounded(np.where(crosses, -np.inf, 1 / high), np.where(crosses, np.inf, 1 / low))


def _divide(node: Node, operands: Operands) -> Pair:
    return _multiply(node, [operands[0], _reciprocal(node, operands[1:])])


def _minimum(node: Node, operands: Operands) -> Pair:
    return np.minimum.reduce([o[0] for o in operands]), np.minimum.reduce([o[1] for o in operands])


def _maximum(node: Node, operands: Operands) -> Pair:
    return np.maximum.reduce([o[0] for o in operands]), np.maximum.reduce([o[1] for o in operands])


def _clip(node: Node, operands: Operands) -> Pair:
    low, high = operands[0]
    floor, ceiling = (operands[i] if len(operands) > i and operands[i] is not None else None for i in (1, 2))
    if floor is not None:
        low, high = np.maximum(low, floor[0]), np.maximum(high, floor[1])
    if ceiling is not None:
        low, high = np.minimum(low, ceiling[0]), np.minimum(high, ceiling[1])
    return low, high


def _prelu(node: Node, operands: Operands) -> Pair:
    x, slope = operands
    left = _multiply(node, [(np.minimum(x[0], 0), np.minimum(x[1], 0)), slope])
    return _hull_of_parts(x, left)


def _hull_of_parts(x: Pair, left: Pair) -> Pair:
    """The left part where x can be negative, x itself where it can be positive."""
    low = np.where(x[0] >= 0, x[0], np.where(x[1] <= 0, left[0], np.minimum(left[0], 0)))
    high = np.where(x[1] <= 0, left[1], np.where(x[0] >= 0, x[1], np.maximum(x[1], left[1])))
    return low, high


def _leaky_relu(node: Node, operands: Operands) -> Pair:
    slope = np.asarray(node.attributes.get("alpha", 0.01), np.float64)
    return _prelu(node, [operands[0], (slope, slope)])


def _absolute(node: Node, operands: Operands) -> Pair:
    low, high = operands[0]
    return np.where((low <= 0) & (high >= 0), 0, np.minimum(abs(low), abs(high))), np.maximum(abs(low), abs(high))


def _power(node: Node, operands: Operands) -> Pair:
    """Bounds of even powers, and of any power of what is not negative; others are unbounded."""
    base, exponent = operands
    if exponent[0].size != 1 or exponent[0].item() != exponent[1].item() or exponent[0].item() <= 0:
        return unbounded(0)
    power = exponent[0].item()
    if power % 2 == 0:
        base = _absolute(node, [base])
    elif np.any(base[0] < 0):
        return unbounded(0)
    return rounded(base[0] ** power, base[1] ** power)


def _where(node: Node, operands: Operands) -> Pair:
    return hull(*operands[1:])


def _truth(node: Node, operands: Operands) -> Pair:
    return np.zeros(()), np.ones(())


def _square_root(node: Node, operands: Operands) -> Pair:
    low, high = operands[0]
    if np.any(low < 0):
        return unbounded(0)
    return rounded(np.sqrt(low), np.sqrt(high))


def _logarithm(node: Node, operands: Operands) -> Pair:
    low, high = operands[0]
    if np.any(low <= 0):
        return unbounded(0)
    return outward(np.log(low), np.log(high), np.maximum(abs(np.log(low)), abs(np.log(high))) + 1)


FLOATS = {1: 0.0, 11: 0.0, 10: 2.0**-10, 16: 2.0**-7}  # TensorProto's float, double, float16, bfloat16: their rounding


def _cast(node: Node, operands: Operands) -> Pair:
    low, high = operands[0]
    kind = int(node.attributes["to"])
    if kind not in FLOATS or (kind == 10 and np.any(largest(operands[0]) > 65000)):
        return unbounded(0)
    slack = FLOATS[kind] * np.where(np.isinf(largest(operands[0])), 0, largest(operands[0])) + (kind == 10) * 2.0**-24
    return low - slack, high + slack


ELEMENTWISE: dict[str, Callable[[Node, Operands], Pair]] = {
    **dict.fromkeys(("Identity", "Expand"), _identity),
    "Cast": _cast,
    "Add": _add,
    "Sum": _add,
    "Mean": _mean,
    "Sub": _subtract,
    "Mul": _multiply,
    "Div": _divide,
    "Min": _minimum,
    "Max": _maximum,
    "Neg": _negative,
    "Abs": _absolute,
    "Reciprocal": _reciprocal,
    "Pow": _power,
    "Sqrt": _square_root,
    "Log": _logarithm,
    "Clip": _clip,
    "PRelu": _prelu,
    "LeakyRelu": _leaky_relu,
    "Where": _where,
    **dict.fromkeys(("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Xor", "Not"), _truth),
    "Relu": _monotone(lambda x, _: np.maximum(x, 0), EXACT),
    "Floor": _monotone(lambda x, _: np.floor(x), EXACT),
    "Ceil": _monotone(lambda x, _: np.ceil(x), EXACT),
    "Round": _monotone(lambda x, _: np.rint(x), EXACT),
    "Sign": _monotone(lambda x, _: np.sign(x), EXACT),
    "Exp": _monotone(lambda x, _: np.exp(x), 0),
    "Sigmoid": _monotone(lambda x, _: _sigmoid(x), 1),
    "Tanh": _monotone(lambda x, _: np.tanh(x), 1),
    "Erf": _monotone(lambda x, _: _erf(x), 1),
    "Atan": _monotone(lambda x, _: np.arctan(x), 1),
    "Softplus": _monotone(lambda x, _: np.logaddexp(x, 0), 1),
    "Softsign": _monotone(lambda x, _: np.where(np.isinf(x), np.sign(x), x / (1 + abs(x))), 1),
    "HardSigmoid": _never_falling("alpha", 0.2, _monotone(_hard_sigmoid, 1)),
    "Elu": _never_falling("alpha", 1.0, _monotone(_elu, 1)),
    "Selu": _monotone(_selu, 2),
    "Celu": _never_falling("alpha", 1.0, _monotone(_celu, 1)),
    "ThresholdedRelu": _never_falling(
        "alpha", 1.0, _monotone(lambda x, attributes: np.where(x > attributes.get("alpha", 1.0), x, 0), EXACT)
    ),
    "HardSwish": _valley(lambda x, _: times(x, np.clip(x / 6 + 0.5, 0, 1)), -1.5),
    "Gelu": _valley(_gelu, -0.7519),  # −0.75179 exact, −0.75246 with tanh: flat there, to 10⁻⁷
    "Mish": _valley(lambda x, _: times(x, np.tanh(np.logaddexp(x, 0))), -1.192431),
}
