"""Normalisations: each says over which elements mean and variance are taken.

BatchNormalization at inference is one multiply and one add per channel. It is written so, and not as torch's own
function, because the input gradient of torch 2.13's eval-mode batch_norm on CPU is wrong (relative error above 1) when
the incoming gradient is NHWC-strided and the input is not.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from filterscope.converters.torch_import.ops.common import attributes, bind, constant, result, single_output

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult


class ChannelAffine(nn.Module):
    """x · scale + shift, one number each per channel; both are buffers of shape (C,)."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, scale: torch.Tensor, shift: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(_per_channel(self.shift, x), x, _per_channel(self.scale, x))


def batch_normalization(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    epsilon = attributes(node).get("epsilon", 1e-5)
    if attributes(node).get("training_mode", 0):
        momentum = attributes(node).get("momentum", 0.9)
        outputs = len(node.output_values)
        return bind(node, graph, _batch_statistics, epsilon=epsilon, momentum=momentum, outputs=outputs)
    single_output(node)
    constants = [constant(node, graph, position) for position in range(1, 5)]
    if any(value is None for value in constants):
        return bind(node, graph, _batch_normalization, epsilon=epsilon)
    gamma, beta, mean, variance = (value.double() for value in constants if value is not None)
    scale = gamma / torch.sqrt(variance + epsilon)
    dtype = constants[0].dtype if constants[0] is not None else torch.float32
    module = ChannelAffine(scale.to(dtype), (beta - mean * scale).to(dtype))
    return result(node, module, node.input_values[:1])


def _batch_normalization(
    x: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    *,
    epsilon: float,
) -> torch.Tensor:
    scale = gamma / torch.sqrt(variance + epsilon)
    return x * _per_channel(scale, x) + _per_channel(beta - mean * scale, x)


def _batch_statistics(
    x: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    *,
    epsilon: float,
    momentum: float,
    outputs: int,
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """Training mode: normalised by the batch's own statistics; weight standardisation is exported in this form."""
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    batch_mean, batch_variance = x.mean(dim=axes), x.var(dim=axes, correction=0)
    y = _batch_normalization(x, gamma, beta, mean=batch_mean, variance=batch_variance, epsilon=epsilon)
    running_mean = mean * momentum + batch_mean * (1 - momentum)
    running_variance = variance * momentum + batch_variance * (1 - momentum)
    return y if outputs == 1 else (y, running_mean, running_variance)[:outputs]


def instance_normalization(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _instance_normalization, epsilon=attributes(node).get("epsilon", 1e-5))


def _instance_normalization(
    x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, *, epsilon: float
) -> torch.Tensor:
    return F.group_norm(x, x.shape[1], gamma, beta, eps=epsilon)


def group_normalization(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    groups = attributes(node)["num_groups"]
    return bind(node, graph, _group_normalization, groups=groups, epsilon=attributes(node).get("epsilon", 1e-5))


def _group_normalization(
    x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, *, groups: int, epsilon: float
) -> torch.Tensor:
    return F.group_norm(x, groups, gamma, beta, eps=epsilon)


def layer_normalization(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    attrs = attributes(node)
    return bind(
        node,
        graph,
        _layer_normalization,
        axis=attrs.get("axis", -1),
        epsilon=attrs.get("epsilon", 1e-5),
        outputs=len(node.output_values),
    )


def _layer_normalization(
    x: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor | None = None,
    *,
    axis: int,
    epsilon: float,
    outputs: int,
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    first = axis % x.ndim
    shape = x.shape[first:]
    if outputs == 1 and gamma.shape == shape and (beta is None or beta.shape == shape):
        return F.layer_norm(x, shape, gamma, beta, eps=epsilon)
    axes = tuple(range(first, x.ndim))
    mean = x.mean(dim=axes, keepdim=True)
    inverse = torch.rsqrt(x.var(dim=axes, correction=0, keepdim=True) + epsilon)
    y = (x - mean) * inverse * gamma
    return (
        (y if beta is None else y + beta, mean, inverse)[:outputs] if outputs > 1 else y if beta is None else y + beta
    )


def lp_normalization(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    axis, p = attributes(node).get("axis", -1), attributes(node).get("p", 2)
    return bind(node, graph, _lp_normalization, axis=axis, p=p)


def _lp_normalization(x: torch.Tensor, *, axis: int, p: int) -> torch.Tensor:
    norm = torch.linalg.vector_norm(x, p, dim=axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / torch.where(norm == 0, torch.ones_like(norm), norm))


def mean_variance_normalization(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _mean_variance_normalization, axes=tuple(attributes(node).get("axes", (0, 2, 3))))


def _mean_variance_normalization(x: torch.Tensor, *, axes: tuple[int, ...]) -> torch.Tensor:
    centred = x - x.mean(dim=axes, keepdim=True)
    return centred / (torch.sqrt(centred.square().mean(dim=axes, keepdim=True)) + 1e-9)


def _per_channel(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(C,) in the shape that broadcasts along axis 1 of `x`."""
    return values.reshape(-1, *[1] * (x.ndim - 2))
