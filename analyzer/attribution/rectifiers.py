"""Where a graph rectifies, however that is spelt: Relu, Clip, Max, a comparison and a product, a rounding from 0 up.

Guided back-propagation and the deconvnet change what flows back through a ReLU, so every one has to be found. Captum
looks for torch's ReLU modules; an exported graph has other words for it. Knows graphs; knows nothing of torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from filterscope.converters.graph import Graph, Node
from filterscope.converters.operator_facts import operators

LEAKY = operators(lambda facts: facts.rectifies)
GREATER, LESS = ("Greater", "GreaterOrEqual"), ("Less", "LessOrEqual")
SUMS = operators(lambda facts: facts.gives_pre_activations)  # whose results may be negative


@dataclass(frozen=True, slots=True)
class Rectifier:
    """A piece of the graph that hands on what is above 0 and holds back, weakens or cuts the rest.

    Smooth functions (SiLU, GELU, ELU, …) are none: they are never fully open or closed.
    """

    source: str  # value that is rectified
    output: str
    readers: tuple[str, ...]  # names of the nodes of the piece that read `source`
    slope: float = 1.0  # of the open side


def rectifiers(graph: Graph) -> list[Rectifier]:
    """Every rectifier of a graph, in graph order.

    Found are Relu, LeakyRelu, PRelu and ThresholdedRelu; Clip from 0 up; Max of a value and 0 or a part of it;
    x · (x > 0); Where by the sign of x; x + |x|; a rounding to 8 bits that begins at 0 behind a layer that can be
    negative; and a ceiling (Min, Clip) right before or behind one of these. The Clip inside a spelt-out hard swish or
    hard sigmoid is a factor of something else, and no rectifier.
    """
    pieces = [piece for node in graph.nodes if not node.domain and (piece := _rectifier(graph, node)) is not None]
    sources, outputs = {piece.source for piece in pieces}, {piece.output for piece in pieces}
    rectified = set(outputs)
    for node in graph.nodes:
        ceiling = None if node.domain or node.outputs[0] in rectified else _ceiling(graph, node)
        if ceiling is None:
            continue
        only = len(graph.consumers(node.outputs[0])) == 1
        if ceiling.source in outputs or (only and ceiling.output in sources):
            pieces.append(ceiling)
    order = {node.outputs[0]: index for index, node in enumerate(graph.nodes)}
    return sorted(pieces, key=lambda piece: order[piece.output])


def _rectifier(graph: Graph, node: Node) -> Rectifier | None:
    if node.op in LEAKY:
        return Rectifier(node.inputs[0], node.outputs[0], (node.name,))
    finder = {
        "Clip": _clip,
        "Max": _maximum,
        "Mul": _product,
        "Where": _choice,
        "Add": _with_its_size,
        "QuantizeLinear": _rounding,
    }.get(node.op)
    return None if finder is None else finder(graph, node)


def _clip(graph: Graph, node: Node) -> Rectifier | None:
    low, high = (*node.inputs[1:], "", "")[:2]
    top = _number(graph, high)
    if _number(graph, low) != 0.0 or (high and top is None) or (top is not None and top <= 0):
        return None
    before = graph.producer(node.inputs[0])
    shifted = before is not None and before.op == "Add" and any(_number(graph, name) == 3.0 for name in before.inputs)
    if top == 6.0 and shifted:
        return None
    return Rectifier(node.inputs[0], node.outputs[0], (node.name,))


def _maximum(graph: Graph, node: Node) -> Rectifier | None:
    """max(x, 0), and max(x, αx)."""
    if len(node.inputs) != 2:
        return None
    for x, other in (node.inputs, node.inputs[::-1]):
        if x in graph.initializers:
            continue
        if _is_zero(graph, other):
            return Rectifier(x, node.outputs[0], (node.name,))
        weaker = _part_of(graph, other, x)
        if weaker is not None:
            return Rectifier(x, node.outputs[0], (node.name, weaker.name))
    return None


def _product(graph: Graph, node: Node) -> Rectifier | None:
    """x · (x > 0), the truth value made a number by a Cast or a Where."""
    for x, mask in (node.inputs, node.inputs[::-1]):
        maker = graph.producer(mask)
        if maker is not None and maker.op == "Cast" and _compared(graph, maker.inputs[0]) == (x, True):
            return Rectifier(x, node.outputs[0], (node.name,))
    return None


def _choice(graph: Graph, node: Node) -> Rectifier | None:
    """Where(x > 0, x, 0 or αx), and the other way round."""
    compared = _compared(graph, node.inputs[0])
    if compared is None:
        return None
    x, above = compared
    passed, other = node.inputs[1:] if above else node.inputs[:0:-1]
    if passed != x:
        return None
    if _is_zero(graph, other):
        return Rectifier(x, node.outputs[0], (node.name,))
    weaker = _part_of(graph, other, x)
    return None if weaker is None else Rectifier(x, node.outputs[0], (node.name, weaker.name))


def _with_its_size(graph: Graph, node: Node) -> Rectifier | None:
    """x + |x|, twice the ReLU."""
    for x, other in (node.inputs, node.inputs[::-1]):
        size = graph.producer(other)
        if size is not None and size.op == "Abs" and size.inputs[0] == x:
            return Rectifier(x, node.outputs[0], (node.name, size.name), 2.0)
    return None


def _rounding(graph: Graph, node: Node) -> Rectifier | None:
    """QuantizeLinear whose lowest integer stands for 0, behind a value that can be negative: a ReLU went into it.

    Integer arithmetic is said in floats (converters.rewrites.quantized): ÷, Round and × may stand between.
    """
    scale, zero = (graph.initializers.get(name) for name in (*node.inputs[1:], "", "")[:2])
    if scale is None or zero is None or scale.size != 1 or zero.size != 1:
        return None
    if zero.item() != np.iinfo(zero.dtype).min:
        return None
    before = graph.producer(node.inputs[0])
    for op in ("Mul", "Round", "Div"):
        if before is not None and before.op == op:
            before = graph.producer(before.inputs[0])
    if before is None or before.op not in SUMS:
        return None
    return Rectifier(node.inputs[0], node.outputs[0], (node.name,), 1 / float(scale.item()))


def _ceiling(graph: Graph, node: Node) -> Rectifier | None:
    """min(x, c) and Clip without a lower end."""
    if node.op == "Min" and len(node.inputs) == 2:
        for x, other in (node.inputs, node.inputs[::-1]):
            if x not in graph.initializers and (_number(graph, other) or 0.0) > 0:
                return Rectifier(x, node.outputs[0], (node.name,))
    low, high = (*node.inputs[1:], "", "")[:2]
    if node.op == "Clip" and not low and (_number(graph, high) or 0.0) > 0:
        return Rectifier(node.inputs[0], node.outputs[0], (node.name,))
    return None


def _compared(graph: Graph, value: str) -> tuple[str, bool] | None:
    """What a truth value compares with 0, and whether it is true above it."""
    node = graph.producer(value)
    if node is None or node.op not in (*GREATER, *LESS):
        return None
    left, right = node.inputs
    if _is_zero(graph, right):
        return left, node.op in GREATER
    return (right, node.op in LESS) if _is_zero(graph, left) else None


def _part_of(graph: Graph, value: str, x: str) -> Node | None:
    """The Mul that makes `value` of x and a constant from 0 to 1."""
    node = graph.producer(value)
    if node is None or node.op != "Mul" or x not in node.inputs:
        return None
    factor = graph.initializers.get(node.inputs[1] if node.inputs[0] == x else node.inputs[0])
    return node if factor is not None and bool(np.all((factor >= 0) & (factor < 1))) else None


def _is_zero(graph: Graph, name: str) -> bool:
    constant = graph.initializers.get(name)
    return constant is not None and not np.any(constant)


def _number(graph: Graph, name: str) -> float | None:
    constant = graph.initializers.get(name)
    return float(constant.reshape(-1)[0]) if constant is not None and constant.size == 1 else None
