"""Activation maps of the user's images, for every convolution layer, in bounded memory.

Layers are taken in groups whose maps fit into a fixed budget, images one after the other; nothing else is held. Knows
ONNX Runtime's sessions and the run; knows nothing of torch or HTML.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.tables import MAP_SCHEMA
from filterscope.analyzer.run.writer import RunWriter
from filterscope.converters.grouping import groups_within

GROUP_BYTES = 1 << 28  # of maps of one image and of all statistics, held at a time
MAP_PICTURES = 12  # images whose maps are kept as pictures, unless more are asked for


def layer_groups(network: Network, layers: Sequence[Layer], images: int) -> Iterator[list[Layer]]:
    """Layers in network order, in groups that fit into GROUP_BYTES together."""
    yield from groups_within(
        layers, lambda layer: 4 * math.prod(layer.output_shape) + 20 * images * layer.out_channels, GROUP_BYTES
    )


def write_maps(
    network: Network,
    group: Sequence[Layer],
    images: Sequence[np.ndarray],
    *,
    slugs: dict[str, str],
    writer: RunWriter,
    pictures: int = MAP_PICTURES,
) -> None:
    """Run each image once through the part of the network that leads to these layers, and save what they answer.

    Args:
        group: layers whose maps fit into memory together.
        images: (H, W, C) uint8 each, at the network's input size.
        slugs: layer name → file name.
        writer: of the run.
        pictures: of how many of the images the maps are kept as pictures; all images have their numbers kept.
    """
    session = network.session([layer.value for layer in group], (network.input.height, network.input.width))
    measured: dict[str, list[dict[str, np.ndarray]]] = {layer.name: [] for layer in group}
    for index, pixels in enumerate(images):
        values = session.run(network.input.to_model(pixels[None]))
        for layer in group:
            maps = values[layer.value][0]
            measured[layer.name].append(_statistics(maps))
            if index < pictures:
                writer.write_bytes(_atlas_name(slugs[layer.name], index), map_atlas(maps))
    for layer in group:
        table = _table(slugs[layer.name], layer, measured[layer.name], pictures)
        writer.write_table(f"maps/{slugs[layer.name]}.parquet", table)


def _atlas_name(slug: str, image: int) -> str:
    return f"maps/{slug}-{image}.png"


def _statistics(maps: np.ndarray) -> dict[str, np.ndarray]:
    flat = maps.reshape(len(maps), -1)
    with np.errstate(invalid="ignore", over="ignore"):  # a network's own infinities
        mean = flat.mean(axis=1, dtype=np.float64).astype(np.float32)
    return {
        "minimum": flat.min(axis=1),
        "mean": mean,
        "maximum": flat.max(axis=1),
        "where": flat.argmax(axis=1).astype(np.int32),
    }


def map_atlas(maps: np.ndarray) -> bytes:
    """Each map from its own minimum, black, to its own maximum, white; a constant map and what is no number: black."""
    with np.errstate(invalid="ignore", over="ignore"):
        low = maps.min(axis=(1, 2), keepdims=True)
        spread = maps.max(axis=(1, 2), keepdims=True) - low
        share = np.nan_to_num((maps - low) / np.where(spread > 0, spread, 1))
    return atlas.to_png(atlas.pack(np.rint(share * 255).astype(np.uint8)[..., None]))


def _table(slug: str, layer: Layer, measured: list[dict[str, np.ndarray]], pictures: int) -> pa.Table:
    channels = layer.out_channels
    width = layer.output_shape[2]
    where = np.concatenate([statistics["where"] for statistics in measured])
    image = np.repeat(np.arange(len(measured), dtype=np.int32), channels)
    channel = np.tile(np.arange(channels, dtype=np.int32), len(measured))
    has_picture = image < pictures
    columns: dict[str, Any] = {
        "image": image,
        "channel": channel,
        **{name: np.concatenate([one[name] for one in measured]) for name in ("minimum", "mean", "maximum")},
        "row": where // width,
        "column": where % width,
        "atlas": pa.array([_atlas_name(slug, int(i)) if k else None for i, k in zip(image, has_picture, strict=True)]),
        "tile": pa.array(channel, mask=~has_picture),
        "height": np.full(len(image), layer.output_shape[1], np.int32),
        "width": np.full(len(image), width, np.int32),
    }
    return pa.Table.from_pydict(columns, MAP_SCHEMA)
