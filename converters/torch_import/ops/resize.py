"""Resize, from ONNX's own formula: along each axis every output is a weighted sum of a few inputs.

Where the inputs lie (`_positions`) and what they weigh (`_taps`) is geometry, computed in numpy from the two lengths;
what torch does is gather and add. Positions are float32, operation by operation as ONNX Runtime computes them, since
the nearest pixel hangs on their last bit. Where torch's own linear interpolation, or plain repetition, gives the same,
it is used.

Source: the ONNX operator specification, Resize-19.
"""

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from filterscope.converters.normal_form.output_sizes import common_scale
from filterscope.converters.torch_import.ops.common import attributes, bind, refuse

if TYPE_CHECKING:
    from onnx2torch.onnx_graph import OnnxGraph
    from onnx2torch.onnx_node import OnnxNode
    from onnx2torch.utils.common import OperationConverterResult

HALFWAY = np.float32(1e-6)  # so near a position is to the middle between two pixels that ONNX Runtime takes it for that
_TORCH_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}
_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
    "tf_half_pixel_for_nn",  # gone since opset 13; ONNX Runtime still runs it
)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one output position becomes input positions and weights: the node's attributes."""

    mode: str  # nearest, linear, cubic
    coordinates: str  # one of _COORDINATES
    nearest: str  # round_prefer_floor, round_prefer_ceil, floor, ceil
    cubic_a: float
    exclude_outside: bool  # inputs beyond the border weigh nothing, instead of repeating the border
    antialias: bool  # when shrinking, the kernel is stretched until it sees every input


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis to be resized."""

    index: int
    length: int
    count: int  # the new length
    scale: float
    crop: tuple[float, float]  # first and last position in parts of the length; read by tf_crop_and_resize


def resize(node: "OnnxNode", graph: "OnnxGraph") -> "OperationConverterResult":
    attrs = attributes(node)
    sampling = Sampling(
        mode=attrs.get("mode", "nearest"),
        coordinates=attrs.get("coordinate_transformation_mode", "half_pixel"),
        nearest=attrs.get("nearest_mode", "round_prefer_floor"),
        cubic_a=attrs.get("cubic_coeff_a", -0.75),
        exclude_outside=bool(attrs.get("exclude_outside", 0)),
        antialias=bool(attrs.get("antialias", 0)),
    )
    if sampling.mode not in ("nearest", "linear", "cubic") or sampling.coordinates not in _COORDINATES:
        refuse(node, f"has the unknown mode {sampling.mode!r} or coordinates {sampling.coordinates!r}")
    return bind(
        node,
        graph,
        _resize,
        numbers=(1, 2, 3),
        sampling=sampling,
        axes=attrs.get("axes"),
        policy=attrs.get("keep_aspect_ratio_policy", "stretch"),
        extrapolation=attrs.get("extrapolation_value", 0.0),
    )


def _resize(
    x: torch.Tensor,
    roi: list[float] | None = None,
    scales: list[float] | None = None,
    sizes: list[int] | None = None,
    *,
    sampling: Sampling,
    axes: list[int] | None,
    policy: str,
    extrapolation: float,
) -> torch.Tensor:
    places = [axis % x.ndim for axis in axes] if axes else list(range(x.ndim))
    lengths = [x.shape[axis] for axis in places]
    if scales:
        counts = [int(np.float32(length) * np.float32(scale)) for length, scale in zip(lengths, scales, strict=True)]
    else:
        counts, scales = _counts_and_scales(lengths, sizes or lengths, policy)
    crops = list(zip(roi[: len(places)], roi[len(places) :], strict=True)) if roi else [(0.0, 1.0)] * len(places)
    cropping = sampling.coordinates == "tf_crop_and_resize"
    axes_to_resize = [
        Axis(index=index, length=lengths[place], count=counts[place], scale=scales[place], crop=crops[place])
        for place, index in enumerate(places)
    ]
    todo = [
        axis
        for axis in axes_to_resize
        if axis.count != axis.length or axis.scale != 1.0 or (cropping and axis.crop != (0.0, 1.0))
    ]
    if not todo or list(counts) == lengths:  # ONNX Runtime copies then, whatever the scales and the crop
        return x
    if _is_spatial(x, todo) and not cropping:
        size = [*x.shape[2:]]
        for axis in todo:
            size[axis.index - 2] = axis.count
        if _repeats(todo, sampling):
            return F.interpolate(x, size, mode="nearest-exact")
        if _is_torch_linear(todo, sampling):
            corners = sampling.coordinates == "align_corners"
            return F.interpolate(x, size, mode=_TORCH_LINEAR[x.ndim], align_corners=corners)
    for axis in todo:
        x = _resample(x, axis, sampling)
    if cropping:
        for axis in todo:
            outside = torch.as_tensor(_outside(axis, sampling), device=x.device)
            x = x.masked_fill(outside.reshape(-1, *[1] * (x.ndim - 1 - axis.index)), extrapolation)
    return x


def _counts_and_scales(lengths: list[int], sizes: list[int], policy: str) -> tuple[list[int], list[float]]:
    """New lengths from the wanted `sizes`; with a policy one scale serves all axes."""
    ratios = [float(np.float32(size) / np.float32(length)) for size, length in zip(sizes, lengths, strict=True)]
    if policy == "stretch":
        return sizes, ratios
    scale = common_scale(policy, lengths, sizes)
    return [math.floor(scale * length + 0.5) for length in lengths], [scale] * len(lengths)


def _is_spatial(x: torch.Tensor, axes: list[Axis]) -> bool:
    """Whether F.interpolate takes these axes of `x` at all."""
    return x.ndim in _TORCH_LINEAR and x.is_floating_point() and all(axis.index >= 2 for axis in axes)


def _repeats(axes: list[Axis], sampling: Sampling) -> bool:
    """Whether every input is repeated equally often, one beside the other."""
    return sampling.mode == "nearest" and all(
        axis.count % axis.length == 0
        and np.array_equal(_nearest(axis, sampling), np.arange(axis.count) // (axis.count // axis.length))
        for axis in axes
    )


def _is_torch_linear(axes: list[Axis], sampling: Sampling) -> bool:
    """Whether F.interpolate's linear modes compute the same."""
    if sampling.mode != "linear":
        return False
    if sampling.coordinates not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        return False
    return all(
        math.isclose(axis.count, axis.length * axis.scale, rel_tol=1e-6)  # torch takes the scale from the sizes
        and (axis.count > 1 or sampling.coordinates != "pytorch_half_pixel")
        and (axis.scale >= 1 or not sampling.antialias)
        for axis in axes
    )


