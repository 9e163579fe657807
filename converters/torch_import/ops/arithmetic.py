"""Arithmetic with ONNX's rules for integers, and the functions of one tensor that onnx2torch lacks.

torch computes on no unsigned integers wider than 8 bits; these go through int64 and back, which is exact below 2⁶³.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from filterscope.converters.torch_import.ops.common import attributes, bind

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult

Function = Callable[..., torch.Tensor]
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def elementwise(*operands: torch.Tensor, by: Function) -> torch.Tensor:
    """`by` of the operands, for wide unsigned integers by way of int64; an answer of truth values stays one."""
    dtype = operands[0].dtype
    if dtype not in _UNSIGNED:
        return by(*operands)
    answer = by(*(operand.long() for operand in operands))
    return answer if answer.dtype == torch.bool else answer.to(dtype)


def add(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, elementwise, by=torch.add)


def subtract(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, elementwise, by=torch.sub)


def multiply(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, elementwise, by=torch.mul)


def divide(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, elementwise, by=_divide)


def _divide(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")  # integers: as in C


def modulo(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    """The sign is the divisor's, or with fmod the dividend's."""
    return bind(node, graph, elementwise, by=torch.fmod if attributes(node).get("fmod", 0) else torch.remainder)


def power(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _power)


def _power(base: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Of the base's type, whatever the exponent's."""
    if base.is_floating_point():
        return torch.pow(base, exponent.to(base.dtype) if exponent.is_floating_point() else exponent)
    return torch.pow(base.double() if exponent.is_floating_point() else base, exponent).to(base.dtype)


def maximum(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, elementwise, by=_maximum)


def minimum(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, elementwise, by=_minimum)


def total(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _total)


def mean(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, _mean)


def _maximum(*operands: torch.Tensor) -> torch.Tensor:
    return functools.reduce(torch.maximum, operands)


def _minimum(*operands: torch.Tensor) -> torch.Tensor:
    return functools.reduce(torch.minimum, operands)


def _total(*operands: torch.Tensor) -> torch.Tensor:
    return functools.reduce(torch.add, operands)


def _mean(*operands: torch.Tensor) -> torch.Tensor:
    return functools.reduce(torch.add, operands) / len(operands)


def bit_shift(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    left = attributes(node)["direction"] == "LEFT"
    return bind(node, graph, elementwise, by=torch.bitwise_left_shift if left else torch.bitwise_right_shift)


def bitwise_and(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, elementwise, by=torch.bitwise_and)


def bitwise_or(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, elementwise, by=torch.bitwise_or)


def bitwise_xor(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, elementwise, by=torch.bitwise_xor)


def bitwise_not(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, elementwise, by=torch.bitwise_not)


def determinant(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, torch.linalg.det)


def acosh(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, torch.acosh)


def asinh(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, torch.asinh)


def atanh(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, torch.atanh)


def cosh(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, torch.cosh)


def sinh(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    return bind(node, graph, torch.sinh)
