"""Rewrite networks computed in 8 bits in floats that are rounded where the file rounds.

QLinearConv and its like become the float operator on dequantised weights and inputs, so that a layer's values before
its rounding can be seen. What follows rounds as the file does, from whole sums as integer arithmetic has them: a float
sum that falls on the other side of a rounding by its last bit is a whole step off, and fifty layers later the network
answers something else. Where activations are quantised by the range that they happen to have (DynamicQuantizeLinear),
the normal form leaves them as they are: that range is the whole batch's, and no property of the network.
Works on protobuf; comparison A (converters.parity) proves it, allowing for half a step of the file's own rounding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from filterscope.converters.rewrites.rewriting import (
    Body,
    Page,
    Rule,
    Writer,
    bodies,
    domain_of,
    listed,
    replace_nodes,
    rewrite,
)

MS = "com.microsoft"
TO_FIRST, TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]  # where the channels of a picture stand
PRODUCTS = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}


def dequantise(model: onnx.ModelProto) -> list[str]:
    """Rewrite each quantised operator in floats, in place; results are rounded as before.

    Returns:
        Notes, a sentence each.
    """
    scaled = sum(_scaled_products(body) for body in bodies(model))
    done = rewrite(model, RULES)
    notes = []
    if scaled:
        notes.append(f"{scaled} 8-bit products and the scaling after them were written as float operators.")
    if done:
        notes.append(f"8-bit operators were written as float operators on dequantised weights: {listed(done)}.")
    return notes


def leave_dynamic_activations(model: onnx.ModelProto) -> list[str]:
    """Leave unrounded, in place, what the file rounds by the range that it happens to have.

    Returns:
        Notes, a sentence each.
    """
    left = 0
    for body in bodies(model):
        written = {name: node for node in body.node for name in node.output if name}
        for node in body.node:
            source = written.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
            if source is None or source.op_type != "DynamicQuantizeLinear" or list(node.input) != list(source.output):
                continue
            node.op_type = "Identity"
            node.input[:] = source.input
            del node.attribute[:]
            left += 1
    if not left:
        return []
    return [
        f"{left} activations, which the file rounds to 8 bits by the range they happen to have in a batch, are left "
        "unrounded: values differ from the file's by up to half a step of that rounding."
    ]


def _dequantised(w: Writer, value: str, scale: str, zero_point: str, axis: int = 1) -> str:
    """What integers stand for; written once for all who read them."""

    def write() -> str:
        output = w.fresh(f"{value}::dequantised")
        return w.add("DequantizeLinear", [value, scale, zero_point], output, axis=axis)

    return w.once((value, scale, zero_point, str(axis)), write)


def _triple(w: Writer, first: int, axis: int = 1) -> str:
    """The value of three inputs: integers, their scale, their zero point."""
    return _dequantised(w, w.input(first), w.input(first + 1), w.input(first + 2), axis=axis)


def _quantised(w: Writer, value: str, scale: str, zero_point: str) -> None:
    w.add("QuantizeLinear", [value, scale, zero_point], w.output)


def _levels(w: Writer, y: str, step: str, scale: str) -> str:
    """What integer arithmetic rounds: the sum, a whole number of products' steps, times the quotient of the steps.

    In that order of multiplications, which is ONNX Runtime's.
    """
    total = w.add("Round", [w.add("Div", [y, step])])
    return w.add("Mul", [total, w.add("Div", [step, scale])])


def _rounded(w: Writer, levels: str, zero_point: str) -> None:
    _quantised(w, levels, w.constant(np.float32(1)), zero_point)


def _spatial_axes(w: Writer) -> int:
    """Of a convolution that says of each axis what it does there; two where it says nothing."""
    return next(
        (len(w.attributes[name]) for name in ("kernel_shape", "strides", "dilations") if name in w.attributes), 2
    )


def _before_rounding(w: Writer) -> str:
    """A name for a value whose rounded form has the name of the node's output ("544_quantized": "544")."""
    return w.fresh(w.output.removesuffix("_quantized").removesuffix("_QuantizeLinear_Output"))


