"""Intervals behind operators that move or mix numbers: convolutions, pooling, reshaping, products.

A rule takes the context and a node, and gives the intervals of the node's outputs; None: unknown.
The interval of a value of rank r is a pair of arrays of rank r whose axes are 1 long where one interval holds for all
positions: channels that are reshaped into groups and back need no special case. Knows graphs; knows nothing of images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from filterscope.analyzer.bounds.interval_arithmetic import (
    ROUNDING,
    Pair,
    hull,
    largest,
    outward,
    times,
    unbounded,
    weighted,
    with_zero,
)
from filterscope.analyzer.network.receptive_fields import resolved_pads
from filterscope.converters.graph import Graph, Node

LARGE = 1 << 22  # elements: what would be followed one by one beyond this becomes one interval


@dataclass(frozen=True, slots=True, eq=False)
class RuleContext:
    """The context of a rule: the graph, and the intervals of the values before its node."""

    graph: Graph
    shapes: Mapping[str, tuple[int, ...]]  # of every value
    pairs: dict[str, Pair]  # of every value so far that depends on the image

    def constant(self, node: Node, index: int) -> np.ndarray | None:
        """A node's input where it is a constant."""
        return self.graph.initializers.get(node.inputs[index]) if index < len(node.inputs) else None

    def first(self, node: Node) -> Pair:
        """Interval of a node's first input."""
        return self.pairs[node.inputs[0]]

    def shape(self, node: Node) -> tuple[int, ...]:
        """Shape of a node's first input."""
        return self.shapes[node.inputs[0]]

    def by_channel(self, node: Node) -> Pair:
        """Low and high (C,) of a node's first input along axis 1."""
        pair = self.first(node)
        others = tuple(axis for axis in range(pair[0].ndim) if axis != 1)
        channels = self.shape(node)[1]
        return np.broadcast_to(pair[0].min(others), channels), np.broadcast_to(pair[1].max(others), channels)


def bounds_of(context: RuleContext, node: Node) -> list[Pair]:
    """The intervals of a node's outputs; empty where nothing is known of them.

    Rules but that of Concat follow the first input: where another one alone depends on the image, they are not asked.
    """
    if node.op not in RULES or (node.inputs[0] not in context.pairs and node.op != "Concat"):
        return []
    return RULES[node.op](context, node) or []


def _spread(low: np.ndarray, high: np.ndarray, rank: int) -> list[Pair]:
    """One pair of bounds a channel, (C,) each, put along axis 1."""
    shape = (1, -1, *(1,) * (rank - 2))
    return [(low.reshape(shape), high.reshape(shape))]


def _same(context: RuleContext, node: Node) -> list[Pair]:
    return [context.first(node)]


def _anything_of(context: RuleContext, node: Node) -> list[Pair]:
    """Rule of operators that pick or repeat elements: one interval for all of them."""
    return [_hull_of_all(context, node, context.first(node))]


def _hull_of_all(context: RuleContext, node: Node, pair: Pair) -> Pair:
    """One interval for all of a node's output."""
    shape = (1,) * len(context.shapes[node.outputs[0]])
    return pair[0].min().reshape(shape), pair[1].max().reshape(shape)


def _bias(context: RuleContext, node: Node, channels: int) -> Pair:
    if len(node.inputs) < 3 or not node.inputs[2]:
        return np.zeros(channels), np.zeros(channels)
    constant = context.constant(node, 2)
    if constant is None:
        return np.full(channels, -np.inf), np.full(channels, np.inf)
    return constant.astype(np.float64), constant.astype(np.float64)


def _convolution(context: RuleContext, node: Node) -> list[Pair] | None:
    weight, pair = context.constant(node, 1), context.by_channel(node)
    if weight is None:
        return None
    groups = int(node.attributes.get("group", 1))
    kernel = weight.astype(np.float64).reshape(groups, -1, weight.shape[1], math.prod(weight.shape[2:]))
    source = (pair[0].reshape(groups, -1), pair[1].reshape(groups, -1))
    on_padding = _taps_on_padding(context, node, weight.shape[2:])
    low, high, magnitude = (np.zeros(len(weight)) for _ in range(3))
    for taps, seen in ((~on_padding, source), (on_padding, with_zero(source))):
        part = weighted(*_signed_sums(kernel[..., taps]), seen)
        low, high, magnitude = (total + p.reshape(-1) for total, p in zip((low, high, magnitude), part, strict=True))
    bias = _bias(context, node, len(weight))
    terms = math.prod(weight.shape[1:])
    return _spread(*outward(low + bias[0], high + bias[1], magnitude + largest(bias), terms), weight.ndim)


