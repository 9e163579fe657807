"""The non-linearity that follows a value, by the name its users know, in one node or written out in several.

It is looked for behind what changes no number: transposes, reshapes, casts, roundings to 8 bits. Knows graphs; knows
nothing of layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from filterscope.converters.graph import Graph, Node
from filterscope.converters.normal_form.nonlinearities import is_hard_sigmoid
from filterscope.converters.operator_facts import OPERATORS, Numbers, operators

ACTIVATION_NAMES = {name: facts.activation for name, facts in OPERATORS.items() if facts.activation}
PASSED = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}  # lowest and highest number that these let through
KEEPS_NUMBERS = operators(  # what leaves each number as it is
    lambda facts: facts.numbers in (Numbers.SAME, Numbers.SAME_IN_INFERENCE, Numbers.RESTORED)
)
FLOATS = (1, 10, 11, 16)  # how ONNX numbers float32, float16, float64 and bfloat16
LIMITS = ("Relu", "Clip", "Min", "Max")
ARITHMETIC = ("Neg", "Add", "Sub", "Mul", "Div", "Pow", "Min")
SPELLING = 12  # nodes of the longest spelling that is looked through


def nonlinearity(graph: Graph, value: str) -> str:
    """The non-linearity that reads a value; "none" where something else reads it."""
    readers = _readers(graph, value)
    if len(readers) == 1:
        return _of_one(graph, readers[0])
    names = {_of_one(graph, reader) if reader.op in (*ACTIVATION_NAMES, *LIMITS) else "none" for reader in readers}
    return names.pop() if len(names) == 1 and "none" not in names else _of_several(graph, readers)


def _of_one(graph: Graph, reader: Node) -> str:
    """A non-linearity whose first node is the only reader."""
    if reader.domain:
        return "none"
    if reader.op in LIMITS:
        return _of_limits(graph, reader)
    if reader.op == "QuantizeLinear":
        return _after_rounding(graph, reader)
    if reader.op == "Div" and _next_ops(graph, reader) == {"Round"}:
        return _after_whole_sums(graph, reader)
    if reader.op in ("Add", "Sub", "Mul", "Div"):
        return _after_a_shift(graph, reader)
    if reader.op in ("Neg", "Softplus"):
        return _of_softplus(graph, reader)
    if reader.op == "Elu":
        return "selu" if _is_selu(graph, reader) else "elu"
    return ACTIVATION_NAMES.get(reader.op, "none")


def _of_several(graph: Graph, readers: Sequence[Node]) -> str:
    """A non-linearity in which the value meets something that is made of it."""
    ops = {node.op for node in readers}
    if len(readers) > 3 or any(node.domain for node in readers):
        return "none"
    if "Mul" in ops and any(_leads_to(graph, node, "Erf") for node in readers):
        return "gelu"
    if ops <= {"Mul", "Add", "Pow"} and any(_is_power(node) and _leads_to(graph, node, "Tanh") for node in readers):
        return "gelu"
    if len(readers) != 2:
        return "none"
    if ops == {"Relu", "Neg"}:
        return _of_both_sides(graph, next(node for node in readers if node.op == "Neg"))
    if ops == {"Min", "Max"}:
        lower = next(node for node in readers if node.op == "Min")
        is_from_0 = all(_number(graph, node) == 0.0 for node in readers)
        return "celu" if is_from_0 and _leads_to(graph, lower, "Exp") else "none"
    if "Mul" in ops:
        product = next(node for node in readers if node.op == "Mul")
        return _of_product(graph, product, next(node for node in readers if node is not product))
    return "none"


def _of_product(graph: Graph, product: Node, other: Node) -> str:
    """A non-linearity that is a product of the value and of what another node makes of it, or the greater of two."""
    factors = [_source(graph, name) for name in product.inputs]
    if other.op == "Sigmoid" and other.outputs[0] in factors:
        return "silu"
    if other.op == "HardSigmoid" or (other.op == "Add" and _number(graph, other) == 3.0):
        return "hardswish"
    if other.op == "Softplus":
        return "mish"
    if other.op == "Max" and product.outputs[0] in [_source(graph, name) for name in other.inputs]:
        weaker = _number(graph, product)
        return "leaky_relu" if weaker is not None and 0 < weaker < 1 else "none"
    if other.op == "Greater" and other.outputs[0] in factors:  # the truth value, made a number by a Cast
        least = _scalar(graph, other.inputs[1])
        return "relu" if least == 0.0 else "thresholded_relu" if least is not None else "none"
    return "none"


def _of_both_sides(graph: Graph, opposite: Node) -> str:
    """relu(x) − a · relu(−x): a leaky ReLU where a is one number, otherwise a PReLU."""
    followers = _readers(graph, opposite.outputs[0])
    if len(followers) != 1 or followers[0].op != "Relu":
        return "none"
    products = _readers(graph, followers[0].outputs[0])
    if len(products) != 1 or products[0].op != "Mul" or _next_ops(graph, products[0]) - {"Add", "Sub"}:
        return "none"
    return "prelu" if _number(graph, products[0]) is None else "leaky_relu"


def _is_selu(graph: Graph, elu: Node) -> bool:
    """Whether an Elu and the product behind it are Klambauer et al.'s (2017), doi:10.48550/arXiv.1706.02515."""
    products = _readers(graph, elu.outputs[0])
    if len(products) != 1 or products[0].op != "Mul" or products[0].domain:
        return False
    alpha, factor = elu.attributes.get("alpha", 1.0), _number(graph, products[0])
    return (
        factor is not None and math.isclose(alpha, 1.67326, rel_tol=1e-4) and math.isclose(factor, 1.0507, rel_tol=1e-4)
    )