def _own_name(w: Writer) -> str:
    return str(w.node.name).removesuffix("_quant")


def _qlinear_conv(w: Writer) -> None:
    """x, its scale, its zero point; the same of w and of y; a bias in steps of both scales' product."""
    last = w.attributes.get("channels_last", 0)
    x, kernel = _triple(w, 0), _triple(w, 3, axis=0)
    bias = w.input(8)
    step = w.add("Mul", [w.input(1), w.input(4)])
    if bias:
        bias = w.add("Mul", [w.add("Cast", [bias], to=onnx.TensorProto.FLOAT), step])
    if last:
        x = w.add("Transpose", [x], perm=TO_FIRST)
    name = w.fresh(f"{w.output}::channels_first") if last else _before_rounding(w)
    y = w.add("Conv", [x, kernel, bias], name, _own_name(w), **w.like_the_node("channels_last"))
    per_channel = w.add("Reshape", [step, w.constant(np.array([-1] + [1] * _spatial_axes(w)))])
    levels = _levels(w, y, per_channel, w.input(6))
    if last:
        levels = w.add("Transpose", [levels], perm=TO_LAST)
    _rounded(w, levels, w.input(7))


def _qlinear_matmul(w: Writer) -> None:
    y = w.add("MatMul", [_triple(w, 0, axis=-2), _triple(w, 3, axis=-1)], _before_rounding(w), _own_name(w))
    levels = _levels(w, y, w.add("Mul", [w.input(1), w.input(4)]), w.input(6))
    _rounded(w, levels, w.input(7))


def _qgemm(w: Writer) -> None:
    """a and b with scales and zero points, c in steps of alpha and both scales; a float answer without y's scale."""
    b = _triple(w, 3, axis=0 if w.attributes.get("transB", 0) else 1)
    c = w.input(6)
    step = w.add("Mul", [w.input(1), w.input(4)])
    step = w.add("Mul", [step, w.constant(np.float32(w.attributes.get("alpha", 1.0)))])
    if c:
        c = w.add("Mul", [w.add("Cast", [c], to=onnx.TensorProto.FLOAT), step])
    rounded = bool(w.input(7))
    output = _before_rounding(w) if rounded else w.output
    y = w.add("Gemm", [_triple(w, 0), b, c], output, _own_name(w), **w.like_the_node())
    if rounded:
        _rounded(w, _levels(w, y, step, w.input(7)), w.input(8))


def _binary(op: str) -> Rule:
    def write(w: Writer) -> None:
        y = w.add(op, [_triple(w, 0), _triple(w, 3)], _before_rounding(w), _own_name(w))
        _quantised(w, y, w.input(6), w.input(7))

    return write


def _unary(op: str, *but: str) -> Rule:
    """x with scale and zero point, then y's scale and zero point."""

    def write(w: Writer) -> None:
        last = w.attributes.get("channels_last", 0)
        x = _triple(w, 0)
        if last:
            x = w.add("Transpose", [x], perm=TO_FIRST)
        y = w.add(op, [x], "" if last else _before_rounding(w), _own_name(w), **w.like_the_node("channels_last", *but))
        if last:
            y = w.add("Transpose", [y], perm=TO_LAST)
        _quantised(w, y, w.input(3), w.input(4))

    return write


def _qlinear_softmax(w: Writer) -> None:
    """Before opset 13, all axes from `axis` on are one."""
    x, axis = _triple(w, 0), w.attributes.get("axis", -1)
    if w.attributes.get("opset", 13) < 13:
        flat = w.add("Softmax", [w.add("Flatten", [x], axis=axis)], axis=-1)
        y = w.add("Reshape", [flat, w.add("Shape", [x])], _before_rounding(w))
    else:
        y = w.add("Softmax", [x], _before_rounding(w), _own_name(w), axis=axis)
    _quantised(w, y, w.input(3), w.input(4))