def _signed_sums(kernel: np.ndarray) -> Pair:
    """Sums over the last axis of what is above 0 and of what is below."""
    return np.maximum(kernel, 0).sum(axis=-1), np.minimum(kernel, 0).sum(axis=-1)


def _taps_on_padding(context: RuleContext, node: Node, kernel: tuple[int, ...]) -> np.ndarray:
    """Which taps of a kernel can ever fall on padding: (taps,) bool. A middle one may not, whatever the position."""
    if node.attributes.get("auto_pad", "NOTSET").startswith("SAME"):
        return np.ones(math.prod(kernel), bool)  # how much is padded depends on the size
    pads = resolved_pads(node, context.shapes)
    dilation = node.attributes.get("dilations", [1] * len(kernel))
    on_padding = np.zeros(kernel, bool)
    for axis, size in enumerate(kernel):
        reach = np.arange(size) * dilation[axis]
        outside = (reach < pads[axis]) | (reach[::-1] < pads[axis + len(kernel)])
        on_padding |= outside.reshape([-1 if a == axis else 1 for a in range(len(kernel))])
    return on_padding.reshape(-1)


def _transposed_convolution(context: RuleContext, node: Node) -> list[Pair] | None:
    """A position meets the taps of one residue of the stride, each of them or the border."""
    weight, pair = context.constant(node, 1), context.by_channel(node)
    if weight is None:
        return None
    groups = int(node.attributes.get("group", 1))
    rank, spatial = weight.ndim, weight.shape[2:]
    stride = node.attributes.get("strides", [1] * (rank - 2))
    dilation = node.attributes.get("dilations", [1] * (rank - 2))
    residues = [np.arange(size) * gap % step for size, gap, step in zip(spatial, dilation, stride, strict=True)]
    kernel = weight.astype(np.float64).reshape(groups, -1, weight.shape[1], *spatial).swapaxes(1, 2)
    source = with_zero((pair[0].reshape(groups, -1), pair[1].reshape(groups, -1)))
    parts = []
    for chosen in itertools.product(*(np.unique(residue) for residue in residues)):
        met: tuple[Any, ...] = np.ix_(
            *(np.flatnonzero(residue == r) for residue, r in zip(residues, chosen, strict=True))
        )
        taps = kernel[..., *met].reshape(*kernel.shape[:3], -1)
        parts.append(weighted(*_signed_sums(taps), source))
    lows, highs, magnitudes = (np.stack([part[i].reshape(-1) for part in parts]) for i in range(3))
    bias = _bias(context, node, weight.shape[1] * groups)
    ends = (lows.min(axis=0) + bias[0], highs.max(axis=0) + bias[1])
    terms = weight.shape[0] // groups * math.prod(spatial)
    return _spread(*outward(*ends, magnitudes.max(axis=0) + largest(bias), terms), rank)


def _batch_normalization(context: RuleContext, node: Node) -> list[Pair] | None:
    pair, constants = context.first(node), [context.constant(node, index) for index in (1, 2, 3, 4)]
    if any(constant is None for constant in constants) or node.attributes.get("training_mode"):
        return None
    shape = (1, -1, *(1,) * (pair[0].ndim - 2))
    scale, shift, mean, variance = (np.asarray(c, np.float64).reshape(shape) for c in constants)
    factor = scale / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    ends = [times(factor, end - mean) + shift for end in pair]
    magnitude = abs(factor) * (largest(pair) + abs(mean)) + abs(shift)
    return [outward(np.minimum(*ends), np.maximum(*ends), magnitude)]


def _max_pool(context: RuleContext, node: Node) -> list[Pair]:
    return _spread(*context.by_channel(node), len(context.shape(node)))  # its padding is never the largest


