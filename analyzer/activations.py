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

from analyzer import atlas
from analyzer.layers import ConvLayer
from analyzer.network import Network
from analyzer.run import RunWriter
from analyzer.tables import MAP_SCHEMA
from converters.chunks import fitting

GROUP_BYTES = 1 << 28  # of maps of one image and of all statistics, held at a time
MAP_PICTURES = 12  # images whose maps are kept as pictures, unless more are asked for


def layer_groups(network: Network, layers: Sequence[ConvLayer], images: int) -> Iterator[list[ConvLayer]]:
    """Layers in network order, in groups that fit into GROUP_BYTES together."""
    yield from fitting(
        layers, lambda layer: 4 * math.prod(layer.output_shape) + 20 * images * layer.out_channels, GROUP_BYTES
    )


def write_maps(
    network: Network,
    group: Sequence[ConvLayer],
    slugs: dict[str, str],
    images: Sequence[np.ndarray],
    writer: RunWriter,
    pictures: int = MAP_PICTURES,
) -> None:
    """Run each image once through the part of the network that leads to these layers, and save what they answer.

    Args:
        group: layers whose maps fit into memory together.
        slugs: layer name → file name.
        images: (H, W, C) uint8 each, at the network's input size.
        pictures: of how many of the images the maps are kept as pictures; all images have their numbers kept.
    """
    session = network.session([layer.value for layer in group], (network.input.height, network.input.width))
    found: dict[str, list[dict[str, np.ndarray]]] = {layer.name: [] for layer in group}
    for index, pixels in enumerate(images):
        values = session.run(network.input.to_model(pixels[None]))
        for layer in group:
            maps = values[layer.value][0]
            found[layer.name].append(_statistics(maps))
            if index < pictures:
                writer.write_bytes(_atlas_name(slugs[layer.name], index), map_atlas(maps))
    for layer in group:
        table = _table(slugs[layer.name], layer, found[layer.name], pictures)
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


def _table(slug: str, layer: ConvLayer, found: list[dict[str, np.ndarray]], pictures: int) -> pa.Table:
    channels = layer.out_channels
    width = layer.output_shape[2]
    where = np.concatenate([statistics["where"] for statistics in found])
    image = np.repeat(np.arange(len(found), dtype=np.int32), channels)
    channel = np.tile(np.arange(channels, dtype=np.int32), len(found))
    kept = image < pictures
    columns: dict[str, Any] = {
        "image": image,
        "channel": channel,
        **{name: np.concatenate([one[name] for one in found]) for name in ("minimum", "mean", "maximum")},
        "row": where // width,
        "column": where % width,
        "atlas": pa.array([_atlas_name(slug, int(i)) if k else None for i, k in zip(image, kept, strict=True)]),
        "tile": pa.array(channel, mask=~kept),
        "height": np.full(len(image), layer.output_shape[1], np.int32),
        "width": np.full(len(image), width, np.int32),
    }
    return pa.Table.from_pydict(columns, MAP_SCHEMA)
