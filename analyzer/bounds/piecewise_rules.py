"""Which piece an operator is: a rule for each that is affine, a kink or a maximum.

Knows graphs and operators; knows nothing of bounds, solvers or pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from filterscope.analyzer.bounds.piecewise import Affine, Box, Kink, Maximum, Piece, Tensor, Tensors
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.network.receptive_fields import resolved_pads
from filterscope.converters.graph import Node


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """The network as the rules below read it, and the rule of each node."""

    network: Network
    shapes: Mapping[str, tuple[int, ...]]
    depends: set[str]  # values that depend on the image

    def read(self, node: Node) -> Piece:
        """The piece that a node is; rules see one picture alone, so that no constant that they meet is longer."""
        rule = RULES.get(node.op) if node.domain in ("", "ai.onnx") else None
        shapes = [self.shapes[name] for name in (*self.sources(node), node.outputs[0])]
        batched = all(shape and shape[0] == 1 for shape in shapes)
        return (rule(self, node) if rule and batched else None) or Box(node)

    def sources(self, node: Node) -> tuple[str, ...]:
        """A node's inputs that depend on the image."""
        return tuple(name for name in node.inputs if name in self.depends)

    def constant(self, node: Node, index: int) -> Tensor | None:
        """An input of a node where it is a constant, float64."""
        if index >= len(node.inputs):
            return None
        array = self.network.model.graph.initializers.get(node.inputs[index])
        return None if array is None else torch.from_numpy(np.asarray(array, np.float64))

    def has_input(self, node: Node, index: int) -> bool:
        """Whether a node has an input of this number."""
        return index < len(node.inputs) and bool(node.inputs[index])

    def affine(
        self,
        node: Node,
        linear: Callable[[Tensors], Tensor],
        absolute: Callable[[Tensors], Tensor],
        *,
        terms: int,
        constant: Tensor | None = None,
        offset: Tensor | None = None,
        transpose: Callable[[Tensor], Tensor] | None = None,
    ) -> Affine:
        """An affine map; see the fields of `Affine`."""
        sources = self.sources(node)
        shape = self.shapes[node.outputs[0]]
        constant = torch.zeros(1, dtype=torch.float64) if constant is None else constant
        offset = constant.abs() if offset is None else offset
        shapes = tuple(self.shapes[name] for name in sources)
        return Affine(
            node=node,
            sources=sources,
            shapes=shapes,
            linear=linear,
            absolute=absolute,
            constant=constant.expand(shape),
            offset=offset.expand(shape),
            terms=terms,
            transpose=transpose,
        )

    def moved(self, node: Node, move: Callable[[Tensor], Tensor]) -> Affine:
        """An affine map that puts numbers elsewhere and changes none."""
        return self.affine(node, lambda xs: move(xs[0]), lambda xs: move(xs[0]), terms=0)


def _convolution(reader: Reader, node: Node) -> Piece | None:
    weight, bias = reader.constant(node, 1), reader.constant(node, 2)
    if weight is None or weight.ndim != 4 or (bias is None and reader.has_input(node, 2)):
        return None
    source = node.inputs[0]
    extents = reader.shapes[source]
    top, left, bottom, right = resolved_pads(node, reader.shapes)
    stride, dilation = (tuple(node.attributes.get(key, (1, 1))) for key in ("strides", "dilations"))
    groups = int(node.attributes.get("group", 1))
    extents_padded = (extents[2] + top + bottom, extents[3] + left + right)
    spans = [dilation[axis] * (weight.shape[2 + axis] - 1) + 1 for axis in (0, 1)]  # of the dilated kernel

    def convolve(x: Tensor, kernel: Tensor) -> Tensor:
        padded = F.pad(x, (left, right, top, bottom))
        return F.conv2d(padded, kernel, stride=stride, dilation=dilation, groups=groups)

    def transpose(c: Tensor) -> Tensor:
        reach = [
            extents_padded[axis] - ((c.shape[2 + axis] - 1) * stride[axis] + spans[axis]) for axis in (0, 1)
        ]  # rows and columns at the end that no tap meets
        whole = F.conv_transpose2d(c, weight, stride=stride, groups=groups, dilation=dilation)
        whole = F.pad(whole, (0, reach[1], 0, reach[0]))
        return whole[:, :, top : top + extents[2], left : left + extents[3]]

    magnitude = weight.abs()
    return reader.affine(
        node,
        lambda xs: convolve(xs[0], weight),
        lambda xs: convolve(xs[0], magnitude),
        terms=math.prod(weight.shape[1:]),
        constant=None if bias is None else bias.reshape(1, -1, 1, 1),
        transpose=transpose,
    )