def _average_pool(context: RuleContext, node: Node) -> list[Pair]:
    pair = context.by_channel(node)
    padded = node.attributes.get("count_include_pad", 0) or node.attributes.get("ceil_mode", 0)
    seen = with_zero(pair) if padded else pair
    terms = math.prod(node.attributes["kernel_shape"])
    return _spread(*outward(*seen, largest(seen), terms), len(context.shape(node)))


def _reduced_axes(context: RuleContext, node: Node) -> list[int] | None:
    rank = len(context.shape(node))
    listed: Any = node.attributes.get("axes")
    if listed is None and len(node.inputs) > 1 and node.inputs[1]:
        listed = context.constant(node, 1)
        if listed is None:
            return None
    if listed is None or len(listed) == 0:
        return [] if node.attributes.get("noop_with_empty_axes") else list(range(rank))
    return [int(axis) % rank for axis in listed]


def _reduction(kind: str) -> Callable[[RuleContext, Node], list[Pair] | None]:
    def rule(context: RuleContext, node: Node) -> list[Pair] | None:
        pair, axes = context.first(node), _reduced_axes(context, node)
        if axes is None:
            return None
        return [
            _reduced(kind, pair, context.shape(node), tuple(axes), keepdims=bool(node.attributes.get("keepdims", 1)))
        ]

    return rule


def _global(kind: str) -> Callable[[RuleContext, Node], list[Pair]]:
    def rule(context: RuleContext, node: Node) -> list[Pair]:
        pair, shape = context.first(node), context.shape(node)
        return [_reduced(kind, pair, shape, tuple(range(2, len(shape))), keepdims=True)]

    return rule


def _reduced(kind: str, pair: Pair, shape: tuple[int, ...], axes: tuple[int, ...], *, keepdims: bool) -> Pair:
    low, high = pair
    if kind == "Max":
        return low.max(axes, keepdims=keepdims), high.max(axes, keepdims=keepdims)
    if kind == "Min":
        return low.min(axes, keepdims=keepdims), high.min(axes, keepdims=keepdims)
    count = math.prod(shape[axis] for axis in axes)
    ends = low.mean(axes, keepdims=keepdims), high.mean(axes, keepdims=keepdims)
    mean = outward(*ends, largest(pair).mean(axes, keepdims=keepdims), count)
    if kind == "Mean":
        return mean
    return np.minimum(mean[0], mean[0] * count), np.maximum(mean[1], mean[1] * count)  # a smaller canvas has fewer


def _concat(context: RuleContext, node: Node) -> list[Pair]:
    axis = int(node.attributes["axis"]) % len(context.shapes[node.outputs[0]])
    rank = len(context.shapes[node.outputs[0]])
    parts = []
    for name in node.inputs:
        constant = context.graph.initializers.get(name)
        if constant is None:
            parts.append((context.pairs.get(name, unbounded(rank)), context.shapes[name]))
        else:
            exact = constant.astype(np.float64)
            parts.append(((exact, exact), exact.shape))
    if not any(low.shape[axis] > 1 or shape[axis] == 1 for (low, _), shape in parts):
        return [hull(*(pair for pair, _ in parts))]  # one interval for all positions of each: one for all
    around = np.broadcast_shapes(*(tuple(np.delete(low.shape, axis)) for (low, _), _ in parts))
    wholes = [(*around[:axis], shape[axis], *around[axis:]) for _, shape in parts]
    if sum(map(math.prod, wholes)) > LARGE:
        return [hull(*((low.min(keepdims=True), high.max(keepdims=True)) for (low, high), _ in parts))]
    joined = (
        np.concatenate([np.broadcast_to(pair[i], whole) for (pair, _), whole in zip(parts, wholes, strict=True)], axis)
        for i in (0, 1)
    )
    low, high = joined
    return [(low, high)]


def _split(context: RuleContext, node: Node) -> list[Pair]:
    pair, axis = context.first(node), int(node.attributes.get("axis", 0)) % len(context.shape(node))
    if pair[0].shape[axis] == 1:
        return [pair] * len(node.outputs)
    ends = np.cumsum([context.shapes[name][axis] for name in node.outputs])[:-1]
    return list(zip(np.split(pair[0], ends, axis), np.split(pair[1], ends, axis), strict=True))


