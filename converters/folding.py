"""A BatchNorm or a bias that follows a convolution goes into it.

Works on onnx-ir graphs; knows nothing of files. Exact: comparison A (converters.parity) proves it each time.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.batch import constant, initializer

CONVOLUTIONS = ("Conv", "ConvTranspose")
DEFAULT_EPSILON = 1e-5  # BatchNormalization's, by the ONNX specification


def fold_into_convolutions(model: ir.Model) -> tuple[list[str], frozenset[str]]:
    """Fold a BatchNormalization, or a bias that stands apart, into the convolution before it.

    Only where the convolution feeds nothing else. Its output takes over the name of the value it now computes, so
    that the value can still be found in the original file.

    Returns:
        Notes, a sentence each, and the names of the nodes into which a BatchNormalization went.
    """
    folded: dict[str, int] = {}
    normalised: set[str] = set()
    for node in list(model.graph):
        if node.op_type not in CONVOLUTIONS or node.domain:
            continue
        while (follower := _only_consumer(node)) is not None:
            affine = _affine(follower, node)
            if affine is None:
                break
            _apply(model, node, follower, *affine)
            folded[follower.op_type] = folded.get(follower.op_type, 0) + 1
            if follower.op_type == "BatchNormalization":
                normalised.add(str(node.name))
    notes = []
    if "BatchNormalization" in folded:
        notes.append(f"{folded['BatchNormalization']} BatchNorms were folded into the convolution before them.")
    if "Add" in folded:
        notes.append(f"{folded['Add']} biases that stood apart were folded into their convolution.")
    return notes, frozenset(normalised)


def _only_consumer(node: ir.Node) -> ir.Node | None:
    output = node.outputs[0]
    consumers = output.consumers()
    if output.is_graph_output() or len(consumers) != 1 or len(output.uses()) != 1:
        return None
    return consumers[0]


def _affine(follower: ir.Node, conv: ir.Node) -> tuple[np.ndarray, np.ndarray] | None:
    """Scale and shift, each (C,) float64, that `follower` applies to each output channel of `conv`; else None."""
    weight = constant(conv.inputs[1])
    if weight is None or (_bias(conv) is None and len(conv.inputs) > 2 and conv.inputs[2] is not None):
        return None
    channels = _output_channels(conv, weight)
    if follower.op_type == "BatchNormalization":
        return _batch_norm(follower, conv, channels)
    if follower.op_type == "Add" and _bias(conv) is None:
        return _separate_bias(follower, conv, channels, weight.ndim)
    return None


def _batch_norm(follower: ir.Node, conv: ir.Node, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
    training = follower.attributes.get("training_mode")
    if follower.inputs[0] is not conv.outputs[0] or (training is not None and training.as_int() == 1):
        return None
    parameters = [constant(value) for value in follower.inputs[1:5]]
    if any(array is None or array.shape != (channels,) for array in parameters):
        return None
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in parameters)
    attribute = follower.attributes.get("epsilon")
    epsilon = DEFAULT_EPSILON if attribute is None else attribute.as_float()
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale


def _separate_bias(follower: ir.Node, conv: ir.Node, channels: int, rank: int) -> tuple[np.ndarray, np.ndarray] | None:
    other = follower.inputs[1] if follower.inputs[0] is conv.outputs[0] else follower.inputs[0]
    bias = constant(other)
    if bias is None or bias.ndim > rank:
        return None
    aligned = bias.reshape((1,) * (rank - bias.ndim) + bias.shape)
    if aligned.shape not in {(1, channels) + (1,) * (rank - 2), (1,) * rank}:
        return None
    return np.ones(channels), np.broadcast_to(aligned.reshape(-1).astype(np.float64), (channels,))


def _bias(conv: ir.Node) -> np.ndarray | None:
    return constant(conv.inputs[2]) if len(conv.inputs) > 2 else None


def _output_channels(conv: ir.Node, weight: np.ndarray) -> int:
    group = conv.attributes.get("group")
    groups = 1 if group is None else group.as_int()
    return int(weight.shape[0] if conv.op_type == "Conv" else weight.shape[1] * groups)


def _apply(model: ir.Model, conv: ir.Node, follower: ir.Node, scale: np.ndarray, shift: np.ndarray) -> None:
    weight, bias = constant(conv.inputs[1]), _bias(conv)
    assert weight is not None
    if conv.op_type == "Conv":
        scaled = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    else:  # (C_in, C_out / groups, …): input channels of group g meet output channels of group g
        groups = len(scale) // weight.shape[1]
        by_group = weight.reshape(groups, -1, *weight.shape[1:]).astype(np.float64)
        factors = scale.reshape(groups, 1, weight.shape[1], *(1,) * (weight.ndim - 2))
        scaled = (by_group * factors).reshape(weight.shape)
    old = np.zeros(len(scale)) if bias is None else bias.astype(np.float64)
    output = follower.outputs[0]
    name = output.name
    conv.replace_input_with(1, initializer(model, f"{name}_kernel_folded", scaled.astype(weight.dtype)))
    if len(conv.inputs) < 3:
        conv.resize_inputs(3)
    shifted = (old * scale + shift).astype(weight.dtype)
    conv.replace_input_with(2, initializer(model, f"{name}_bias_folded", shifted))
    result = conv.outputs[0]
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    model.graph.remove(follower, safe=True)
    result.name = name
    result.shape, result.type = output.shape, output.type
