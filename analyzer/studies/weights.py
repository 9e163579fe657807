"""Weights of each unit: pictures of its kernels, what it listens to, what it feeds, and the units most like it.

A study of its own that every run gets: it needs no image and takes a second or two. Kernel pictures are bounded: the
strongest few input channels, and none of a kernel larger than a picture of it would help. Knows graphs and weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.tables import WEIGHT_SCHEMA
from filterscope.analyzer.studies.consumers import Consumer, Origin, consumers, signed_shares
from filterscope.analyzer.studies.study import Context
from filterscope.converters.graph import Graph, Node
from filterscope.converters.operator_facts import Channels, operators

INPUTS = 9  # strongest input channels kept of each unit
ALIKE = 5  # most similar units kept
FEEDS = 6  # units kept that take a unit in most
LARGEST_KERNEL = 32  # side beyond which no picture is kept
BLOCK = 2**22  # similarities computed at a time

SAME_CHANNELS = operators(lambda facts: facts.channels is Channels.SAME)
TOGETHER = operators(lambda facts: facts.channels is Channels.COMBINED)


@dataclass(frozen=True, slots=True)
class Weights:
    """The study `weights`."""

    @property
    def name(self) -> str:
        """Folder inside the run."""
        return "weights"

    def settings(self, context: Context) -> dict[str, Any]:
        """Nothing but the plan decides what it finds."""
        return {"inputs": INPUTS, "alike": ALIKE, "feeds": FEEDS}

    def run(self, context: Context) -> None:
        """Write a table and an atlas for each analysed layer whose weights are constants."""
        network = context.network
        origins = channel_origins(network)
        into = consumers(network.layers, origins, most=FEEDS)
        layers = [layer for layer in network.layers if layer.name in context.channels]
        context.progress.stage("reading weights", len(layers))
        for layer in layers:
            if layer.weight is None:
                context.notes.append(
                    f"{layer.name}: its kernel is computed from the picture and has no picture of its own"
                )
            else:
                feeds = [into.get((layer.name, channel), []) for channel in range(layer.out_channels)]
                _write(layer, origins.get(layer.source, []), feeds, context)
            context.progress.advance()


def _write(layer: Layer, origins: Sequence[Origin], feeds: Sequence[Sequence[Consumer]], context: Context) -> None:
    channels = context.channels[layer.name]
    slug = context.slugs[layer.name]
    weight = _kernels(layer)
    order = context.network.input.preprocessing.order
    colour = layer.sees_image and weight.shape[1] == 3 and layer.groups == 1
    tiles = kernel_pictures(weight[list(channels)], colour, order)
    name = f"weights/{slug}.png"
    if tiles is not None:
        context.writer.write_bytes(name, atlas.to_png(atlas.pack(tiles)))
    alike = most_alike(weight)
    strengths = np.sqrt(np.square(weight, dtype=np.float64).sum((2, 3)))  # (C_out, C_in / groups)
    shares = signed_shares(weight)
    a_group = layer.out_channels // layer.groups
    rows = []
    for tile, channel in enumerate(channels):
        strongest = np.argsort(-strengths[channel], kind="stable")[:INPUTS]
        inputs = [int(channel // a_group * weight.shape[1] + i) for i in strongest]
        traced = [origins[i] if i < len(origins) else None for i in inputs]
        picture = None if tiles is None else tiles[tile].shape
        rows.append(
            {
                "channel": channel,
                "norm": float(np.sqrt(np.square(strengths[channel]).sum())),
                "bias": None if layer.bias_vector is None else float(layer.bias_vector[channel]),
                "inputs": inputs,
                "norms": [float(strengths[channel, i]) for i in strongest],
                "shares": [float(shares[channel, i]) for i in strongest],
                "sources": [None if origin is None else origin[0] for origin in traced],
                "source_channels": [None if origin is None else origin[1] for origin in traced],
                "alike": [other for other, _ in alike[channel]],
                "cosines": [cosine for _, cosine in alike[channel]],
                "feeds": [one.layer for one in feeds[channel]],
                "feeds_channels": [one.channel for one in feeds[channel]],
                "feeds_shares": [one.share for one in feeds[channel]],
                "atlas": None if picture is None else name,
                "tile": None if picture is None else tile,
                "height": None if picture is None else picture[0],
                "width": None if picture is None else picture[1],
                "bands": None if picture is None else picture[2],
            }
        )
    context.writer.write_table(f"weights/{slug}.parquet", pa.Table.from_pylist(rows, WEIGHT_SCHEMA))


def _kernels(layer: Layer) -> np.ndarray:
    """(C_out, C_in / groups, kh, kw): of a transposed convolution too."""
    assert layer.weight is not None
    return np.asarray(layer.weight, np.float32)


def kernel_pictures(weight: np.ndarray, colour: bool, order: str) -> np.ndarray | None:
    """Kernels as signed pictures: 128 is 0, 1 and 255 are ∓ the unit's largest finite absolute weight; NaN is 128.

    Args:
        weight: (units, C, kh, kw).
        colour: whether the three input channels are red, green and blue of the image: then one picture in colour.
        order: RGB or BGR, of those.

    Returns:
        (units, kh, kw, 3) in colour, else (units, kh, n·kw, 1): the n ≤ 9 input channels of largest norm side by side.
        None where kernels are too large to be worth it.
    """
    units, inputs, height, width = weight.shape
    if max(height, width) > LARGEST_KERNEL or not units:
        return None
    finite = np.isfinite(weight)
    largest = np.where(finite, np.abs(weight), 0).reshape(units, -1).max(1)
    weight = np.where(finite, weight, np.where(np.isnan(weight), 0, np.sign(weight) * largest[:, None, None, None]))
    scaled = weight / np.maximum(largest, 1e-30)[:, None, None, None]
    signed = (128 + 127 * scaled).round().clip(1, 255).astype(np.uint8)
    if colour:
        planes = signed if order == "RGB" else signed[:, ::-1]
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    strength = np.square(weight, dtype=np.float64).sum((2, 3))
    chosen = np.argsort(-strength, axis=1, kind="stable")[:, : min(INPUTS, inputs)]
    strongest = np.take_along_axis(signed, chosen[:, :, None, None], 1)
    return strongest.transpose(0, 2, 1, 3).reshape(units, height, -1, 1)


def most_alike(weight: np.ndarray, most: int = ALIKE) -> list[list[tuple[int, float]]]:
    """For each unit the units whose kernels have the highest cosine with its own, highest first.

    Args:
        weight: (units, …); a unit of zeros is like none, and so is one with a weight that is no finite number.
        most: how many.
    """
    flat = weight.reshape(len(weight), -1)
    flat = np.where(np.isfinite(flat).all(axis=1, keepdims=True), flat, 0)
    largest = np.abs(flat).max(axis=1, initial=0)
    flat = flat / np.where(largest > 0, largest, 1)[:, None]  # so that no square is beyond float32
    norm = np.linalg.norm(flat, axis=1)
    unit = flat / np.where(norm > 0, norm, 1)[:, None]
    neighbours: list[list[tuple[int, float]]] = []
    step = max(1, BLOCK // max(1, len(unit)))
    for first in range(0, len(unit), step):
        cosines = unit[first : first + step] @ unit.T
        for row, values in enumerate(cosines):
            index = first + row
            values[index] = -math.inf
            best = np.argsort(-values, kind="stable")[:most]
            several = [(int(i), min(1.0, float(values[i]))) for i in best if norm[i] > 0 and i != index]
            neighbours.append(several if norm[index] > 0 else [])
    return neighbours


def channel_origins(network: Network) -> dict[str, list[Origin]]:
    """For each value the layer and channel that each of its channels comes from; values not traced are left out.

    Where several layers are added or multiplied, the last of them in graph order stands for all.
    """
    of_value = {layer.value: layer for layer in network.layers}
    index = {layer.name: layer.index for layer in network.layers}
    traced: dict[str, list[Origin]] = {}
    for node in network.model.graph.nodes:
        if node.outputs and node.outputs[0] in of_value:
            layer = of_value[node.outputs[0]]
            traced[node.outputs[0]] = [(layer.name, channel) for channel in range(layer.out_channels)]
            continue
        traced |= dict(_origins_after(node, network, traced, index))
    return traced


def _origins_after(
    node: Node, network: Network, traced: dict[str, list[Origin]], index: dict[str, int]
) -> list[tuple[str, list[Origin]]]:
    """Outputs of a node with their channels' origins, where its operator keeps channels apart."""
    graph: Graph = network.model.graph
    shape = network.shapes.get(node.outputs[0], ()) if node.outputs else ()
    if len(shape) < 2:
        return []
    width = int(shape[1])
    if node.op in SAME_CHANNELS:
        first = traced.get(node.inputs[0], [])
        return [(node.outputs[0], first)] if len(first) == width else []
    if node.op in TOGETHER:
        full = [v for v in node.inputs if v in traced and network.shapes.get(v) == shape and len(traced[v]) == width]
        if not full:
            return []
        return [(node.outputs[0], [_latest([traced[v][c] for v in full], index) for c in range(width)])]
    if node.op == "Concat" and node.attributes.get("axis") in (1, 1 - len(shape)):
        joined: list[Origin] = []
        for value in node.inputs:
            part = network.shapes.get(value) or graph.shapes.get(value) or ()
            extent = int(part[1] or 0) if len(part) > 1 and not isinstance(part[1], str) else 0
            joined += traced.get(value) or [None] * extent
        return [(node.outputs[0], joined)] if len(joined) == width else []
    if node.op == "Split" and node.attributes.get("axis", 0) in (1, 1 - len(shape)):
        whole = traced.get(node.inputs[0], [])
        widths = [int(network.shapes[v][1]) if v in network.shapes else 0 for v in node.outputs]
        if sum(widths) != len(whole):
            return []
        ends = np.cumsum([0, *widths])
        return [(v, whole[a:b]) for v, a, b in zip(node.outputs, ends, ends[1:], strict=False)]
    return []


def _latest(origins: Sequence[Origin], index: dict[str, int]) -> Origin:
    traced = [origin for origin in origins if origin is not None]
    return max(traced, key=lambda origin: index[origin[0]], default=None)