def _slice(context: RuleContext, node: Node) -> list[Pair]:
    pair, shape = context.first(node), context.shape(node)
    listed = [context.constant(node, index) for index in (1, 2, 3, 4)]
    present = sum(bool(name) for name in node.inputs[1:])
    if sum(constant is not None for constant in listed) < present:
        return _anything_of(context, node)
    starts, ends, axes, steps = listed
    assert starts is not None
    assert ends is not None
    cut = [slice(None)] * len(shape)
    for index in range(len(starts)):
        axis = index if axes is None else int(axes[index]) % len(shape)
        step = 1 if steps is None else int(steps[index])
        start, end = int(starts[index]), int(ends[index])
        if pair[0].shape[axis] > 1:
            cut[axis] = slice(start, None if step < 0 and end < -shape[axis] else end, step)
    return [(pair[0][tuple(cut)], pair[1][tuple(cut)])]


def _gather(context: RuleContext, node: Node) -> list[Pair]:
    pair, indices = context.first(node), context.constant(node, 1)
    if indices is None:
        return _anything_of(context, node)
    axis = int(node.attributes.get("axis", 0)) % len(context.shape(node))
    chosen = indices.astype(np.int64) if pair[0].shape[axis] > 1 else np.zeros((1,) * indices.ndim, np.int64)
    return [(np.take(pair[0], chosen, axis), np.take(pair[1], chosen, axis))]


def _resize(context: RuleContext, node: Node) -> list[Pair] | None:
    """Nearest picks, linear mixes with weights that sum to one; a cubic overshoots."""
    if node.attributes.get("mode", "nearest") == "cubic":
        return None
    if node.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return None
    pair, shape = context.by_channel(node), context.shapes[node.outputs[0]]
    if len(shape) < 3 or shape[1] != context.shape(node)[1]:
        return _anything_of(context, node)
    terms = 1 << (len(shape) - 2)
    return _spread(*outward(*pair, largest(pair), terms), len(shape))


def _pad(context: RuleContext, node: Node) -> list[Pair] | None:
    pair, pads = context.first(node), context.constant(node, 1)
    if pads is None or not _only_spatial(context, node, pads, pair):
        pair = _hull_of_all(context, node, pair)
    if node.attributes.get("mode", "constant") != "constant":
        return [pair]  # reflected, repeated or wrapped: the same numbers
    fill = context.constant(node, 2) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(1)
    if fill is None:
        return None
    value = fill.astype(np.float64).reshape((1,) * pair[0].ndim)
    return [hull(pair, (value, value))]