def _is_power(node: Node) -> bool:
    """Whether a node raises its input to a power: the cube of a gelu that is written with Tanh."""
    return node.op == "Pow" or (node.op == "Mul" and len(set(node.inputs)) == 1)


def _leads_to(graph: Graph, node: Node, op: str) -> bool:
    """Whether a node's output reaches an operator through sums and products alone."""
    waiting, seen = [node], set[str]()
    while waiting:
        each = waiting.pop()
        if each.op == op:
            return True
        if each.name not in seen and len(seen) < SPELLING and each.op in ARITHMETIC:
            seen.add(each.name)
            waiting.extend(_readers(graph, each.outputs[0]))
    return False


def _readers(graph: Graph, value: str) -> list[Node]:
    """The nodes that read a value, each once; nodes that only keep its numbers are passed over."""
    readers: dict[str, Node] = {}
    waiting = [value]
    while waiting:
        name = waiting.pop()
        for node in graph.consumers(name):
            if _keeps_numbers(node) and node.inputs[0] == name:
                waiting.append(node.outputs[0])
            else:
                readers[node.name] = node
    return list(readers.values())


def _source(graph: Graph, value: str) -> str:
    """The value before nodes that keep its numbers or round them."""
    node = graph.producer(value)
    while node is not None and (_keeps_numbers(node) or node.op == "QuantizeLinear"):
        value = node.inputs[0]
        node = graph.producer(value)
    return value


def _keeps_numbers(node: Node) -> bool:
    is_cast = node.op == "Cast" and node.attributes.get("to") in FLOATS
    return not node.domain and (node.op in KEEPS_NUMBERS or is_cast)


def _next_ops(graph: Graph, node: Node) -> set[str]:
    return {reader.op for reader in _readers(graph, node.outputs[0])}


def _after_rounding(graph: Graph, quantize: Node, unit: float = 1.0) -> str:
    """A rounding to 8 bits whose lowest number stands for 0 cuts off what is negative: the file's ReLU went into it.

    Args:
        unit: what a difference of 1 before the rounding is in the layer's own values.
    """
    while True:  # one rounding may stand behind another
        scale, zero = (graph.initializers.get(name) for name in (*quantize.inputs[1:], "")[:2])
        readers = _readers(graph, quantize.outputs[0])
        if scale is not None and zero is not None and zero.size == 1 and zero.item() == np.iinfo(zero.dtype).min:
            steps = np.iinfo(zero.dtype).max - np.iinfo(zero.dtype).min
            return "relu6" if abs(unit * float(scale.reshape(-1)[0]) * steps - 6) < 1e-3 else "relu"
        if len(readers) != 1 or readers[0].op != "QuantizeLinear":
            break
        quantize = readers[0]
    return _of_one(graph, readers[0]) if len(readers) == 1 else _of_several(graph, readers)


