"""Many small pictures in one lossless PNG: an atlas.

Knows pixels and Pillow; knows nothing of networks, runs or HTML.
"""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

PNG_LEVEL = 4  # zlib level: noise hardly shrinks at 9, which takes four times as long


def pack(tiles: np.ndarray) -> Image.Image:
    """Lay tiles of one size out in rows, as close to a square as whole tiles allow.

    Args:
        tiles: (N, H, W, C) uint8, N ≥ 1. C = 3 gives an RGB picture and C = 1 a grey one; any other number of
            bands is stacked as C grey planes, one above the other, inside each tile.

    Returns:
        The picture; tile i stands at row i // columns, column i % columns, columns = picture width // W.
    """
    if tiles.dtype != np.uint8 or tiles.ndim != 4 or not len(tiles):
        raise ValueError(f"tiles are (N, H, W, C) uint8 with N ≥ 1, got {tiles.dtype} {tiles.shape}")
    planes = _stack_bands(tiles)
    count, height, width, bands = planes.shape
    rows, columns = _grid(count, height, width)
    sheet = np.zeros((rows * height, columns * width, bands), np.uint8)
    for index, tile in enumerate(planes):
        row, column = divmod(index, columns)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = tile
    return Image.fromarray(sheet if bands == 3 else sheet[:, :, 0])


def sheet_size(shape: tuple[int, int, int, int]) -> tuple[int, int]:
    """Height and width of the picture that `pack` makes of tiles of this shape, (N, H, W, C)."""
    count, height, width, bands = shape
    stacked = height * (1 if bands in (1, 3) else bands)
    rows, columns = _grid(count, stacked, width)
    return rows * stacked, columns * width


def unpack(sheet: np.ndarray, index: int, height: int, width: int, bands: int) -> np.ndarray:
    """Tile `index` of a sheet as (H, W, C) uint8.

    Args:
        sheet: (rows, columns) or (rows, columns, 3) uint8, an atlas as read back.
        index: which tile, from 0.
        height: rows of one picture, before bands were stacked.
        width: columns of one picture.
        bands: channels of the picture.

    Raises:
        IndexError: the atlas holds no such tile.
    """
    if min(height, width, bands) < 1:
        raise IndexError(f"no tile has {height}×{width} pixels in {bands} bands")
    stacked = height * (1 if bands in (1, 3) else bands)
    columns = sheet.shape[1] // width
    row, column = divmod(index, max(columns, 1))
    tile = sheet[row * stacked : (row + 1) * stacked, column * width : (column + 1) * width]
    if index < 0 or tile.shape != (stacked, width, 3)[: 3 if bands == 3 else 2]:
        raise IndexError(f"tile {index} of {height}×{width}×{bands} lies outside an atlas of {sheet.shape}")
    if bands == 3:
        return tile
    return np.moveaxis(tile.reshape(-1, height, width), 0, -1)


def to_png(picture: Image.Image) -> bytes:
    """The picture as PNG bytes, the same bytes for the same pixels."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def _grid(count: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns in which so many tiles of one size are nearly a square."""
    columns = max(1, min(count, round(math.sqrt(count * height / width))))
    return math.ceil(count / columns), columns


def _stack_bands(tiles: np.ndarray) -> np.ndarray:
    """(N, H, W, C) with C other than 1 or 3 → (N, C·H, W, 1)."""
    count, height, width, bands = tiles.shape
    if bands in (1, 3):
        return tiles
    return np.moveaxis(tiles, -1, 1).reshape(count, bands * height, width, 1)