def _only_spatial(context: RuleContext, node: Node, pads: np.ndarray, pair: Pair) -> bool:
    """Whether only axes are padded on which one interval holds for all positions."""
    rank = pair[0].ndim
    listed = context.constant(node, 3)
    if listed is None and len(node.inputs) > 3 and node.inputs[3]:
        return False
    axes = range(rank) if listed is None else [int(axis) % rank for axis in listed]
    padded = {axis for index, axis in enumerate(axes) if pads[index] or pads[index + len(pads) // 2]}
    return all(pair[0].shape[axis] == 1 for axis in padded)


def _reshape(context: RuleContext, node: Node) -> list[Pair]:
    pair, before, after = context.first(node), context.shape(node), context.shapes[node.outputs[0]]
    if math.prod(before) != math.prod(after) or math.prod(after) > LARGE or pair[0].size == 1:
        return _anything_of(context, node)
    return [_compressed(*(np.broadcast_to(end, before).reshape(after) for end in pair))]


def _compressed(low: np.ndarray, high: np.ndarray) -> Pair:
    """The same intervals, with axes along which they are all alike made 1 long."""
    for axis in range(low.ndim):
        first = (low.take([0], axis), high.take([0], axis)) if low.shape[axis] else (low, high)
        if np.all(low == first[0]) and np.all(high == first[1]):
            low, high = first
    return low, high


def _transpose(context: RuleContext, node: Node) -> list[Pair]:
    pair = context.first(node)
    order = node.attributes.get("perm", range(pair[0].ndim)[::-1])
    return [(pair[0].transpose(order), pair[1].transpose(order))]


def _softmax(context: RuleContext, node: Node) -> list[Pair]:
    shape = (1,) * len(context.shape(node))
    return [outward(np.zeros(shape), np.ones(shape), 1.0, max(context.shape(node)))]


def _matrix_product(context: RuleContext, node: Node) -> list[Pair] | None:
    """An image-dependent matrix on the left, a constant one on the right."""
    pair, weight = context.first(node), context.constant(node, 1)
    if weight is None or weight.ndim != 2 or node.attributes.get("transA", 0):
        return None
    if node.attributes.get("transB", 0):
        weight = weight.T
    around = pair[0].shape[:-1]
    rows = [np.broadcast_to(end, (*around, len(weight))).reshape(-1, len(weight)) for end in pair]
    low, high, magnitude = _rows_times(rows[0], rows[1], weight, float(node.attributes.get("alpha", 1.0)))
    if node.op == "Gemm" and len(node.inputs) > 2 and node.inputs[2]:
        addend = context.constant(node, 2)
        if addend is None:
            return None
        added = float(node.attributes.get("beta", 1.0)) * addend.astype(np.float64)
        low, high, magnitude = low + added, high + added, magnitude + abs(added)
    ends = outward(low, high, magnitude, len(weight))
    shape = (*around, weight.shape[1])
    return [(ends[0].reshape(shape), ends[1].reshape(shape))]


def _rows_times(
    low: np.ndarray, high: np.ndarray, weight: np.ndarray, alpha: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Σ over K of rows (R, K) times (K, N), some columns at a time: in float64 a whole matrix may not fit."""
    parts = []
    step = max(1, LARGE // len(weight))
    for start in range(0, weight.shape[1], step):
        columns = alpha * weight[:, start : start + step].T.astype(np.float64)[None]
        parts.append(weighted(np.maximum(columns, 0), np.minimum(columns, 0), (low, high)))
    low, high, magnitude = (np.concatenate([part[index] for part in parts], axis=1) for index in range(3))
    return low, high, magnitude


def _depth_to_space(context: RuleContext, node: Node) -> list[Pair]:
    pair, block = context.by_channel(node), int(node.attributes["blocksize"])
    columns_first = node.attributes.get("mode", "DCR") == "DCR"
    shape, axis = ((block**2, -1), 0) if columns_first else ((-1, block**2), 1)
    return _spread(pair[0].reshape(shape).min(axis), pair[1].reshape(shape).max(axis), 4)


def _space_to_depth(context: RuleContext, node: Node) -> list[Pair]:
    pair, block = context.by_channel(node), int(node.attributes["blocksize"])
    return _spread(np.tile(pair[0], block**2), np.tile(pair[1], block**2), 4)


def _local_response(context: RuleContext, node: Node) -> list[Pair] | None:
    """LRN divides by (bias + something not negative) to a power: it draws towards 0."""
    pair = context.first(node)
    bias, beta = node.attributes.get("bias", 1.0), node.attributes.get("beta", 0.75)
    if bias <= 0:  # ONNX Runtime refuses an alpha or beta below 0
        return None
    low, high = (end / bias**beta for end in with_zero(pair))
    return [outward(low, high, np.maximum(abs(low), abs(high)))]


def _instance_normalization(context: RuleContext, node: Node) -> list[Pair] | None:
    """Of n numbers none is further than sqrt(n − 1) standard deviations from their mean (Samuelson 1968)."""
    scale, shift = context.constant(node, 1), context.constant(node, 2)
    if scale is None or shift is None:
        return None
    count = math.prod(context.shape(node)[2:])
    reach = abs(scale.astype(np.float64)) * math.sqrt(count) * (1 + 2 * count * ROUNDING)
    return _spread(*outward(shift - reach, shift + reach, reach + abs(shift)), len(context.shape(node)))


RULES: dict[str, Callable[[RuleContext, Node], list[Pair] | None]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "BatchNormalization": _batch_normalization,
    "InstanceNormalization": _instance_normalization,
    "LRN": _local_response,
    "Dropout": _same,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalMaxPool": _global("Max"),
    "GlobalAveragePool": _global("Mean"),
    **{f"Reduce{kind}": _reduction(kind) for kind in ("Max", "Min", "Mean", "Sum")},
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Resize": _resize,
    "Pad": _pad,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Transpose": _transpose,
    **dict.fromkeys(("Tile", "GatherElements", "GatherND", "ReverseSequence"), _anything_of),
    "Softmax": _softmax,
    **dict.fromkeys(("Gemm", "MatMul"), _matrix_product),
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
