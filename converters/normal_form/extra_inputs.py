"""Networks with several inputs: one takes the image, the others get arrays that become part of the model.

What each picture of a batch gets is the same. The model as it stood in the file repeats a fed array along the batch;
the normal form holds it once and repeats it only before an operator that needs that, so that what follows from fed
arrays alone folds away. Knows ONNX and onnx-ir; knows nothing of what the inputs mean.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from filterscope.converters.errors import SettingsError, setting
from filterscope.converters.normal_form.free_batch import BROADCAST, with_batch
from filterscope.converters.normal_form.ir_values import constant, initializer, insert_node
from filterscope.converters.onnx_file.model_file import ModelFile
from filterscope.converters.runtime import reads

FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
)


@dataclass(frozen=True, slots=True)
class Fed:
    """A model with one input left."""

    file: ModelFile
    repeated: tuple[str, ...]  # fed inputs that have a batch dimension


def feed_inputs(file: ModelFile, image: str | None = None, feeds: Mapping[str, np.ndarray] | None = None) -> Fed:
    """Make each input but the image's a part of the model.

    Args:
        file: the model.
        image: name of the input that takes the image; None: the only input, or of those not fed the only one of floats
            with four axes.
        feeds: what each other input gets, by name: with a batch dimension of 1 or with none.

    Raises:
        SettingsError: the image input is not clear, a name that no input has, an input without an array, or an array
            of another shape or kind.
    """
    feeds = feeds or {}
    inputs = _inputs(file.proto)
    read = {name for node in file.proto.graph.node for name in reads(node)}
    chosen = _image_input(file, inputs, image, read=read, fed=feeds)
    others = {name: value for name, value in inputs.items() if name != chosen}
    unread = {name for name in others if name not in feeds and name not in read}
    for name in feeds:
        if name not in others:
            why = "takes the image" if name == chosen else "is no input of the model"
            message = f"{setting('feed', name)}: {name!r} {why}; inputs: {_listed(inputs)}"
            raise SettingsError(message, field="feed", value=name)
    missing = next((name for name in others if name not in feeds and name not in unread), None)
    if missing is not None:
        raise SettingsError(
            f"{file.path}: input {_described(others[missing])} gets nothing; the image goes to {chosen!r}: "
            f"give {setting('feed', f'{missing}=FILE.npy')} with {_needed(others[missing])}",
            field="feed",
        )
    if not others:
        return Fed(file, ())
    proto = onnx.ModelProto()
    proto.CopyFrom(file.proto)
    proto.ir_version = max(proto.ir_version, 4)  # before 4, every initializer had to be an input too
    images = [value for value in proto.graph.input if value.name not in others]
    del proto.graph.input[:]
    proto.graph.input.extend(images)
    digest = hashlib.sha256(f"{file.sha256}\n{chosen}".encode())
    nodes: list[onnx.NodeProto] = []
    notes, repeated = [], []
    for name in sorted(set(others) - unread):
        array, batched = _fitting(others[name], inputs[chosen], feeds[name])
        digest.update(f"\n{name}\n{array.dtype}{array.shape}\n".encode() + array.tobytes())
        if batched:
            repeated.append(name)
            proto.graph.initializer.append(numpy_helper.from_array(array, _once(name)))
            nodes += _repeating(proto, name, chosen, array.ndim)
        else:
            proto.graph.initializer.append(numpy_helper.from_array(array, name))
        notes.append(f"Input {name} was fed {_summary(array)}; the image goes to {chosen}.")
    nodes += proto.graph.node
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    fed = replace(file, sha256=digest.hexdigest(), proto=proto, notes=(*file.notes, *notes))
    return Fed(fed, tuple(repeated))


def make_constant(model: ir.Model, repeated: tuple[str, ...]) -> frozenset[str]:
    """Make fed inputs constants of one picture; only a Shape node still sees them repeated along the batch.

    Returns:
        Names of all values that follow from fed inputs with a batch dimension and from constants alone.
    """
    batch = model.graph.inputs[0].shape
    count = batch[0] if batch is not None and len(batch) and isinstance(batch[0], int) else 1
    following = set(repeated)
    for node in list(model.graph):
        output = node.outputs[0]
        if output.name in repeated and node.op_type == "Tile":
            array = constant(node.inputs[0])
            assert array is not None  # `feed_inputs` wrote it
            once = initializer(model, f"{output.name}_fed", np.repeat(array, count, axis=0))
            following.add(str(once.name))
            for reader, index in output.uses():
                if reader.op_type != "Shape":
                    reader.replace_input_with(index, once)
        elif node.op_type != "Shape":
            sources = [value for value in node.inputs if value is not None]
            if any(v.name in following for v in sources) and all(
                v.name in following or _is_constant(v) for v in sources
            ):
                following.update(str(value.name) for value in node.outputs)
    for node in reversed(list(model.graph)):  # what repeats an array that nobody wants repeated
        if any(value.name in repeated for value in node.outputs) and not any(value.uses() for value in node.outputs):
            model.graph.remove(node, safe=True)
    return frozenset(following)


def repeat_for_batch(model: ir.Model, following: frozenset[str]) -> None:
    """Repeat, for each picture of a batch, the constants that follow from fed inputs where an operator needs that."""
    for node in list(model.graph):
        for index, value in enumerate(node.inputs):
            array = constant(value)
            if value is None or array is None or value.name not in following or not array.ndim:
                continue
            if len(array) > 1 and not (array == array[:1]).all():
                continue  # its first axis is no longer the batch
            once = value if len(array) == 1 else initializer(model, f"{value.name}_once", array[:1])
            if node.op_type in BROADCAST or node.domain:
                node.replace_input_with(index, once)
            else:
                target = with_batch(model, node, np.array(array.shape[1:], np.int64))
                node.replace_input_with(index, insert_node(model, node, "Expand", [once, target]))


def _is_constant(value: ir.Value) -> bool:
    producer = value.producer()
    return constant(value) is not None or (producer is not None and producer.op_type == "Constant")


def _inputs(proto: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    constants = {tensor.name for tensor in proto.graph.initializer}
    constants |= {tensor.values.name for tensor in proto.graph.sparse_initializer}
    return {value.name: value for value in proto.graph.input if value.name not in constants}


def _image_input(
    file: ModelFile,
    inputs: dict[str, onnx.ValueInfoProto],
    image: str | None,
    *,
    read: set[str],
    fed: Collection[str],
) -> str:
    if image is not None:
        if image not in inputs:
            message = f"{setting('input', image)}: the model has no such input; inputs: {_listed(inputs)}"
            raise SettingsError(message, field="input", value=image)
        return image
    if len(inputs) == 1:
        return next(iter(inputs))
    images = [
        name for name, value in inputs.items() if name in read and _kind(value) in FLOATS and len(_extents(value)) == 4
    ]
    images = [name for name in images if name not in fed] or images  # what is fed cannot be the image
    if len(images) != 1:
        why = f"{len(images)} of them could take the image" if images else "none of them has the four axes of an image"
        raise SettingsError(
            f"{file.path}: has several inputs ({_listed(inputs)}) and {why}; name the image's with "
            f"{setting('input')}, and give the others {setting('feed', 'NAME=FILE.npy')}",
            field="input",
        )
    return images[0]


def _kind(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.elem_type)


def _extents(value: onnx.ValueInfoProto) -> list[int | str]:
    """Its declared shape; a free dimension by its name, "?" where it has none."""
    dimensions = value.type.tensor_type.shape.dim
    return [d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in dimensions]


def _listed(inputs: Mapping[str, onnx.ValueInfoProto]) -> str:
    return ", ".join(_described(value) for value in inputs.values())


def _described(value: onnx.ValueInfoProto) -> str:
    extents = ", ".join(str(extent) for extent in _extents(value))
    kind = onnx.TensorProto.DataType.Name(_kind(value)).lower()
    return f"{value.name!r} [{extents}] {kind}"


def _needed(value: onnx.ValueInfoProto) -> str:
    """A description of the array that this input needs."""
    extents = _extents(value)
    rest = ", ".join(str(extent) for extent in ([1, *extents[1:]] if extents else []))
    return f"an array of {_dtype(value)}, shape ({rest}{',' if len(extents) == 1 else ''})"


def _dtype(value: onnx.ValueInfoProto) -> str:
    try:
        return str(np.dtype(helper.tensor_dtype_to_np_dtype(_kind(value))))
    except (KeyError, TypeError):
        return str(onnx.TensorProto.DataType.Name(_kind(value))).lower()


def _fitting(value: onnx.ValueInfoProto, image: onnx.ValueInfoProto, array: np.ndarray) -> tuple[np.ndarray, bool]:
    """The array with all axes of the input, and whether its first axis is to be repeated along the batch."""
    extents = _extents(value)
    wrong = SettingsError(
        f"{setting('feed', value.name)}: holds {array.dtype} of shape {array.shape}; input {_described(value)} needs "
        f"{_needed(value)}",
        field="feed",
        value=value.name,
    )
    if str(array.dtype) != _dtype(value):
        raise wrong
    if not value.type.tensor_type.HasField("shape"):
        return array, False
    if array.ndim == len(extents) - 1:
        array = array[None]
    elif array.ndim == len(extents) + 1 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != len(extents) or not array.size:
        raise wrong
    if not extents:
        return array, False
    batch = (_extents(image) or ["?"])[0]
    first = extents[0]
    batched = array.shape[0] == 1 and (isinstance(first, str) or first == batch)
    if not batched and first == batch:  # one array for all pictures; a batch of them would tell them apart
        raise wrong
    fixed = extents[1:] if batched else extents
    held = array.shape[1:] if batched else array.shape
    if any(isinstance(extent, int) and extent != side for extent, side in zip(fixed, held, strict=True)):
        raise wrong
    return array, batched


def _once(name: str) -> str:
    return f"{name}::once"


def _repeating(proto: onnx.ModelProto, name: str, image: str, rank: int) -> list[onnx.NodeProto]:
    """Nodes that repeat a fed array along the image's batch, of operators that are the same since opset 6."""
    first, ones = f"{name}::first", f"{name}::ones"
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.int64), first))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(rank - 1, np.int64), ones))
    return [
        helper.make_node("Shape", [image], [f"{name}::image"]),
        helper.make_node("Gather", [f"{name}::image", first], [f"{name}::batch"], axis=0),
        helper.make_node("Concat", [f"{name}::batch", ones], [f"{name}::repeats"], axis=0),
        helper.make_node("Tile", [_once(name), f"{name}::repeats"], [name]),
    ]


def _summary(array: np.ndarray) -> str:
    if array.size == 1:
        return f"{array.reshape(-1)[0]} for every image"
    shape = "x".join(str(side) for side in array.shape)
    if array.dtype.kind not in "fiu":
        return f"an array of {shape} {array.dtype} for every image"
    low, high = float(array.min()), float(array.max())
    spread_of = f"from {low:.4g} to {high:.4g}" if math.isfinite(low + high) else "not all finite"
    return f"an array of {shape} {array.dtype} ({spread_of}) for every image"
