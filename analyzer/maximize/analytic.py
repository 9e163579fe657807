"""Closed-form maximisers: the best input of a neuron that is a linear function of a box.

Such a function is greatest at a vertex: each number as high as it goes where its coefficient is positive, as low where
it is negative. A convolution that sees the image is one of the pixels; every convolution is one of its own input. Knows
layers and pictures; knows nothing of ascent, runs or HTML.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from filterscope.analyzer.bounds.interval_bounds import Interval
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.network.receptive_fields import resolved_pads
from filterscope.analyzer.units.canvas import canvas_for
from filterscope.converters.errors import SettingsError

LOW, MIDDLE, HIGH = 0, 128, 255  # MIDDLE: the mean of the domain, where nothing depends on it


@dataclass(frozen=True, slots=True, eq=False)
class AnalyticUnits:
    """Closed-form maximisers of some units of one layer."""

    tiles: np.ndarray  # (units, H, W, C) uint8, in the order of the channels asked for
    values: np.ndarray  # (units,) float64, the exact maximum; NaN where the layer's input has no finite range
    space: str  # "image": pixels; "input": the layer's own input, each channel from its low 0 to its high 255

    def __post_init__(self) -> None:
        if self.tiles.dtype != np.uint8 or self.tiles.ndim != 4 or self.values.shape != self.tiles.shape[:1]:
            raise ValueError(f"{self.tiles.dtype} tiles {self.tiles.shape} do not fit values {self.values.shape}")


def image_maximisers(network: Network, layer: Layer, channels: Sequence[int]) -> AnalyticUnits:
    """The picture that excites one neuron of each unit most, for a convolution that sees the image directly.

    Neuron and picture size are those of `canvas_for(network, layer, "neuron")`: a neuron whose field holds no padding,
    or the middle one where the model's input is too small for that; taps on padding then add nothing.

    Args:
        layer: a two-dimensional Conv with `sees_image` and constant weights.
        channels: units, in any order.

    Returns:
        Pictures of the canvas's size in RGB order, 128 wherever a pixel has no effect: a weight of 0, a row that a
        dilation skips, a place outside the field. Values are Σ w·x + b in float64, x being what the layer is fed:
        ONNX Runtime measures the same on the pictures, to float32's rounding.

    Raises:
        SettingsError: the layer is no such convolution.

    Source: the vertex rule of linear functions on boxes; the mapping from source to pixels is measured, so that
        channel orders, negative scales and mean images need no cases of their own.
    """
    weight, bias = _constants(layer)
    node = network.model.graph.producer(layer.value)
    if not layer.sees_image or layer.op != "Conv" or layer.field is None or node is None:
        raise SettingsError(
            f"{layer.name}: is not a Conv directly on the image; only those have a best picture in closed form"
        )
    canvas = canvas_for(network, layer, "neuron")
    black, steps = _source_of_pixels(network, layer, canvas.size)
    begins = resolved_pads(node, {**network.shapes, layer.source: (1, *black.shape)})
    taps, places = [], []
    for axis, position in enumerate((canvas.row or 0, canvas.column or 0)):
        reached = position * layer.stride[axis] - begins[axis] + np.arange(layer.kernel[axis]) * layer.dilation[axis]
        inside = np.flatnonzero((reached >= 0) & (reached < canvas.size[axis]))
        taps.append(inside)
        places.append(reached[inside])
    met: tuple[Any, ...] = np.ix_(*taps)
    seen: tuple[Any, ...] = np.ix_(*places)
    black, steps = black[:, *seen], steps[:, :, *seen]  # at the taps alone
    tiles = np.full((len(channels), *canvas.size, len(steps)), MIDDLE, np.uint8)
    values = np.empty(len(channels))
    for index, channel in enumerate(channels):
        kernel = weight[channel][:, *met]
        group = _group(layer, channel)
        effect = np.einsum("cij,bcij->ijb", kernel, steps[:, group])  # of raising a pixel from 0 to 255
        tiles[index][seen] = _vertex(effect)
        values[index] = bias[channel] + np.sum(kernel * black[group]) + np.maximum(effect, 0).sum()
    return AnalyticUnits(tiles, values, "image")


def input_maximisers(network: Network, layer: Layer, channels: Sequence[int], ranges: Interval | None) -> AnalyticUnits:
    """The pattern in the layer's own input that excites each unit of a convolution most.

    Args:
        network: the opened network.
        layer: a two-dimensional Conv or ConvTranspose with constant weights.
        channels: units, in any order.
        ranges: between which numbers its input stays, `intervals(network)[layer.source]`; None: unknown.

    Returns:
        Grey mosaics of a kernel-sized patch for each input channel of the unit's group, ceil(sqrt(C_in / groups)) to
        a row: 255 where a number should be as high as it goes, 0 as low, 128 where it does not matter or where there
        is no patch. Values are b + Σ max(w·low, w·high) over all taps, none of them on padding. A neuron of a strided
        ConvTranspose meets some of the taps only; there the value stands for all of the kernel.

    Raises:
        SettingsError: the layer is no such convolution.
    """
    weight, bias = _constants(layer)
    tiles = np.stack([_mosaic(_vertex(weight[channel])) for channel in channels])[..., None]
    values = np.full(len(channels), math.nan)
    if ranges is not None:
        low, high = (np.broadcast_to(end, layer.in_channels)[:, None, None] for end in (ranges.low, ranges.high))
        for index, channel in enumerate(channels):
            group = _group(layer, channel)
            kernel = weight[channel]
            best = np.zeros_like(kernel)
            np.multiply(kernel, high[group], out=best, where=kernel > 0)
            np.multiply(kernel, low[group], out=best, where=kernel < 0)
            total = bias[channel] + best.sum()
            values[index] = total if math.isfinite(total) else math.nan
    return AnalyticUnits(tiles, values, "input")


def _constants(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Weight (C_out, C_in / groups, k, k) and bias (C_out,), float64."""
    if layer.rank != 2 or layer.weight is None or layer.bias_vector is None:
        raise SettingsError(f"{layer.name}: closed forms need a two-dimensional convolution with constant weights")
    return layer.weight.astype(np.float64), layer.bias_vector.astype(np.float64)


