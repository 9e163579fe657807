"""Comparison C: does a picture have the same values in a batch as alone?

BatchNorm on batch statistics, a maximum over the whole batch or a softmax over axis 0 make a picture's values depend on
what stands beside it; kernels made from the picture do not run on several at once. Such networks are computed one
picture at a time: `one_at_a_time` here for torch, `Session` for ONNX Runtime. Knows both; knows nothing of images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from filterscope.converters.comparison import relative_error
from filterscope.converters.errors import ModelError
from filterscope.converters.grouping import groups_within
from filterscope.converters.normal_form.canonical import CanonicalModel, fixed_batch
from filterscope.converters.operator_facts import CONVOLUTIONS
from filterscope.converters.parity import AGREES, CHUNK_BYTES, RANGES, Alone, Difference, as_taken
from filterscope.converters.runtime import Session, shortened, side_by_side

PICTURES = 3  # in a batch
RUNS = 3 * PICTURES  # pictures whose values are held: each alone, and two batches


def compare_alone(model: CanonicalModel, samples: np.ndarray) -> Alone:
    """Compare every convolution's output, and the network's, between a batch of 3 and each picture alone.

    In ONNX Runtime, on the file itself where it takes a batch and computes in float32, else on the normal form, whose
    batch is free. The pictures differ in brightness and contrast, so that a value over all of them shows. The one in
    the middle is also held against itself in a batch with two others, channel by channel: there the kernels are the
    same, so that rounding hides nothing and a small channel counts like a large one.

    Args:
        model: the canonical model with its original.
        samples: (N ≥ 3, …) float32 in the model's own layout, drawn from the input's domain.

    Raises:
        ModelError: the model does not run on one picture.
    """
    if model.batch is not None:
        return Alone(None, "", "The file takes one picture at a time and was left so")
    writers = _writers(model)
    try:
        return _compare(model, writers, samples[-PICTURES:])
    except ModelError:  # perhaps of what follows the last convolutions
        layers = {name: node for name, node in writers.items() if node.op_type in CONVOLUTIONS}
        if len(layers) == len(writers):
            raise
        return _compare(model, layers, samples[-PICTURES:])


def _compare(model: CanonicalModel, writers: Mapping[str, onnx.NodeProto], samples: np.ndarray) -> Alone:
    proto, of = _reference(model, writers)
    pictures, others = (as_taken(model, x) for x in _contrasting(samples))
    worst: Difference | None = None
    for nodes in _chunks(model, writers, pictures.shape):
        session = Session(proto, list(nodes))
        alone = [session.run(picture[None]) for picture in pictures]
        try:
            batch, beside = session.run(pictures), session.run(others)
        except ModelError as error:
            return Alone(None, of, f"The network does not run on {PICTURES} pictures at once ({shortened(error, 160)})")
        for name, node in nodes.items():
            apart = [values[name] for values in alone]
            difference = _difference(model, node, name, alone=apart, batch=batch[name], beside=beside[name])
            if worst is None or difference.error > worst.error:
                worst = difference
    if worst is None or worst.error <= AGREES:
        return Alone(worst, of, "")
    return Alone(
        worst,
        of,
        f"A picture's values depend on the others in its batch (at {worst.node} by {worst.error:.2g} between a batch "
        f"of {PICTURES} and each picture alone, limit {AGREES:g})",
    )


def one_at_a_time(module: nn.Module) -> nn.Module:
    """Wrap a module so that it computes a batch picture by picture: no value or gradient of one depends on another.

    Args:
        module: takes (N, …), returns a tuple of tensors that hold one picture after the other.
    """
    return _OneAtATime(module)


class _OneAtATime(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> Any:
        if len(x) == 1:
            return self.module(x)
        answers = [self.module(picture[None]) for picture in x]
        return tuple(_joined(parts) for parts in zip(*answers, strict=True))


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat(list(parts)) if parts[0].ndim else torch.stack(list(parts))


def _writers(model: CanonicalModel) -> dict[str, onnx.NodeProto]:
    """The values to compare, each with the node that writes it.

    Convolutions' outputs, since numbers and pictures are of these, and the network's own.
    """
    outputs = {value.name for value in model.proto.graph.output}
    return {
        name: node
        for node in model.proto.graph.node
        for name in node.output
        if name and (name in outputs or node.op_type in CONVOLUTIONS)
    }


def _reference(model: CanonicalModel, names: Iterable[str]) -> tuple[onnx.ModelProto, str]:
    """The file; or the normal form, where the file says something else: another batch or number format, functions."""
    own = {name for node in model.original.graph.node for name in node.output}
    if fixed_batch(model) is None and not model.float32_form.notes and own.issuperset(names):
        return model.original, "original"
    return model.proto, "canonical"


def _contrasting(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two batches that share their middle picture and have it between others of other brightness and contrast."""
    low, high = samples.min(), samples.max()

    def within(picture: np.ndarray, bottom: float, top: float) -> np.ndarray:
        scaled: np.ndarray = low + (picture - low) * (top - bottom) + (high - low) * bottom
        return scaled

    first, middle, last = samples
    shared = within(middle, 0.35, 0.6)
    batch = np.stack([first, shared, within(last, 0.8, 1.0)])
    others = np.stack([within(last, 0.62, 0.9), shared, within(first, 0.45, 0.5)])
    return batch, others


