"""Values of an onnx-ir model: read constants, add initializers, insert nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir


def insert_node(
    model: ir.Model,
    before: ir.Node,
    op: str,
    inputs: Sequence[ir.Value | None],
    *,
    attributes: dict[str, int] | None = None,
) -> ir.Value:
    """Insert a new node before another; returns its output."""
    node = ir.node(op, inputs, attributes)
    model.graph.insert_before(before, node)
    return node.outputs[0]


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of a constant value; None for an absent value and for a computed one."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def initializer(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    """Add an initializer to the graph, under this name or one like it; returns its value."""
    unique, index = name, 1
    while unique in model.graph.initializers:
        unique, index = f"{name}_{index}", index + 1
    value = ir.Value(name=unique, const_value=ir.tensor(array, name=unique))
    value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)
    model.graph.register_initializer(value)
    return value