def _group(layer: Layer, channel: int) -> slice:
    """Input channels that a unit reads."""
    size = layer.in_channels // layer.groups
    first = channel // (layer.out_channels // layer.groups) * size
    return slice(first, first + size)


def _vertex(effect: np.ndarray) -> np.ndarray:
    """The 8-bit vertex at which Σ effect · x is greatest."""
    return np.select([effect > 0, effect < 0], [HIGH, LOW], MIDDLE).astype(np.uint8)


def _mosaic(patches: np.ndarray) -> np.ndarray:
    """(patches, k, k) side by side, in a grid as near to a square as can be."""
    count, height, width = patches.shape
    columns = math.isqrt(count - 1) + 1
    rows = math.ceil(count / columns)
    padded = np.full((rows * columns, height, width), MIDDLE, np.uint8)
    padded[:count] = patches
    return padded.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)


def _source_of_pixels(network: Network, layer: Layer, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """How the layer's input follows from the pixels, each of which it is an affine map of.

    Returns:
        What a black picture gives, (C_in, H, W), and by how much each band of the picture, at 255 instead of 0, raises
        that, (bands, C_in, H, W); float64.
    """
    bands = network.input.channels
    pixels = np.zeros((1 + bands, *size, bands), np.uint8)
    pixels[1 + np.arange(bands), :, :, np.arange(bands)] = HIGH
    x = network.input.to_model(pixels)
    if layer.source != network.input.name:
        x = network.session([layer.source], size).run(x)[layer.source]
    exact = x.astype(np.float64)
    return exact[0], exact[1:] - exact[0]
