"""Give the convolutions of an exported graph the names of their Keras layers.

They are matched by their kernels, since exporters name a node after whatever was folded into it. A BatchNorm that was
folded in has scaled each output channel's part of the kernel, which is therefore compared up to a factor. Knows ONNX
and what Keras layers look like; knows nothing of files. Used by keras_export.py; imports nothing of ours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

TOLERANCE = 1e-6  # of 1 − |cos| between two rows of a kernel: folding rounds
CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True, eq=False)
class Kernel:
    """A layer's kernel."""

    name: str  # of the layer, with "/depthwise" or "/pointwise" for the halves of a separable one
    path: str  # the same behind the names of the models and layers that hold it
    values: np.ndarray  # (output channels, everything else): the order of ONNX


def kernels(model: Any) -> list[Kernel]:
    """Every convolution of a Keras model, those of nested models and of layers' own layers included."""
    return list(_kernels(model, "", set()))


def kernels_of_variables(variables: Sequence[Any]) -> list[Kernel]:
    """Those of a SavedModel's variables, by the names that TensorFlow kept: "inner/conv2d/kernel:0".

    What kind of layer a variable was in is forgotten, so that each is read in every way that its layer may mean it.
    """
    kernels: list[Kernel] = []
    for variable in variables:
        path = re.fullmatch(r"(.+)/(depthwise_|pointwise_)?kernel(:0)?", variable.name)
        values = _array(variable)
        if path is None or values.ndim < 3:
            continue
        halved = any(other.name.startswith(f"{path[1]}/pointwise_kernel") for other in variables)
        whole = path[1] + (f"/{path[2].rstrip('_')}" if halved and path[2] else "")
        name = whole[path[1].rfind("/") + 1 :]
        readings = (depthwise(values), plain(values), plain(np.swapaxes(values, -1, -2)))
        kernels.extend(Kernel(name, whole, reading) for reading in readings)
    return kernels


def _kernels(holder: Any, path: str, seen: set[int]) -> Iterator[Kernel]:
    for layer in holder._flatten_layers(include_self=False, recursive=False):
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        for half, values in _own(layer):
            yield Kernel(layer.name + half, path + layer.name + half, values)
        yield from _kernels(layer, f"{path}{layer.name}/", seen)


def _own(layer: Any) -> Iterator[tuple[str, np.ndarray]]:
    """A layer's kernels as (output channels, everything else); none where it is no convolution."""
    kinds = " ".join(kind.__name__ for kind in type(layer).__mro__)
    arrays = {name: getattr(layer, name, None) for name in ("kernel", "depthwise_kernel", "pointwise_kernel")}
    kernels = {name: _array(value) for name, value in arrays.items() if value is not None and len(value.shape) >= 3}
    if "Separable" in kinds and len(kernels) == 2:
        yield "/depthwise", depthwise(kernels["depthwise_kernel"])
        yield "/pointwise", plain(kernels["pointwise_kernel"])
    elif "Depthwise" in kinds and kernels:
        yield "", depthwise(next(iter(kernels.values())))
    elif "Transpose" in kinds and "kernel" in kernels:
        yield "", plain(np.swapaxes(kernels["kernel"], -1, -2))
    elif "Conv" in kinds and "kernel" in kernels:
        yield "", plain(kernels["kernel"])


def _array(variable: Any) -> np.ndarray:
    value = getattr(variable, "value", variable)  # a property in Keras 3, a method in TensorFlow
    value = value() if callable(value) else value
    return np.asarray(value.detach() if hasattr(value, "detach") else value, dtype=np.float32)


def plain(kernel: np.ndarray) -> np.ndarray:
    """(…, I, O) as (O, I·…)."""
    return np.moveaxis(kernel, (-1, -2), (0, 1)).reshape(kernel.shape[-1], -1)


def depthwise(kernel: np.ndarray) -> np.ndarray:
    """(…, C, M) as (C·M, …)."""
    return kernel.reshape(-1, kernel.shape[-2] * kernel.shape[-1]).T


def rename(proto: onnx.ModelProto, kernels: Sequence[Kernel]) -> int:
    """Name each convolution's node `LAYER/Conv`; a layer's name is its path where two layers share it.

    Returns:
        How many have a kernel that differs from their layer's by a factor a channel: a BatchNorm was folded in.
    """
    counts = Counter(name for name, _ in {(kernel.name, kernel.path) for kernel in kernels})
    names = [kernel.name if counts[kernel.name] == 1 else kernel.path for kernel in kernels]
    rows = [_normalised(kernel.values) for kernel in kernels]
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    producers = {output: node for node in proto.graph.node for output in node.output}
    names_in_use = {node.name for node in proto.graph.node}
    uses: Counter[int] = Counter()
    scaled = 0
    for node in proto.graph.node:
        if node.op_type not in CONVOLUTIONS:
            continue
        weight = _constant(node.input[1], constants, producers)
        if weight is None:
            continue
        values = weight if node.op_type == "Conv" else np.swapaxes(weight, 0, 1)
        values = values.reshape(len(values), -1)
        own = _normalised(values)
        scopes = set(re.split(r"[/.;]", node.name))
        is_named = [kernel.name.partition("/")[0] in scopes for kernel in kernels]
        # A kernel of zeros looks like no other: then the name that the exporter gave is all there is.
        fitting = [index for index, other in enumerate(rows) if _alike(own, other)] or [
            index for index, other in enumerate(rows) if is_named[index] and own.shape == other.shape
        ]
        if not fitting:
            continue
        # Of layers with one kernel, the one that the node's old name speaks of, then the one not met yet.
        chosen = min(fitting, key=lambda index: (not is_named[index], uses[index], index))
        uses[chosen] += 1
        scaled += not np.allclose(values, kernels[chosen].values, rtol=1e-3, atol=1e-6)
        names_in_use.discard(node.name)
        node.name = _free(f"{names[chosen]}/{node.op_type}", names_in_use)
        names_in_use.add(node.name)
        del node.metadata_props[:]  # PyTorch's exporter notes there which of its modules a node is in
    return scaled


def _free(name: str, names_in_use: set[str]) -> str:
    """The name, or the first NAME_1, NAME_2, … that is not in use."""
    number, unique = 0, name
    while unique in names_in_use:
        number += 1
        unique = f"{name}_{number}"
    return unique


def _normalised(values: np.ndarray) -> np.ndarray:
    """Each row with length 1; rows of zeros stay."""
    lengths = np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
    rows: np.ndarray = np.divide(values, lengths, out=np.zeros(values.shape), where=lengths > 0)
    return rows


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two normalised kernels are the same up to signs; a channel that either has at zero is no evidence."""
    if one.shape != other.shape:
        return False
    seen = one.any(axis=1) & other.any(axis=1)
    return bool(seen.any()) and bool((1 - np.abs((one * other).sum(axis=1)[seen]) < TOLERANCE).all())


def _constant(name: str, constants: dict[str, onnx.TensorProto], producers: dict[str, Any]) -> np.ndarray | None:
    """An initializer's values, behind what exporters leave between it and a convolution."""
    if name in constants:
        return numpy_helper.to_array(constants[name])
    node = producers.get(name)
    if node is None:
        return None
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Constant" and "value" in attributes:
        return numpy_helper.to_array(attributes["value"])
    if node.op_type not in ("Identity", "Transpose", "Reshape"):
        return None
    values = _constant(node.input[0], constants, producers)
    if values is None or node.op_type == "Identity":
        return values
    if node.op_type == "Transpose":
        return np.transpose(values, attributes.get("perm"))
    shape = _constant(node.input[1], constants, producers)
    return None if shape is None else values.reshape(shape)