def _qlinear_concat(w: Writer) -> None:
    """y's scale and zero point, then each part's three."""
    parts = [_triple(w, first) for first in range(2, len(w.node.input), 3)]
    y = w.add("Concat", parts, _before_rounding(w), _own_name(w), axis=w.attributes["axis"])
    _quantised(w, y, w.input(0), w.input(1))


def _qlinear_where(w: Writer) -> None:
    y = w.add("Where", [w.input(0), _triple(w, 1), _triple(w, 4)], _before_rounding(w), _own_name(w))
    _quantised(w, y, w.input(7), w.input(8))


def _dynamic_matmul(w: Writer) -> None:
    """a in floats, b's integers, scale and zero point, and a bias."""
    numbers, scale, zero = (w.fresh(f"{w.input(0)}::{part}") for part in ("integers", "scale", "zero_point"))
    w.nodes.append(onnx.helper.make_node("DynamicQuantizeLinear", [w.input(0)], [numbers, scale, zero], name=numbers))
    b = _dequantised(w, w.input(1), w.input(2), w.input(3), axis=-1)
    _product_and_bias(w, _dequantised(w, numbers, scale, zero), b, w.input(4))


def _matmul_to_float(w: Writer) -> None:
    """a's and b's integers, then both scales, both zero points, and a bias."""
    a = _dequantised(w, w.input(0), w.input(2), w.input(4), axis=-2)
    _product_and_bias(w, a, _dequantised(w, w.input(1), w.input(3), w.input(5), axis=-1), w.input(6))


def _product_and_bias(w: Writer, a: str, b: str, bias: str) -> None:
    product = w.add("MatMul", [a, b], "" if bias else w.output, _own_name(w))
    if bias:
        w.add("Add", [product, bias], w.output)


def _integer_product(w: Writer) -> None:
    """A product whose scaling is not recognised: of the integers themselves, exact in floats below 2²⁴."""
    parts = []
    for index in (0, 1):
        number = w.add("Cast", [w.input(index)], to=onnx.TensorProto.FLOAT)
        if w.input(2 + index):
            zero = w.add("Cast", [w.input(2 + index)], to=onnx.TensorProto.FLOAT)
            if index == 1 and w.node.op_type == "ConvInteger":  # one a kernel, or one for all
                per_kernel = w.add("Unsqueeze", [w.add("Reshape", [zero, w.constant(np.array([-1]))]), _axes(w)])
                zero = per_kernel
            number = w.add("Sub", [number, zero])
        parts.append(number)
    product = w.add(PRODUCTS[w.node.op_type], parts, "", _own_name(w), **w.like_the_node())
    w.add("Cast", [product], w.output, to=onnx.TensorProto.INT32)


def _axes(w: Writer) -> str:
    return w.constant(np.arange(1, 2 + _spatial_axes(w)))


RULES: dict[tuple[str, str], Rule] = {
    ("", "QLinearConv"): _qlinear_conv,
    (MS, "QLinearConv"): _qlinear_conv,
    ("", "QLinearMatMul"): _qlinear_matmul,
    (MS, "QGemm"): _qgemm,
    (MS, "QLinearAdd"): _binary("Add"),
    (MS, "QLinearMul"): _binary("Mul"),
    (MS, "QLinearAveragePool"): _unary("AveragePool"),
    (MS, "QLinearGlobalAveragePool"): _unary("GlobalAveragePool"),
    (MS, "QLinearLeakyRelu"): _unary("LeakyRelu"),
    (MS, "QLinearSigmoid"): _unary("Sigmoid"),
    (MS, "QLinearSoftmax"): _qlinear_softmax,
    (MS, "QLinearConcat"): _qlinear_concat,
    (MS, "QLinearWhere"): _qlinear_where,
    (MS, "DynamicQuantizeMatMul"): _dynamic_matmul,
    (MS, "MatMulIntegerToFloat"): _matmul_to_float,
    ("", "ConvInteger"): _integer_product,
    ("", "MatMulInteger"): _integer_product,
}


