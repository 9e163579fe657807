"""The second pass: pictures of the strongest images, and what a unit's map looks like over them.

Only images that something is shown of are read again. Knows sessions, data sets and the run; knows nothing of
statistics.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from filterscope.analyzer.data.dataset import Batch, DataSet, read_batch
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.progress import Progress
from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.writer import RunWriter
from filterscope.analyzer.studies.examples.pass_over_data import at_once
from filterscope.converters.errors import InputError
from filterscope.converters.reductions import PoolingSession

MAP_SIDE = 28  # of a kept map at most; a larger one is made smaller by maxima of windows
MAP_BYTES = 1 << 27  # of maps fetched at a time
VALUE_BYTES = 1 << 25  # of the largest value inside the network, for all images that it sees at once
MOST_AT_ONCE = 32  # images
SHEET_BYTES = 1 << 24  # of pixels in one atlas of pictures


@dataclass(frozen=True, slots=True)
class AtlasTile:
    """Where a picture is kept: an atlas, its tile there, and its size in pixels."""

    atlas: str
    tile: int
    height: int
    width: int


@dataclass(frozen=True, slots=True, eq=False)
class MapRequest:
    """Maps to keep of one layer."""

    layer: Layer
    slug: str
    channels: np.ndarray  # (n,) int64
    images: np.ndarray  # (n,) int64: of channel i over image i, number in the data set


def keep_pictures(
    network: Network,
    data: DataSet,
    resize: str,
    pictures: np.ndarray,
    maps: Sequence[MapRequest],
    writer: RunWriter,
    progress: Progress,
) -> tuple[dict[int, AtlasTile], dict[str, list[AtlasTile]]]:
    """Read images again, save some of them, and save maps over some of them.

    Args:
        pictures: numbers of the images to save, each once.
        maps: what to save of each layer.

    Returns:
        For each saved image its place, and for each layer's name the places of its maps, in the order asked for.

    Raises:
        InputError: an image that could be read before cannot be read any more.
    """
    over = _over_images(network, maps)
    numbers = np.union1d(pictures, over.images)
    progress.stage("pictures of examples", len(numbers))
    sheets = _Sheets(writer, network)
    for batch in _read(network, data, resize, numbers, size=over.at_once):
        sheets.add(batch.numbers, batch.pixels, np.isin(batch.numbers, pictures))
        over.add(batch)
        progress.advance(len(batch.numbers))
    sheets.close()
    return sheets.places, over.save(writer)


def _read(network: Network, data: DataSet, resize: str, numbers: np.ndarray, size: int) -> Iterator[Batch]:
    for first in range(0, len(numbers), size):
        batch = read_batch(data, numbers[first : first + size].tolist(), network.input, resize)
        if batch.broken:
            raise InputError(f"the data set changed while it was read: {batch.broken[0]}")
        yield batch


class _Sheets:
    """Atlases of pictures, each written when it is full."""

    def __init__(self, writer: RunWriter, network: Network) -> None:
        spec = network.input
        self.places: dict[int, AtlasTile] = {}
        self._writer = writer
        self._size = (spec.height, spec.width)
        self._most = max(1, SHEET_BYTES // (spec.height * spec.width * spec.channels))
        self._waiting: list[np.ndarray] = []
        self._sheet = 0

    def add(self, numbers: np.ndarray, pixels: np.ndarray, chosen: np.ndarray) -> None:
        for number, picture in zip(numbers[chosen].tolist(), pixels[chosen], strict=True):
            self.places[number] = AtlasTile(self._name(), len(self._waiting), *self._size)
            self._waiting.append(picture)
            if len(self._waiting) == self._most:
                self.close()

    def close(self) -> None:
        if self._waiting:
            self._writer.write_bytes(self._name(), atlas.to_png(atlas.pack(np.stack(self._waiting))))
            self._waiting.clear()
            self._sheet += 1

    def _name(self) -> str:
        return f"examples/pictures-{self._sheet}.png"


def _over_images(network: Network, maps: Sequence[MapRequest]) -> _Maps:
    return _Maps(network, [request for request in maps if len(request.images)])


class _Maps:
    """Maps over images that come in any order, each kept as 8 bits."""

    def __init__(self, network: Network, maps: Sequence[MapRequest]) -> None:
        self.images = np.unique(np.concatenate([request.images for request in maps] or [np.empty(0, np.int64)]))
        self._input = network.input
        self._maps = maps
        windows = {request.layer.value: _window(request.layer) for request in maps}
        self._session: PoolingSession | None = None
        if maps:
            declared, alone = network.declared(), network.one_at_a_time
            self._session = PoolingSession(network.model.proto, windows, declared, one_at_a_time=alone)
        sizes = {request.layer.value: _side_by_side(request.layer) for request in maps}
        fetched = sum(4 * request.layer.out_channels * math.prod(sizes[request.layer.value]) for request in maps)
        self.at_once = min(at_once(network, VALUE_BYTES, MOST_AT_ONCE), max(1, MAP_BYTES // max(fetched, 1)))
        self._tiles = [np.zeros((len(request.images), *sizes[request.layer.value], 1), np.uint8) for request in maps]

    def add(self, batch: Batch) -> None:
        """Take the maps over those images of a batch that are wanted."""
        shown = np.isin(batch.numbers, self.images)
        if self._session is None or not shown.any():
            return
        maps = self._session.run(self._input.to_model(batch.pixels[shown]))
        numbers = batch.numbers[shown]
        for request, tiles in zip(self._maps, self._tiles, strict=True):
            for tile in np.nonzero(np.isin(request.images, numbers))[0]:
                image = np.searchsorted(numbers, request.images[tile])
                tiles[tile, ..., 0] = shades(maps[request.layer.value][image, request.channels[tile]])

    def save(self, writer: RunWriter) -> dict[str, list[AtlasTile]]:
        """Write an atlas a layer."""
        places = {}
        for request, tiles in zip(self._maps, self._tiles, strict=True):
            name = f"examples/{request.slug}-maps.png"
            writer.write_bytes(name, atlas.to_png(atlas.pack(tiles)))
            places[request.layer.name] = [AtlasTile(name, i, tiles.shape[1], tiles.shape[2]) for i in range(len(tiles))]
        return places


def shades(seen: np.ndarray) -> np.ndarray:
    """A map as grey: 0 and below black, its maximum white; all black where nothing is above 0."""
    high = float(seen.max())
    if not high > 0:
        return np.zeros(seen.shape, np.uint8)
    return np.rint(np.clip(seen / high, 0, 1) * 255).astype(np.uint8)


def _window(layer: Layer) -> tuple[int, int]:
    height, width = layer.output_shape[1:]
    return math.ceil(height / MAP_SIDE), math.ceil(width / MAP_SIDE)


def _side_by_side(layer: Layer) -> tuple[int, int]:
    (height, width), window = layer.output_shape[1:], _window(layer)
    return math.ceil(height / window[0]), math.ceil(width / window[1])


def row_of(tile: AtlasTile | None) -> Mapping[str, str | int | None]:
    """A place as columns of a table."""
    if tile is None:
        return {"atlas": None, "tile": None, "height": None, "width": None}
    return {"atlas": tile.atlas, "tile": tile.tile, "height": tile.height, "width": tile.width}
