"""Lay values out as maps (N, C, H, W), by nodes behind them that change no number: a slice, a transpose, a reshape.

Knows ONNX's protobuf.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

END = int(np.iinfo(np.int64).max)  # of a slice: to the last


@dataclass(frozen=True, slots=True)
class View:
    """How a value's numbers become maps."""

    suffix: str = ""  # of the maps' name; "": the value itself holds maps
    order: tuple[int, ...] = ()  # of its axes, for a transpose; (): as they are
    first: int = 0  # tokens that stand before those of the image, and are left out
    shape: tuple[int, ...] = ()  # to which it is reshaped, 0 for an axis that stays; (): as it is


def add_views(proto: onnx.ModelProto, views: Mapping[str, View]) -> None:
    """Add nodes, in place, that give the maps of some values, each under the value's name and the view's suffix."""
    for value, view in views.items():
        proto.graph.node.extend(_nodes(proto.graph, value, view))


def _nodes(graph: onnx.GraphProto, value: str, view: View) -> Iterator[onnx.NodeProto]:
    steps: list[tuple[str, dict[str, int]]] = []  # operators, and their constant inputs by name
    if view.first:
        steps.append(("Slice", {"starts": view.first, "ends": END, "axes": 1}))
    if view.order:
        steps.append(("Transpose", {}))
    if view.shape:
        steps.append(("Reshape", {"shape": 0}))
    source = value
    for place, (op, constants) in enumerate(steps):
        name = value + view.suffix if place == len(steps) - 1 else f"{value}{view.suffix}::{place}"
        inputs = [source]
        for constant, number in constants.items():
            numbers = list(view.shape) if constant == "shape" else [number]
            inputs.append(f"{name}::{constant}")
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(numbers, np.int64), inputs[-1]))
        attributes = [onnx.helper.make_attribute("perm", list(view.order))] if op == "Transpose" else []
        node = onnx.helper.make_node(op, inputs, [name], name=f"{name}::{op}")
        node.attribute.extend(attributes)
        yield node
        source = name