def _chunks(
    model: CanonicalModel, writers: Mapping[str, onnx.NodeProto], shape: tuple[int, ...]
) -> Iterator[dict[str, onnx.NodeProto]]:
    """Values in groups that fit into memory."""
    shapes = model.shapes_at((1, shape[1], shape[2], shape[3]))

    def size(name: str) -> int:
        return 4 * RUNS * math.prod(shapes.get(name, ()))

    for names in groups_within(writers, size, CHUNK_BYTES):
        yield {name: writers[name] for name in names}


def _difference(
    model: CanonicalModel,
    node: onnx.NodeProto,
    name: str,
    *,
    alone: Sequence[np.ndarray],
    batch: np.ndarray,
    beside: np.ndarray,
) -> Difference:
    """The worst difference of one value.

    Args:
        alone: its values of each picture by itself.
        batch: of the pictures together.
        beside: of a batch that shares its middle picture with them.
    """
    least = RANGES.get(node.op_type, 1e-6)
    axis = _picture_axis(alone[0], batch, node.op_type in CONVOLUTIONS)
    if axis is None:  # such as a detector's grid: it must be the same for all
        errors = [relative_error(batch, one, least) for one in alone]
    else:
        errors = [relative_error(batch, side_by_side(alone, axis), least), *_middle(batch, beside, axis, least)]
    error, expected, got = max(errors, key=lambda numbers: numbers[0])
    shown = model.layer_names.get(node.name, node.name) or name
    return Difference(
        value=name, node=shown, op=node.op_type, batch=PICTURES, error=error, expected=expected, actual=got
    )


def _middle(batch: np.ndarray, beside: np.ndarray, axis: int, least: float) -> Iterator[tuple[float, float, float]]:
    """How far the middle picture's values differ between two batches, channel by channel where there are maps."""
    if batch.shape != beside.shape or batch.shape[axis] % PICTURES:
        return  # the first comparison fails already
    one, other = (np.split(values, PICTURES, axis)[1] for values in (batch, beside))
    # The same kernels on the same shapes give the same bits, so that there is nothing to look at as a rule.
    if np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
        return
    if one.ndim != 4:
        yield relative_error(one, other, least)
        return
    for channel in range(one.shape[1]):
        yield relative_error(one[:, channel], other[:, channel], least)


def _picture_axis(one: np.ndarray, batch: np.ndarray, is_layer: bool) -> int | None:
    """Along which axis a batch's value holds one picture after the other, None where it has no such axis.

    A convolution's are read along the first and nowhere else.
    """
    if not batch.ndim or (batch.shape == one.shape and not is_layer):
        return None
    if is_layer or batch.ndim != one.ndim:
        return 0
    axes = (axis for axis, extent in enumerate(one.shape) if batch.shape[axis] == PICTURES * extent)
    return next(axes, 0)
