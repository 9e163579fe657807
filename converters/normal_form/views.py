"""Lay values out as maps (N, C, H, W), by nodes behind them that change no number: a slice, a transpose, a reshape.

Knows ONNX's protobuf.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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


def shapes_of(value: str, view: View, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The shapes of what a view's nodes give, by name, in order: the maps come last.

    Args:
        value: its name.
        view: of it.
        shape: of the value, for one image.
    """
    shapes, extents = [], list(shape)
    for op in _steps(view):
        if op == "Slice":
            extents[1] -= view.first
        elif op == "Transpose":
            extents = [extents[axis] for axis in view.order]
        else:
            extents = [extent or extents[axis] for axis, extent in enumerate(view.shape)]
        shapes.append(tuple(extents))
    return dict(zip(_names(value, view), shapes, strict=True))


def _steps(view: View) -> list[str]:
    """The operators of a view."""
    return ["Slice"] * bool(view.first) + ["Transpose"] * bool(view.order) + ["Reshape"] * bool(view.shape)


def _names(value: str, view: View) -> list[str]:
    """What they give: the maps' own name comes last."""
    last = value + view.suffix
    return [*(f"{last}::{place}" for place in range(len(_steps(view)) - 1)), last]


def _nodes(graph: onnx.GraphProto, value: str, view: View) -> Iterator[onnx.NodeProto]:
    constants: dict[str, dict[str, list[int]]] = {  # of each operator, by name of the input
        "Slice": {"starts": [view.first], "ends": [END], "axes": [1]},
        "Transpose": {},
        "Reshape": {"shape": list(view.shape)},
    }
    source = value
    for op, name in zip(_steps(view), _names(value, view), strict=True):
        inputs = [source]
        for constant, numbers in constants[op].items():
            inputs.append(f"{name}::{constant}")
            graph.initializer.append(onnx.numpy_helper.from_array(np.array(numbers, np.int64), inputs[-1]))
        node = onnx.helper.make_node(op, inputs, [name], name=f"{name}::{op}")
        if op == "Transpose":
            node.attribute.append(onnx.helper.make_attribute("perm", list(view.order)))
        yield node
        source = name
