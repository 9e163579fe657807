"""Rewrite the fused operators of models that ONNX Runtime's optimiser saved in standard ones.

Formulas: ONNX Runtime's ContribOperators.md. Works on protobuf.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from filterscope.converters.errors import ModelError
from filterscope.converters.rewrites.rewriting import Rule, Writer, bodies, listed, rewrite

MS = "com.microsoft"
FOR_ONE_PROCESSOR = "com.microsoft.nchwc"


def write_out_fused(model: onnx.ModelProto) -> list[str]:
    """Rewrite each fused operator in standard ones, in place.

    Returns:
        Notes, a sentence each.

    Raises:
        ModelError: weights stand in an order that only one kind of processor reads.
    """
    for body in bodies(model):
        if any(node.domain == FOR_ONE_PROCESSOR for node in body.node):
            raise ModelError(
                "it was optimised for one kind of processor, its weights rearranged (operators of "
                f"{FOR_ONE_PROCESSOR}); give the model as it was before that optimisation"
            )
    done = rewrite(model, RULES)
    return [f"Fused operators were written out: {listed(done)}."] if done else []


def _activate(w: Writer, x: str, name: str, parameters: list[float]) -> None:
    """The activation that a fused operator ends in."""
    if name == "Clip":
        low, high = (w.constant(np.float32(limit)) for limit in parameters)
        w.add("Clip", [x, low, high], w.output)
    else:
        names = {"LeakyRelu": ["alpha"], "HardSigmoid": ["alpha", "beta"], "Elu": ["alpha"]}.get(name, [])
        attributes: dict[str, Any] = dict(zip(names, parameters, strict=False))
        w.add(name, [x], w.output, **attributes)


def _fused_conv(w: Writer) -> None:
    """x, w, b and z: activation(conv(x, w) + b + z)."""
    activation, z = w.attributes.get("activation", b"").decode(), w.input(3)
    plain = w.like_the_node("activation", "activation_params")
    output = w.fresh(f"{w.output}::Conv") if activation or z else w.output
    y = w.add("Conv", [w.input(0), w.input(1), w.input(2)], output, w.node.name, **plain)
    if z:
        y = w.add("Add", [y, z], "" if activation else w.output)
    if activation:
        _activate(w, y, activation, list(w.attributes.get("activation_params", [])))


def _fused_gemm(w: Writer) -> None:
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    plain = w.like_the_node("activation", *names)
    y = w.add("Gemm", w.node.input, "", w.node.name, **plain)
    activation = w.attributes["activation"].decode()
    _activate(w, y, activation, [w.attributes[name] for name in names if name in w.attributes])


def _fused_matmul(w: Writer) -> None:
    """alpha · a' b', of which the last two axes may be exchanged first, and the first with the last but one."""
    if w.attributes.get("transBatchA", 0) or w.attributes.get("transBatchB", 0):
        raise ModelError(f"{w.node.name}: FusedMatMul with transBatchA or transBatchB is not known")
    sides = []
    for index, flag in enumerate(("transA", "transB")):
        side = w.input(index)
        if w.attributes.get(flag, 0):  # the last two axes, whatever the rank
            side = _swapped(w, side)
        sides.append(side)
    alpha = w.attributes.get("alpha", 1.0)
    y = w.add("MatMul", sides, w.output if alpha == 1 else "", w.node.name)
    if alpha != 1:
        w.add("Mul", [y, w.constant(np.float32(alpha))], w.output)


def _swapped(w: Writer, value: str) -> str:
    """The last two axes exchanged: folded into three, since a Transpose names all axes and the rank is not known."""
    shape = w.add("Shape", [value])
    ends = [w.constant(np.array([index])) for index in (-2, -1)]
    rows, columns = (w.add("Gather", [shape, end], axis=0) for end in ends)
    stacked = w.add("Reshape", [value, w.add("Concat", [w.constant(np.array([-1])), rows, columns], axis=0)])
    turned = w.add("Transpose", [stacked], perm=[0, 2, 1])
    zero, last = w.constant(np.array([0])), w.constant(np.array([-2]))
    batch = w.add("Slice", [shape, zero, last])
    return w.add("Reshape", [turned, w.add("Concat", [batch, columns, rows], axis=0)])


def _gelu(w: Writer) -> None:
    w.add("Gelu", [w.input(0)], w.output, w.node.name)


def _bias_gelu(w: Writer) -> None:
    w.add("Gelu", [w.add("Add", [w.input(0), w.input(1)])], w.output, w.node.name)


def _fast_gelu(w: Writer) -> None:
    x = w.add("Add", [w.input(0), w.input(1)]) if w.input(1) else w.input(0)
    w.add("Gelu", [x], w.output, w.node.name, approximate="tanh")


def _quick_gelu(w: Writer) -> None:
    scaled = w.add("Mul", [w.input(0), w.constant(np.float32(w.attributes.get("alpha", 1.702)))])
    w.add("Mul", [w.input(0), w.add("Sigmoid", [scaled])], w.output, w.node.name)


def _root_mean_square(w: Writer, x: str, scale: str, output: str) -> None:
    """x divided by the root of its mean square over the last axis or the axes from `axis` on, then scaled."""
    axes = w.constant(np.array([w.attributes.get("axis", -1)]))
    mean = w.add("ReduceMean", [w.add("Mul", [x, x]), axes])
    epsilon = w.constant(np.float32(w.attributes.get("epsilon", 1e-5)))
    root = w.add("Sqrt", [w.add("Add", [mean, epsilon])])
    w.add("Mul", [w.add("Div", [x, root]), scale], output, w.node.name)


def _simplified_layer_normalization(w: Writer) -> None:
    _root_mean_square(w, w.input(0), w.input(1), w.output)


def _sum_of_skip(w: Writer, bias: str) -> str:
    outputs = w.node.output
    shown = outputs[3] if len(outputs) > 3 else ""
    total = w.add("Add", [w.input(0), w.input(1)], "" if bias else shown)
    return w.add("Add", [total, bias], shown) if bias else total


def _skip_layer_normalization(w: Writer) -> None:
    """input, skip, gamma, beta, bias: the normalised sum, and as the fourth output the sum."""
    total = _sum_of_skip(w, w.input(4))
    epsilon = w.attributes.get("epsilon", 1e-12)
    w.add("LayerNormalization", [total, w.input(2), w.input(3)], w.output, w.node.name, axis=-1, epsilon=epsilon)


def _skip_simplified_layer_normalization(w: Writer) -> None:
    _root_mean_square(w, _sum_of_skip(w, w.input(3)), w.input(2), w.output)


def _nhwc_max_pool(w: Writer) -> None:
    x = w.add("Transpose", [w.input(0)], perm=[0, 3, 1, 2])
    pooled = w.add("MaxPool", [x], "", w.node.name, **w.like_the_node())
    w.add("Transpose", [pooled], w.output, perm=[0, 2, 3, 1])


RULES: dict[tuple[str, str], Rule] = {
    (MS, "FusedConv"): _fused_conv,
    (MS, "FusedGemm"): _fused_gemm,
    (MS, "FusedMatMul"): _fused_matmul,
    (MS, "TransposeMatMul"): _fused_matmul,
    (MS, "Gelu"): _gelu,
    (MS, "BiasGelu"): _bias_gelu,
    (MS, "FastGelu"): _fast_gelu,
    (MS, "QuickGelu"): _quick_gelu,
    ("", "SimplifiedLayerNormalization"): _simplified_layer_normalization,
    (MS, "SkipLayerNormalization"): _skip_layer_normalization,
    (MS, "SkipSimplifiedLayerNormalization"): _skip_simplified_layer_normalization,
    (MS, "NhwcMaxPool"): _nhwc_max_pool,
}
