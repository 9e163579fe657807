"""Activations: functions of each element by itself, and Clip, whose bounds may be computed.

Clip between 0 and 6, and from 0 upwards, becomes torch's fused ReLU6 and ReLU: on a MobileNet a gradient step through
clamp with bounds takes half as long again.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from filterscope.converters.torch_import.ops.common import attributes, bind, constant, present, result

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult

_LARGEST = torch.finfo(torch.float32).max  # exporters write "no upper bound" as this number


def clip(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    low, high = constant(node, graph, 1), constant(node, graph, 2)
    if low is not None and low.is_floating_point() and low.item() == 0.0:
        if high is not None and high.item() == 6.0:
            return result(node, nn.ReLU6(), node.input_values[:1])
        if not present(node, 2) or (high is not None and high.item() >= _LARGEST):
            return result(node, nn.ReLU(), node.input_values[:1])
    return bind(node, graph, _clamp, numbers=(1, 2))


def _clamp(x: torch.Tensor, low: float | None = None, high: float | None = None) -> torch.Tensor:
    return x if low is None and high is None else torch.clamp(x, low, high)


def gelu(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, F.gelu, approximate=attributes(node).get("approximate", "none"))


def hard_sigmoid(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    alpha, beta = attributes(node).get("alpha", 0.2), attributes(node).get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return bind(node, graph, F.hardsigmoid)
    return bind(node, graph, _hard_sigmoid, alpha=alpha, beta=beta)


def _hard_sigmoid(x: torch.Tensor, *, alpha: float, beta: float) -> torch.Tensor:
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def hard_swish(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, F.hardswish)


def elu(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, F.elu, alpha=attributes(node).get("alpha", 1.0))


def selu(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    alpha = attributes(node).get("alpha", 1.67326319217681884765625)
    gamma = attributes(node).get("gamma", 1.05070102214813232421875)
    return bind(node, graph, _selu, alpha=alpha, gamma=gamma)


def _selu(x: torch.Tensor, *, alpha: float, gamma: float) -> torch.Tensor:
    return gamma * F.elu(x, alpha)


def celu(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, F.celu, alpha=attributes(node).get("alpha", 1.0))


def mish(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, F.mish)


def softplus(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, F.softplus)


def softsign(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, F.softsign)


def thresholded_relu(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, F.threshold, threshold=attributes(node).get("alpha", 1.0), value=0.0)


def parametric_relu(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _parametric_relu)


def _parametric_relu(x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    return torch.where(x < 0, slope * x, x)


def shrink(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _shrink, limit=attributes(node).get("lambd", 0.5), bias=attributes(node).get("bias", 0.0))


def _shrink(x: torch.Tensor, *, limit: float, bias: float) -> torch.Tensor:
    inside = torch.where(x > limit, x - bias, torch.zeros_like(x))
    return torch.where(x < -limit, x + bias, inside)