def _transposed_convolution(reader: Reader, node: Node) -> Piece | None:
    weight, bias = reader.constant(node, 1), reader.constant(node, 2)
    if weight is None or weight.ndim != 4 or (bias is None and reader.has_input(node, 2)):
        return None
    top, left = resolved_pads(node, reader.shapes)[:2]
    height, width = reader.shapes[node.outputs[0]][2:]
    stride, dilation = (tuple(node.attributes.get(key, (1, 1))) for key in ("strides", "dilations"))
    groups = int(node.attributes.get("group", 1))

    def convolve(x: Tensor, kernel: Tensor) -> Tensor:
        whole = F.conv_transpose2d(x, kernel, stride=stride, groups=groups, dilation=dilation)
        down, over = (max(0, n) for n in (top + height - whole.shape[2], left + width - whole.shape[3]))
        return F.pad(whole, (0, over, 0, down))[:, :, top : top + height, left : left + width]

    magnitude = weight.abs()
    return reader.affine(
        node,
        lambda xs: convolve(xs[0], weight),
        lambda xs: convolve(xs[0], magnitude),
        terms=weight.shape[0] // groups * math.prod(weight.shape[2:]),
        constant=None if bias is None else bias.reshape(1, -1, 1, 1),
    )


def _scaled(
    reader: Reader, node: Node, factor: Tensor, *, shift: Tensor | None = None, offset: Tensor | None = None
) -> Piece:
    """factor · x + shift; `offset` is the sum of the shift's absolute terms."""
    size = factor.abs()
    return reader.affine(
        node, lambda xs: xs[0] * factor, lambda xs: xs[0] * size, terms=2, constant=shift, offset=offset
    )


def _batch_normalization(reader: Reader, node: Node) -> Piece | None:
    constants = [reader.constant(node, index) for index in (1, 2, 3, 4)]
    if any(constant is None for constant in constants) or node.attributes.get("training_mode"):
        return None
    around = (1, -1, *[1] * (len(reader.shapes[node.inputs[0]]) - 2))
    scale, shift, mean, variance = (c.reshape(around) for c in constants if c is not None)
    factor = scale / torch.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    offset = shift.abs() + (mean * factor).abs()
    return _scaled(reader, node, factor, shift=shift - mean * factor, offset=offset)


def _sum(reader: Reader, node: Node) -> Piece | None:
    """Add, Sub and Sum, of branches and constants."""
    rank = len(reader.shapes[node.outputs[0]])
    constant = torch.zeros((1,) * rank, dtype=torch.float64)
    offset, signs = constant, []
    for index, name in enumerate(node.inputs):
        sign = -1.0 if node.op == "Sub" and index else 1.0
        if name in reader.depends:
            if len(reader.shapes[name]) != rank:
                return None
            signs.append(sign)
            continue
        addend = reader.constant(node, index)
        if addend is None:
            return None
        constant, offset = constant + sign * addend, offset + addend.abs()
    shape = reader.shapes[node.outputs[0]][1:]

    def linear(xs: Tensors) -> Tensor:
        return sum((s * x for s, x in zip(signs, xs, strict=True)), xs[0].new_zeros(len(xs[0]), *shape))

    def absolute(xs: Tensors) -> Tensor:
        return sum(xs, xs[0].new_zeros(len(xs[0]), *shape))

    return reader.affine(node, linear, absolute, terms=len(node.inputs), constant=constant, offset=offset)


def _product(reader: Reader, node: Node) -> Piece | None:
    """Mul and Div by a constant."""
    if len(reader.sources(node)) != 1 or (node.op == "Div" and node.inputs[0] not in reader.depends):
        return None
    factor = reader.constant(node, 1 if node.inputs[0] in reader.depends else 0)
    rank = len(reader.shapes[node.outputs[0]])
    if factor is None or len(reader.shapes[reader.sources(node)[0]]) != rank:
        return None
    if node.op == "Div" and bool((factor == 0).any()):
        return None
    return _scaled(reader, node, 1 / factor if node.op == "Div" else factor)


