"""Operators that answer true or false for each element."""

from typing import TYPE_CHECKING

import torch

from filterscope.converters.torch_import.ops.arithmetic import elementwise
from filterscope.converters.torch_import.ops.common import attributes, bind

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult


def less(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, elementwise, by=torch.lt)


def greater(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, elementwise, by=torch.gt)


def equal(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, elementwise, by=torch.eq)


def greater_or_equal(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, elementwise, by=torch.ge)


def less_or_equal(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, elementwise, by=torch.le)


def is_nan(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, torch.isnan)


def is_inf(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    attrs = attributes(node)
    positive, negative = bool(attrs.get("detect_positive", 1)), bool(attrs.get("detect_negative", 1))
    return bind(node, graph, _is_inf, positive=positive, negative=negative)


def _is_inf(x: torch.Tensor, *, positive: bool, negative: bool) -> torch.Tensor:
    return torch.isinf(x) & ((x > 0) & positive | (x < 0) & negative)