def _after_whole_sums(graph: Graph, division: Node) -> str:
    """Integer arithmetic said in floats (rewrites.quantized): ÷ step, Round, × quotient of steps, rounding."""
    chain = [division]
    for op in ("Round", "Mul", "QuantizeLinear"):
        readers = _readers(graph, chain[-1].outputs[0])
        if len(readers) != 1 or readers[0].op != op:
            return "none"
        chain.append(readers[0])
    step, quotient = (graph.initializers.get(node.inputs[1]) for node in (division, chain[2]))
    if step is None or quotient is None:
        return "none"
    return _after_rounding(graph, chain[3], float(step.reshape(-1)[0] / quotient.reshape(-1)[0]))


def _of_softplus(graph: Graph, reader: Node) -> str:
    """Softplus, or −softplus(−x), the logarithm of a sigmoid."""
    if reader.op == "Softplus":
        return "softplus"
    chain = [reader]
    for op in ("Softplus", "Neg"):
        readers = _readers(graph, chain[-1].outputs[0])
        if len(readers) != 1 or readers[0].op != op:
            return "none"
        chain.append(readers[0])
    return "log_sigmoid"


def _after_a_shift(graph: Graph, reader: Node) -> str:
    """A hard sigmoid that is written out: a factor and a shift, then limits."""
    scale, shift = 1.0, 0.0
    while reader.op in ("Add", "Sub", "Mul", "Div"):
        numbers = [_scalar(graph, name) for name in reader.inputs]
        number = next((each for each in numbers if each is not None), None)
        if number is None or (numbers[0] is not None and reader.op in ("Sub", "Div")):
            return "none"
        if reader.op in ("Add", "Sub"):
            shift += number if reader.op == "Add" else -number
        elif reader.op == "Mul" or number:
            factor = number if reader.op == "Mul" else 1 / number
            scale, shift = scale * factor, shift * factor
        readers = _readers(graph, reader.outputs[0])
        if len(readers) != 1:
            return "none"
        reader = readers[0]
    low, high = _limits(graph, reader)
    return "hard_sigmoid" if low == 0.0 and high is not None and is_hard_sigmoid(scale, shift, high) else "none"


def _of_limits(graph: Graph, reader: Node) -> str:
    """The name of a Clip, which may be written as Relu, Max and Min."""
    low, high = _limits(graph, reader)
    if low != 0.0:
        return "clip" if reader.op == "Clip" or (low is not None and high is not None) else "none"
    if high is None or high > 1e30:
        return "relu"
    if high == 6.0 and _is_divided_by_six(graph, reader):  # the shift of 3 went into what stands before
        return "hard_sigmoid"
    return "relu6" if high == 6.0 else "clip"


def _is_divided_by_six(graph: Graph, reader: Node) -> bool:
    readers = _readers(graph, reader.outputs[0])
    if len(readers) != 1 or readers[0].op not in ("Mul", "Div"):
        return False
    number = _number(graph, readers[0])
    return number is not None and math.isclose(number, 1 / 6 if readers[0].op == "Mul" else 6.0, rel_tol=1e-5)


def _limits(graph: Graph, reader: Node) -> tuple[float | None, float | None]:
    """The lower and the upper end of what a node, or two in a row, limit a value to; None for an end that is open."""
    low, high = _own_limits(graph, reader)
    followers = _readers(graph, reader.outputs[0]) if reader.op in LIMITS else []
    if len(followers) == 1 and followers[0].op in LIMITS and (low is None or high is None) and reader.op != "Clip":
        below, above = _own_limits(graph, followers[0])
        if (low is None) != (below is None):
            return (low if low is not None else below), (high if high is not None else above)
    return low, high


def _own_limits(graph: Graph, node: Node) -> tuple[float | None, float | None]:
    if node.op == "Relu":
        return 0.0, None
    if node.op == "Clip":
        ends = [_scalar(graph, name) for name in (*node.inputs[1:], "", "")[:2]]
        return ends[0], ends[1]
    if node.op not in ("Min", "Max") or len(node.inputs) != 2:
        return None, None
    number = _number(graph, node)
    return (number, None) if node.op == "Max" else (None, number)


def _scalar(graph: Graph, name: str) -> float | None:
    constant = graph.initializers.get(name)
    return float(constant.reshape(-1)[0]) if constant is not None and constant.size == 1 else None


def _number(graph: Graph, node: Node) -> float | None:
    """The one number that a node adds to, multiplies with or compares with its input."""
    numbers = [number for name in node.inputs if (number := _scalar(graph, name)) is not None]
    return numbers[0] if len(numbers) == 1 else None
