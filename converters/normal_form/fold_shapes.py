"""Fold the known extents of a shape whose other extents are free.

Exporters read a channel count with Shape and Gather or Slice; with a free batch dimension the optimiser leaves most
of these alone, and the branches that they decide with them. Works on onnx-ir graphs.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from filterscope.converters.normal_form.ir_values import constant, initializer


def fold_shape_extents(model: ir.Model) -> int:
    """Fold Gather and Slice of a Shape where the extents that they select are known; returns how many."""
    folded = 0
    for node in list(model.graph):
        if node.op_type not in ("Gather", "Slice") or node.domain or node.inputs[0] is None:
            continue
        extents = _extents(node.inputs[0].producer())
        selected = None if extents is None else _selected(node, extents)
        if selected is None or not all(isinstance(extent, int) for extent in selected.reshape(-1)):
            continue
        output = node.outputs[0]
        extent_constant = initializer(model, f"{output.name}_known", selected.astype(np.int64))
        output.replace_all_uses_with(extent_constant, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
        folded += 1
    return folded


def infer_reshape_targets(model: ir.Model) -> int:
    """Declare the constant extents of a Reshape's target where others of it are computed; returns how many were new.

    Exporters join a batch size that they read with a channel count that they know. The optimiser, which cannot work
    out the first, forgets the second, and with it what decides a branch behind.
    """
    news = 0
    for node in model.graph:
        if node.op_type != "Reshape" or node.domain or node.inputs[1] is None:
            continue
        target = _joined(node.inputs[1].producer())
        output = node.outputs[0]
        if target is None or (output.shape is not None and len(output.shape) != len(target)):
            continue
        before = [None] * len(target) if output.shape is None else list(output.shape)
        spelt = [old if isinstance(old, int) else new for old, new in zip(before, target, strict=True)]
        if any(isinstance(new, int) and not isinstance(old, int) for old, new in zip(before, spelt, strict=True)):
            output.shape = ir.Shape([extent if isinstance(extent, int) else None for extent in spelt])
            news += 1
    return news


def _joined(node: ir.Node | None) -> list[int | None] | None:
    """The extents that a Concat joins: None for a computed one, and for 0 and −1, which are no extents."""
    if node is None or node.op_type != "Concat" or node.domain:
        return None
    extents: list[int | None] = []
    for value in node.inputs:
        array = constant(value)
        if array is not None:
            extents.extend(int(extent) if extent > 0 else None for extent in array.reshape(-1))
        elif value is not None and value.shape is not None and list(value.shape) == [1]:
            extents.append(None)
        else:
            return None
    return extents


def _extents(node: ir.Node | None) -> np.ndarray | None:
    """The extents that a Shape node returns, one per axis: an int where it is known."""
    if node is None or node.op_type != "Shape" or node.domain or node.inputs[0] is None or node.inputs[0].shape is None:
        return None
    start, end = (node.attributes.get(name) for name in ("start", "end"))
    chosen = slice(None if start is None else start.as_int(), None if end is None else end.as_int())
    shape = list(node.inputs[0].shape)[chosen]
    extents = np.empty(len(shape), object)
    extents[:] = shape
    return extents


def _selected(node: ir.Node, extents: np.ndarray) -> np.ndarray | None:
    numbers = [array for value in node.inputs[1:] if (array := constant(value)) is not None]
    if len(numbers) < len(node.inputs) - 1:  # some are computed, or left out
        return None
    if node.op_type == "Gather":
        indices = numbers[0]
        if not ((-len(extents) <= indices) & (indices < len(extents))).all():
            return None
        return np.asarray(extents[indices], object)
    start, end, step = [int(array.reshape(-1)[0]) for array in (*numbers[:2], *numbers[3:], np.ones(1))][:3]
    return extents[start:end:step]