def _scaled_products(body: Body) -> int:
    """Products of dynamically quantised activations with constant integers, and the scaling that follows.

    DynamicQuantizeLinear(x) → integers, scale, zero point; ConvInteger or MatMulInteger; Cast to float; Mul by the
    product of both scales. They become the float product, whose result has the name of the last Mul's.
    """
    sites = list(_sites(body))
    if not sites:
        return 0
    page = Page(body)
    replaced = {id(node) for site in sites for node in site[1:4]}
    last = {id(site[3]): site for site in sites}
    nodes: list[onnx.NodeProto] = []
    for node in body.node:
        if id(node) in last:
            product, scale = last[id(node)][1], last[id(node)][4]
            writer = Writer(product, page)
            writer.output = node.output[0]
            _float_product(writer, last[id(node)][0], scale, last[id(node)][5])
            nodes += writer.nodes
        elif id(node) not in replaced:
            nodes.append(node)
    replace_nodes(body, nodes)
    return len(sites)


Site = tuple[onnx.NodeProto, onnx.NodeProto, onnx.NodeProto, onnx.NodeProto, str, int]


def _sites(body: Body) -> Iterator[Site]:
    """The quantiser, the product, the cast, the scaling, the name of the weights' scale and the weights' rank."""
    written = {name: node for node in body.node for name in node.output if name}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in body.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    shown = {value if isinstance(value, str) else value.name for value in body.output}
    ranks = {tensor.name: len(tensor.dims) for tensor in getattr(body, "initializer", ())}
    ranks |= {n.output[0]: len(n.attribute[0].t.dims) for n in body.node if n.op_type == "Constant" and n.attribute}
    for node in body.node:  # constants that are quantised when the network runs
        if node.op_type == "DynamicQuantizeLinear" and node.input[0] in ranks:
            ranks[node.output[0]] = ranks[node.input[0]]

    def only_reader(name: str, op: str) -> onnx.NodeProto | None:
        nodes = readers.get(name, [])
        return nodes[0] if len(nodes) == 1 and name not in shown and nodes[0].op_type == op else None

    for product in body.node:
        if product.op_type not in PRODUCTS or domain_of(product) or product.input[1] not in ranks:
            continue
        quantiser = written.get(product.input[0])
        cast = only_reader(product.output[0], "Cast")
        scaling = only_reader(cast.output[0], "Mul") if cast is not None else None
        if quantiser is None or quantiser.op_type != "DynamicQuantizeLinear" or cast is None or scaling is None:
            continue
        other = next(name for name in scaling.input if name != cast.output[0])
        scales = written.get(other)
        if scales is None or scales.op_type != "Mul" or quantiser.output[1] not in scales.input:
            continue
        weights = next((name for name in scales.input if name != quantiser.output[1]), "")
        if list(product.input[2:3]) == [quantiser.output[2]] and weights:
            yield quantiser, product, cast, scaling, weights, ranks[product.input[1]]


def _float_product(w: Writer, quantiser: onnx.NodeProto, scale: str, rank: int) -> None:
    x = _dequantised(w, quantiser.output[0], quantiser.output[1], quantiser.output[2])
    number = w.add("Cast", [w.input(1)], to=onnx.TensorProto.FLOAT)
    per_kernel = w.node.op_type == "ConvInteger"

    def aligned(value: str) -> str:
        """One number a kernel, or one for all, so that it meets the first axis of a convolution's weights."""
        if not per_kernel:
            return value
        return w.add("Reshape", [value, w.constant(np.array([-1] + [1] * (rank - 1)))])

    if w.input(3):
        number = w.add("Sub", [number, aligned(w.add("Cast", [w.input(3)], to=onnx.TensorProto.FLOAT))])
    weights = w.add("Mul", [number, aligned(scale)])
    w.add(PRODUCTS[w.node.op_type], [x, weights], w.output, _own_name(w), **w.like_the_node())
