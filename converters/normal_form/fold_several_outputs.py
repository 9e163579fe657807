"""Fold nodes of constants that have several outputs, which onnxscript's optimiser leaves alone.

A weight-standardised convolution (Qiao et al. 2019) is exported with a BatchNormalization of its kernel in training
mode, which has three outputs; a packed kernel with a Split. Works on onnx-ir graphs; knows nothing of layers.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from filterscope.converters.normal_form.fold_limits import FoldLimits
from filterscope.converters.normal_form.ir_values import constant, initializer

OPERATORS = ("BatchNormalization", "DynamicQuantizeLinear", "Split")


def fold_several_outputs(model: ir.Model, sizes: FoldLimits) -> int:
    """Replace such nodes by their results; returns how many were folded."""
    folded = 0
    for node in list(model.graph):
        if node.domain or node.op_type not in OPERATORS:
            continue
        if all(value is None or constant(value) is not None for value in node.inputs):
            sizes.check(node)
            _fold(model, node)
            folded += 1
    return folded


def _fold(model: ir.Model, node: ir.Node) -> None:
    for value, array in zip(node.outputs, _evaluated(model, node), strict=True):
        if value.is_graph_output():
            continue
        value.replace_all_uses_with(initializer(model, f"{value.name}_folded", array))
    if not any(value.uses() or value.is_graph_output() for value in node.outputs):
        model.graph.remove(node, safe=True)


def _evaluated(model: ir.Model, node: ir.Node) -> list[np.ndarray]:
    """The node's outputs, by ONNX Runtime."""
    import onnxruntime as ort

    inputs = [value for value in node.inputs if value is not None]
    unique = list({value.name: value for value in inputs}.values())
    arrays = {value.name: np.asarray(constant(value)) for value in unique}
    graph_inputs = [
        ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.from_numpy(array.dtype)))
        for name, array in arrays.items()
    ]
    by_name = {value.name: value for value in graph_inputs}
    copy = ir.Node(
        "",
        node.op_type,
        [None if value is None else by_name[value.name] for value in node.inputs],
        list(node.attributes.values()),
        outputs=[ir.Value(name=value.name) for value in node.outputs],
    )
    graph = ir.Graph(graph_inputs, copy.outputs, nodes=[copy], opset_imports=dict(model.graph.opset_imports))
    proto = ir.to_proto(ir.Model(graph, ir_version=model.ir_version))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"], enable_fallback=0)
    answers: list[np.ndarray] = session.run(None, arrays)
    return answers