def _negative(reader: Reader, node: Node) -> Piece:
    return reader.affine(node, lambda xs: -xs[0], lambda xs: xs[0], terms=1)


def _average_pool(reader: Reader, node: Node) -> Piece | None:
    windows = _windows(reader, node)
    if windows is None:
        return None
    index, size = windows
    extents = reader.shapes[node.inputs[0]][2:]
    window = Maximum(node, node.inputs[0], index, size)  # for its gathering alone
    if node.attributes.get("count_include_pad", 0):
        if node.attributes.get("ceil_mode", 0):
            return None  # how much of the padding beyond the edge counts is a story of its own
        count = torch.tensor(float(index.shape[1]), dtype=torch.float64)
    else:
        count = (index < math.prod(extents)).sum(dim=1).double()

    def mean(xs: Tensors) -> Tensor:
        return (window.gather(xs[0], 0.0).sum(dim=3) / count).reshape(*xs[0].shape[:2], *size)

    def transpose(c: Tensor) -> Tensor:
        spread = (c.flatten(2) / count)[..., None].expand(*c.shape[:2], *index.shape)
        return window.scatter(spread, extents)

    return reader.affine(node, mean, mean, terms=index.shape[1] + 1, transpose=transpose)


def _mean(reader: Reader, node: Node) -> Piece | None:
    """GlobalAveragePool and ReduceMean."""
    shape = reader.shapes[node.inputs[0]]
    axes: Any = list(range(2, len(shape)))
    if node.op == "ReduceMean":
        axes = node.attributes.get("axes")
        if axes is None and reader.has_input(node, 1):
            listed = reader.constant(node, 1)
            axes = None if listed is None else listed.long().tolist()
        if axes is None:
            return None
    axes = [int(axis) % len(shape) for axis in axes]
    keepdim = bool(node.attributes.get("keepdims", 1))
    if not axes or 0 in axes:
        return None
    count = math.prod(shape[axis] for axis in axes)
    mean = lambda xs: xs[0].mean(dim=axes, keepdim=keepdim)  # noqa: E731
    return reader.affine(node, mean, mean, terms=count + 1)


def _concat(reader: Reader, node: Node) -> Piece | None:
    shape = reader.shapes[node.outputs[0]]
    axis = int(node.attributes["axis"]) % len(shape)
    if axis == 0:
        return None
    constants = [None if name in reader.depends else reader.constant(node, i) for i, name in enumerate(node.inputs)]
    for name, constant in zip(node.inputs, constants, strict=True):
        if name not in reader.depends and constant is None:
            return None

    def join(xs: Tensors) -> Tensor:
        left = iter(xs)
        parts = [next(left) if c is None else c.new_zeros(len(xs[0]), *c.shape[1:]) for c in constants]
        return torch.cat(parts, dim=axis)

    zeros = [
        torch.zeros(reader.shapes[name], dtype=torch.float64) if constant is None else constant
        for name, constant in zip(node.inputs, constants, strict=True)
    ]
    return reader.affine(node, join, join, terms=0, constant=torch.cat(zeros, dim=axis))


def _pad(reader: Reader, node: Node) -> Piece | None:
    pads = reader.constant(node, 1)
    if pads is None or node.attributes.get("mode", "constant") != "constant" or reader.has_input(node, 3):
        return None
    fill = reader.constant(node, 2) if reader.has_input(node, 2) else torch.zeros(1, dtype=torch.float64)
    begins, ends = pads.long().reshape(2, -1).tolist()
    if fill is None or min(*begins, *ends) < 0 or begins[0] or ends[0]:
        return None
    listed = [side for pair in zip(begins[::-1], ends[::-1], strict=True) for side in pair]
    shape = reader.shapes[node.inputs[0]]
    outside = F.pad(torch.zeros(shape, dtype=torch.float64), listed, value=fill.item())
    return reader.affine(
        node, lambda xs: F.pad(xs[0], listed), lambda xs: F.pad(xs[0], listed), terms=0, constant=outside
    )


