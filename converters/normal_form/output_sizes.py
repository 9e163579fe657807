"""Sizes of what poolings and Resizes give, where ONNX's own inference rounds otherwise than ONNX Runtime computes.

A pooling with ceil_mode has no window that begins in the padding behind the image; a Resize multiplies in float32,
where 20 · 0.7 is 14; with a policy it rounds half up. Knows integers; knows nothing of graphs.

Source: ONNX Runtime, core/providers/cpu/nn/pool_attributes.h and tensor/upsample.h.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from filterscope.converters.operator_facts import Kind, operators

POOLINGS = operators(lambda facts: facts.kind is Kind.POOLING)
Extents = Sequence[Any]  # an int where it is known


def may_differ(op: str, attributes: Mapping[str, Any], scales: np.ndarray | None) -> bool:
    """Whether ONNX could infer another size than ONNX Runtime computes.

    Args:
        op, attributes: of a node.
        scales: of a Resize, where they are constant.
    """
    if op in POOLINGS:
        return bool(attributes.get("ceil_mode", 0)) and bool(attributes.get("kernel_shape"))
    if op != "Resize":
        return False
    if attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return True
    # A power of two times an integer has no rounding.
    return (
        scales is not None
        and bool(np.isfinite(scales).all())
        and any(math.frexp(float(scale))[0] not in (0.0, 0.5) for scale in scales.reshape(-1))
    )


def output_extents(
    op: str,
    attributes: Mapping[str, Any],
    extents: Extents,
    scales: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
) -> list[Any]:
    """The shape that ONNX Runtime computes; None where an extent of the input, or what it is resized to, is not known.

    Args:
        op: one of POOLINGS, or Resize.
        attributes: of the node.
        extents: of its first input.
        scales, sizes: of a Resize, where they are constant.
    """
    if op == "Resize":
        return _resized(attributes, extents, scales, sizes, _times)
    return _pooled(attributes, extents, windows_along)


def undisputed_extents(
    op: str,
    attributes: Mapping[str, Any],
    extents: Extents,
    scales: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
) -> list[Any]:
    """As `output_extents`, but None where ONNX infers something else.

    ONNX Runtime infers as ONNX does before it runs, and refuses a graph in which a constant contradicts that.
    """
    computed = output_extents(op, attributes, extents, scales, sizes)
    if op != "Resize":
        inferred = _pooled(attributes, extents, _windows_as_inferred)
    elif attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return [None] * len(extents)
    else:
        inferred = _resized(attributes, extents, scales, sizes, lambda extent, scale: int(extent * scale))
    return [ours if ours == theirs else None for ours, theirs in zip(computed, inferred, strict=True)]


def windows_along(extent: int, reach: int, stride: int, begin: int, end: int, *, ceil: bool) -> int:
    """How many windows a pooling has along one axis.

    Args:
        extent: of the input.
        reach: input positions from a window's first to its last, both counted.
        stride: of the windows.
        begin, end: padding.
        ceil: whether the last window may hang over the end.
    """
    count = _windows_as_inferred(extent, reach, stride, begin, end, ceil=ceil)
    return count - 1 if ceil and (count - 1) * stride >= extent + begin else count


def common_scale(policy: str, lengths: Sequence[int], sizes: Sequence[int]) -> float:
    """The one scale of all axes of a Resize that keeps the aspect ratio."""
    ratios = [float(np.float32(size) / np.float32(length)) for size, length in zip(sizes, lengths, strict=True)]
    return min(ratios) if policy == "not_larger" else max(ratios)


def _windows_as_inferred(extent: int, reach: int, stride: int, begin: int, end: int, *, ceil: bool) -> int:
    room = extent + begin + end - reach
    if ceil:
        return math.ceil(room / stride) + 1
    return int(room / stride) + 1  # towards zero: one window may be larger than the padded image


def _pooled(attributes: Mapping[str, Any], extents: Extents, windows: Callable[..., int]) -> list[Any]:
    kernel = list(attributes["kernel_shape"])
    rank = len(kernel)
    strides = attributes.get("strides") or [1] * rank
    dilations = attributes.get("dilations") or [1] * rank
    pads = attributes.get("pads") or [0] * 2 * rank
    mode = attributes.get("auto_pad", "NOTSET")
    ceil = bool(attributes.get("ceil_mode", 0))
    if not rank == len(extents) - 2 == len(strides) == len(dilations) == len(pads) / 2 or min(strides) < 1:
        return [None] * len(extents)  # not what ONNX allows; ONNX Runtime will say so
    result = list(extents[:2])
    for axis, extent in enumerate(extents[2:]):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        if not isinstance(extent, int):
            result.append(None)
        elif mode in ("SAME_UPPER", "SAME_LOWER"):
            result.append(math.ceil(extent / strides[axis]))
        else:
            begin, end = (0, 0) if mode == "VALID" else (int(pads[axis]), int(pads[rank + axis]))
            result.append(windows(extent, reach, int(strides[axis]), begin, end, ceil=ceil))
    return result


def _times(extent: int, scale: float) -> int:
    return int(np.float32(extent) * np.float32(scale))


def _resized(
    attributes: Mapping[str, Any],
    extents: Extents,
    scales: np.ndarray | None,
    sizes: np.ndarray | None,
    times: Callable[[int, float], int],
) -> list[Any]:
    rank = len(extents)
    axes = [int(axis) % rank for axis in attributes.get("axes") or range(rank)]
    result = list(extents)
    if scales is not None and scales.size == len(axes):
        for axis, scale in zip(axes, scales.reshape(-1), strict=True):
            before = extents[axis]
            if scale != 1:
                result[axis] = times(before, float(scale)) if isinstance(before, int) else None
        return result
    if sizes is None or sizes.size != len(axes):
        return [None] * rank
    wanted = [int(size) for size in sizes.reshape(-1)]
    policy, lengths = attributes.get("keep_aspect_ratio_policy", "stretch"), [extents[axis] for axis in axes]
    after: list[Any] = list(wanted)
    if policy != "stretch":
        known = all(isinstance(extent, int) for extent in lengths)
        scale = common_scale(policy, lengths, wanted) if known else 0.0
        after = [math.floor(scale * extent + 0.5) if known else None for extent in lengths]
    for axis, size in zip(axes, after, strict=True):
        result[axis] = size
    return result