def _resample(x: torch.Tensor, axis: Axis, sampling: Sampling) -> torch.Tensor:
    if sampling.mode == "nearest":
        return x.index_select(axis.index, torch.as_tensor(_nearest(axis, sampling), device=x.device))
    indices, weights = _taps(axis, sampling)
    places = torch.as_tensor(indices, device=x.device)
    shares = torch.as_tensor(weights, dtype=x.dtype, device=x.device)
    terms = [
        x.index_select(axis.index, places[tap]) * shares[tap].reshape(-1, *[1] * (x.ndim - 1 - axis.index))
        for tap in range(len(indices))
    ]
    return functools.reduce(torch.add, terms)


def _positions(axis: Axis, coordinates: str) -> np.ndarray:
    """(count,) float32: where in the input each output lies."""
    one, half = np.float32(1), np.float32(0.5)
    length, count, scale = np.float32(axis.length), np.float32(axis.count), np.float32(axis.scale)
    steps = np.arange(axis.count, dtype=np.float32)
    if coordinates == "asymmetric":
        return steps / scale
    if coordinates == "tf_half_pixel_for_nn":
        return (steps + half) / scale
    if coordinates == "align_corners":
        return steps * (length - one) / (count - one) if axis.count > 1 else np.zeros_like(steps)
    if coordinates == "tf_crop_and_resize":
        first, last = np.float32(axis.crop[0]), np.float32(axis.crop[1])
        if axis.count == 1:
            return np.full_like(steps, half * (first + last) * (length - one))
        return first * (length - one) + steps * (last - first) * (length - one) / (count - one)
    if coordinates == "pytorch_half_pixel" and axis.count == 1:
        return np.zeros_like(steps)
    shift = np.float32(0)
    if coordinates == "half_pixel_symmetric":  # the rounding of the new length left something of the input
        shift = length / np.float32(2) * (one - count / (scale * length))
    return shift + (steps + half) / scale - half


def _outside(axis: Axis, sampling: Sampling) -> np.ndarray:
    """(count,) bool: outputs that lie beyond the input."""
    positions = _positions(axis, sampling.coordinates)
    return (positions < 0) | (positions > axis.length - 1)


@functools.lru_cache(maxsize=128)
def _nearest(axis: Axis, sampling: Sampling) -> np.ndarray:
    """(count,) int64: the input each output copies."""
    positions = _positions(axis, sampling.coordinates)
    if sampling.nearest == "floor":
        rounded = np.floor(positions)
    elif sampling.nearest == "ceil":
        rounded = np.ceil(positions)
    else:
        below = np.floor(positions)
        is_halfway = np.abs(positions - (below + np.float32(0.5))) < HALFWAY
        between = below + (sampling.nearest == "round_prefer_ceil")
        rounded = np.where(is_halfway, between, np.round(positions))
    indices: np.ndarray = np.clip(rounded, 0, axis.length - 1).astype(np.int64)
    return indices


@functools.lru_cache(maxsize=128)
def _taps(axis: Axis, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """(K, count) int64 and float64: the inputs each output reads, and their weights, which sum to 1."""
    stretch = max(1.0, 1.0 / axis.scale) if sampling.antialias else 1.0
    reach = math.ceil((1 if sampling.mode == "linear" else 2) * stretch)
    positions = _positions(axis, sampling.coordinates).astype(np.float64)
    places = np.floor(positions) + np.arange(1 - reach, reach + 1)[:, None]
    distances = np.abs(positions - places) / stretch
    weights = np.clip(1 - distances, 0, None) if sampling.mode == "linear" else _cubic(distances, sampling.cubic_a)
    if sampling.exclude_outside:
        weights = np.where((places < 0) | (places > axis.length - 1), 0.0, weights)
    return np.clip(places, 0, axis.length - 1).astype(np.int64), weights / weights.sum(axis=0)


def _cubic(distances: np.ndarray, a: float) -> np.ndarray:
    """Keys' kernel (1981), doi:10.1109/TASSP.1981.1163711, with his free parameter `a`."""
    near = ((a + 2) * distances - (a + 3)) * distances**2 + 1
    far = ((a * distances - 5 * a) * distances + 8 * a) * distances - 4 * a
    return np.where(distances <= 1, near, np.where(distances < 2, far, 0.0))