def _reshape(reader: Reader, node: Node) -> Piece:
    after = reader.shapes[node.outputs[0]]
    return reader.moved(node, lambda x: x.reshape(len(x), *after[1:]))


def _transpose(reader: Reader, node: Node) -> Piece | None:
    order = [int(axis) for axis in node.attributes.get("perm", range(len(reader.shapes[node.inputs[0]]))[::-1])]
    return reader.moved(node, lambda x: x.permute(order)) if order[0] == 0 else None


def _identity(reader: Reader, node: Node) -> Piece:
    return reader.moved(node, lambda x: x)


def _windows(reader: Reader, node: Node) -> tuple[Tensor, tuple[int, int]] | None:
    """Places that each window of a pooling reads, and the size of its output; None unless two-dimensional."""
    shape, after = reader.shapes[node.inputs[0]], reader.shapes[node.outputs[0]]
    if len(shape) != 4:
        return None
    kernel = node.attributes["kernel_shape"]
    stride, dilation = (node.attributes.get(key, (1, 1)) for key in ("strides", "dilations"))
    begins = resolved_pads(node, reader.shapes)
    places = [
        np.arange(after[2 + a])[:, None] * stride[a] - begins[a] + np.arange(kernel[a]) * dilation[a] for a in (0, 1)
    ]
    rows, columns = places[0][:, None, :, None], places[1][None, :, None, :]
    inside = (rows >= 0) & (rows < shape[2]) & (columns >= 0) & (columns < shape[3])
    index = np.where(inside, rows * shape[3] + columns, shape[2] * shape[3]).reshape(after[2] * after[3], -1)
    if not (index < shape[2] * shape[3]).any(axis=1).all():
        return None  # a window of nothing but padding
    return torch.from_numpy(index.astype(np.int64)), (after[2], after[3])


def _max_pool(reader: Reader, node: Node) -> Piece | None:
    shape = reader.shapes[node.inputs[0]]
    if node.op == "GlobalMaxPool" and len(shape) == 4:
        return Maximum(node, node.inputs[0], torch.arange(shape[2] * shape[3])[None], (1, 1))
    windows = _windows(reader, node) if node.op == "MaxPool" else None
    return None if windows is None else Maximum(node, node.inputs[0], *windows)


def _clip(reader: Reader, node: Node) -> Piece | None:
    """Relu and Clip."""
    zero, infinity = (torch.tensor(number, dtype=torch.float64) for number in (0.0, math.inf))
    if node.op == "Relu":
        return Kink(node, node.inputs[0], zero, infinity)
    ends = [-infinity, infinity]
    for index in (0, 1):
        if reader.has_input(node, 1 + index):
            limit = reader.constant(node, 1 + index)
            if limit is None:
                return None
            if limit.numel():  # older files give an absent input as an empty one
                ends[index] = limit.reshape(())
    return Kink(node, node.inputs[0], *ends) if ends[0] <= ends[1] else None


def _leaky(reader: Reader, node: Node) -> Piece | None:
    """LeakyRelu, and PRelu with constant slopes."""
    slope = torch.tensor(float(node.attributes.get("alpha", 0.01)), dtype=torch.float64)
    if node.op == "PRelu":
        slopes = reader.constant(node, 1)
        if slopes is None:
            return None
        slope = slopes
    none = torch.tensor(math.inf, dtype=torch.float64)
    return Kink(node, node.inputs[0], floor=-none, ceiling=none, slope=slope)


RULES: dict[str, Callable[[Reader, Node], Piece | None]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "BatchNormalization": _batch_normalization,
    **dict.fromkeys(("Add", "Sub", "Sum"), _sum),
    **dict.fromkeys(("Mul", "Div"), _product),
    "Neg": _negative,
    "AveragePool": _average_pool,
    **dict.fromkeys(("GlobalAveragePool", "ReduceMean"), _mean),
    "Concat": _concat,
    "Pad": _pad,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Transpose": _transpose,
    **dict.fromkeys(("Identity", "Dropout"), _identity),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool"), _max_pool),
    **dict.fromkeys(("Relu", "Clip"), _clip),
    **dict.fromkeys(("LeakyRelu", "PRelu"), _leaky),
}
