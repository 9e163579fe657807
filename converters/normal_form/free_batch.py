"""The batch dimension, made free in a network that was exported for one batch size.

Exporters write the size that they saw into constants: the targets of Reshape, Expand and Resize, constants to be
joined with the data, first states of recurrent layers. Works on onnx-ir graphs. Whether the mended network is the old
one is not known here: comparison A (converters.parity) proves it each time. Where no other size can be put in the
file's place, since kernels are made from the picture or pictures are mixed, the size stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from filterscope.converters.normal_form.ir_values import constant, initializer, inserted
from filterscope.converters.operator_facts import Broadcasting, Kind, operators

BROADCAST = operators(  # operators that repeat an axis of length 1 by themselves
    lambda facts: facts.broadcasting is not Broadcasting.NONE or facts.kind is Kind.LOGIC
)
STATES = {"RNN": (5,), "GRU": (5,), "LSTM": (5, 6)}  # inputs with the first states


def free_batch(model: ir.Model, name: str) -> list[str]:
    """Give the input's first dimension a name, and mend the constants that hold the size that it had.

    Returns:
        Notes, a sentence each.
    """
    image = model.graph.inputs[0]
    if image.shape is None or not len(image.shape):
        return []
    batch = image.shape[0]
    image.shape = ir.Shape([name, *image.shape[1:]])
    if not isinstance(batch, int) or batch < 1:
        return []
    mended = 0
    for node in list(model.graph):
        mend = MENDS.get(node.op_type)
        if mend is not None and not node.domain:
            mended += mend(model, node, batch)
    for node in model.graph:
        for value in node.outputs:  # inferred for the old size; what is folded next must not believe it
            value.shape = None
    note = f"The batch dimension, fixed at {batch} in the file, was made free"
    return [f"{note} ({mended} nodes mended)." if mended else f"{note}."]


def fix_batch(model: ir.Model, batch: int) -> None:
    """Have the input take so many pictures and no other number."""
    image = model.graph.inputs[0]
    if image.shape is not None and len(image.shape):
        image.shape = ir.Shape([batch, *image.shape[1:]])


def _reshape(model: ir.Model, node: ir.Node, batch: int) -> bool:
    """A target's first number becomes −1, "the rest", or where −1 stands elsewhere 0, "as the input's"."""
    target = _extents(node.inputs[1])
    if target is None or not target.size or target[0] < 1 or target[0] % batch:
        return False
    freed = target.copy()
    known = _known_shape(node.inputs[0])
    extents = None if node.inputs[0] is None else node.inputs[0].shape
    first = extents[0] if extents else None
    if -1 not in target:
        freed[0] = -1
    elif target[0] == batch and not (isinstance(first, int) and first != batch):  # a bias has its channels there
        freed[0] = 0
    elif known is not None and 0 not in target:
        freed[target == -1] = known.prod() // -target.prod()
        freed[0] = -1
    else:
        return False
    node.replace_input_with(1, initializer(model, f"{node.name}_target", freed))
    node.attributes.pop("allowzero", None)
    return True


def _expand(model: ir.Model, node: ir.Node, batch: int) -> bool:
    target = _extents(node.inputs[1])
    if target is None or not target.size or target[0] != batch:
        return False
    node.replace_input_with(1, with_batch(model, node, target[1:]))
    return True


def _resize(model: ir.Model, node: ir.Node, batch: int) -> bool:
    """Sizes of all axes become sizes of all but the first."""
    sizes = _extents(node.inputs[3]) if len(node.inputs) > 3 else None
    if sizes is None or not sizes.size or sizes[0] != batch or "axes" in node.attributes:
        return False
    node.replace_input_with(3, initializer(model, f"{node.name}_sizes", sizes[1:]))
    node.attributes["axes"] = ir.AttrInt64s("axes", range(1, len(sizes)))
    roi = constant(node.inputs[1])
    if roi is not None and roi.size == 2 * len(sizes):  # begins of all axes, then ends
        kept = roi.reshape(2, -1)[:, 1:].reshape(-1)
        node.replace_input_with(1, initializer(model, f"{node.name}_roi", kept))
    return True


def _concat(model: ir.Model, node: ir.Node, batch: int) -> bool:
    """A constant that is joined to each picture's data, the class token of a transformer, is repeated for each."""
    if node.attributes["axis"].as_int() == 0:
        return False
    mended = False
    for index, value in enumerate(node.inputs):
        array = constant(value)
        if array is None or not array.ndim or array.shape[0] != batch or not (array == array[:1]).all():
            continue
        one = initializer(model, f"{node.name}_{index}", array[:1])
        target = with_batch(model, node, np.array(array.shape[1:], np.int64))
        node.replace_input_with(index, inserted(model, node, "Expand", [one, target]))
        mended = True
    return mended


def _broadcast(model: ir.Model, node: ir.Node, batch: int) -> bool:
    """A constant that stands once for each picture, the same each time, stands once for all."""
    shape = node.outputs[0].shape
    if batch == 1 or shape is None or (node.op_type == "MatMul" and len(shape) < 3):
        return False
    mended = False
    for index, value in enumerate(node.inputs):
        array = constant(value)
        if array is None or array.ndim != len(shape) or len(array) != batch or not (array == array[:1]).all():
            continue
        node.replace_input_with(index, initializer(model, f"{node.name}_{index}", array[:1]))
        mended = True
    return mended


def _recurrent(model: ir.Model, node: ir.Node, batch: int) -> bool:
    """First states of zero are what an absent input means."""
    mended = False
    for index in STATES[node.op_type]:
        state = constant(node.inputs[index]) if len(node.inputs) > index else None
        if state is not None and not state.any():
            node.replace_input_with(index, None)
            mended = True
    return mended


MENDS: dict[str, Callable[[ir.Model, ir.Node, int], bool]] = {  # each tells whether there was something to mend
    **dict.fromkeys(BROADCAST, _broadcast),
    "Reshape": _reshape,
    "Expand": _expand,
    "Resize": _resize,
    "Concat": _concat,
    **dict.fromkeys(STATES, _recurrent),
}


def with_batch(model: ir.Model, node: ir.Node, rest: np.ndarray) -> ir.Value:
    """The shape (N, *rest), N taken from the network's input at run time."""
    batch = inserted(model, node, "Shape", [model.graph.inputs[0]], {"start": 0, "end": 1})
    others = initializer(model, f"{node.name}_extents", rest.astype(np.int64))
    return inserted(model, node, "Concat", [batch, others], {"axis": 0})


def _known_shape(value: ir.Value | None) -> np.ndarray | None:
    extents = None if value is None or value.shape is None else list(value.shape)
    if extents is None or not all(isinstance(extent, int) for extent in extents):
        return None
    return np.array(extents, np.int64)


def _extents(value: ir.Value | None) -> np.ndarray | None:
    """A constant list of extents; None for another constant, which no such input takes."""
    array = constant(value)
    return array if array is not None and array.ndim == 1 else None
