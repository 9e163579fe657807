"""Sprite sheets: many pictures of one size in few WebP files, and the style rules that cut each one out.

A sheet holds columns × rows tiles. Its place is given in per cent, so that one rule serves every size at which a
page shows the tile. Knows pixels, WebP and CSS; knows nothing of runs or pages.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 1200  # pixels, of a sheet: 6 MiB once a browser has decoded it, which takes it some 20 ms
MOST = 128  # tiles a sheet: a browser that scrolls by fetches little that it does not show
PIXELATED = 64  # pictures with both sides below it are shown with hard pixels, enlarged by a whole factor
PLANES = 16  # bands shown of a picture that is neither grey nor RGB
CUSTOM = "--"  # with which CSS marks custom properties
LOSSY = {"quality": 82, "method": 1}
REDUCED = {"quality": 70, "method": 4}  # of pictures that are held smaller than they are, since there are so many
TRUE_ENOUGH = 28.0  # dB: colour noise at full contrast falls to 15 dB in a lossy WebP, which halves colour resolution


@dataclass(frozen=True, slots=True)
class Grid:
    """How tiles lie in sheets."""

    columns: int
    rows: int

    @property
    def tiles(self) -> int:
        """Tiles of a full sheet."""
        return self.columns * self.rows

    def sheet(self, tiles: list[np.ndarray]) -> np.ndarray:
        """One sheet of tiles of one shape, (rows·H, columns·W, bands); places beyond the last tile are black."""
        height, width, bands = tiles[0].shape
        sheet = np.zeros((self.rows * height, self.columns * width, bands), np.uint8)
        for index, tile in enumerate(tiles):
            row, column = divmod(index, self.columns)
            sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = tile
        return sheet

    @property
    def size(self) -> str:
        """CSS background-size that makes one tile fill its element."""
        return f"{self.columns * 100}% {self.rows * 100}%"

    def place(self, index: int) -> tuple[str, str]:
        """CSS background-position of a tile, across and down."""
        row, column = divmod(index, self.columns)
        return offset(column, self.columns), offset(row, self.rows)

    def rules(self, space: str) -> Iterator[str]:
        """CSS: `.t0`, `.t1`, … behind a prefix set a tile's place (properties x and y) and its row of maps (r)."""
        for index in range(self.tiles):
            x, y = self.place(index)
            yield f".{space}t{index}{{{custom('x', x)};{custom('y', y)};{custom('r', offset(index, self.tiles))}}}"


def custom(name: str, value: str) -> str:
    """CSS declaration of a custom property, which static/site.css uses."""
    return f"{CUSTOM}{name}:{value}"


def custom_value(name: str) -> str:
    """CSS value of a custom property."""
    return f"var({CUSTOM}{name})"


def tile_size(size: tuple[int, int]) -> str:
    """CSS declarations: (height, width) at which a tile is shown, CSS pixels."""
    return f"{custom('tw', f'{size[1]}px')};{custom('th', f'{size[0]}px')}"


def grid_for(count: int, height: int, width: int, most: int | None = None) -> Grid:
    """The grid of nearly square sheets for `count` pictures, the largest of which is height × width.

    Args:
        count: pictures.
        height: of the largest, pixels.
        width: of the largest, pixels.
        most: tiles that a sheet must hold, however large it becomes; None: as many as stay within limits.
    """
    tiles = most or max(1, min(count, MOST, max(1, SIDE // height) * max(1, SIDE // width)))
    columns = min(tiles, max(1, round(math.sqrt(tiles * height / width))))
    return Grid(columns, math.ceil(tiles / columns))


def offset(index: int, count: int) -> str:
    """CSS background-position that shows part `index` of `count` equal parts."""
    return f"{100 * index / (count - 1):.6g}%" if count > 1 else "0"


def shown_size(height: int, width: int, target: int) -> tuple[int, int]:
    """(height, width) in CSS pixels: the largest whole multiple within `target`, or reduced to it."""
    side = max(height, width)
    if side <= target:
        factor = target // side
        return height * factor, width * factor
    return max(1, round(height * target / side)), max(1, round(width * target / side))


def filled_size(height: int, width: int, target: int) -> tuple[int, int]:
    """(height, width) in CSS pixels: the longer side is `target`."""
    side = max(height, width)
    return max(1, round(height * target / side)), max(1, round(width * target / side))


def within(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) in pixels, reduced where it is larger than `side`."""
    return min(height, shown_size(height, width, side)[0]), min(width, shown_size(height, width, side)[1])


def rendering(height: int, width: int) -> str:
    """CSS declaration: hard pixels for small pictures, smooth ones for others."""
    return "image-rendering:pixelated" if max(height, width) < PIXELATED else "image-rendering:auto"


def visible(picture: np.ndarray) -> np.ndarray:
    """A picture a browser can show: grey and RGB as they are, other bands as grey planes side by side.

    Args:
        picture: (H, W, C) uint8.

    Returns:
        (H', W', 1 or 3) uint8. Of more than 16 bands, 16 evenly spaced ones.
    """
    bands = picture.shape[2]
    if bands in (1, 3):
        return picture
    planes = picture[:, :, np.unique(np.linspace(0, bands - 1, min(bands, PLANES)).round().astype(int))]
    height, width, shown = planes.shape
    return planes_grid(shown, height, width).sheet([planes[:, :, band : band + 1] for band in range(shown)])


def planes_grid(bands: int, height: int, width: int) -> Grid:
    """How the planes of a picture with many bands lie side by side."""
    return grid_for(min(bands, PLANES), height, width)


def visible_size(height: int, width: int, bands: int) -> tuple[int, int]:
    """(height, width) of what `visible` returns."""
    if bands in (1, 3):
        return height, width
    grid = planes_grid(bands, height, width)
    return grid.rows * height, grid.columns * width


def reduced(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture at another, smaller size, each pixel the mean of those it stands for; (H, W, C) uint8."""
    if picture.shape[:2] == (height, width):
        return picture
    small = np.asarray(_image(picture).resize((width, height), Image.Resampling.BOX))
    return small.reshape(height, width, -1)


def as_large(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture at the size of those beside it, (H, W, 1 or 3) uint8: a first picture among finer ones is smaller."""
    if picture.shape[:2] == (height, width):
        return picture
    large = np.asarray(_image(picture).resize((width, height), Image.Resampling.BICUBIC))
    return large.reshape(height, width, -1)


def at_most(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture reduced where it is higher or wider than `side`, (H, W, C) uint8."""
    return reduced(picture, *within(picture.shape[0], picture.shape[1], side))


def webp(sheet: np.ndarray, *, lossless: bool, is_reduced: bool = False) -> tuple[bytes, float]:
    """A picture as WebP, and its peak signal-to-noise ratio in dB: infinite where nothing was lost.

    A picture that would fall below 28 dB is stored without loss, a reduced one before that with less. The ratio is
    measured on 256 rows in the middle of the part that is not empty: measuring all of it would take as long as the
    encoding.
    """
    image = _image(sheet)
    for options in () if lossless else (REDUCED, LOSSY) if is_reduced else (LOSSY,):
        fidelity = _signal_to_noise(_image(_band(sheet)), options)
        if fidelity >= TRUE_ENOUGH:
            return _encoded(image, **options), fidelity
    return _encoded(image, lossless=True, quality=0, method=0), math.inf


def _band(sheet: np.ndarray) -> np.ndarray:
    """At most 256 rows in the middle of the part of a sheet that is not black: empty places lose nothing."""
    filled = np.max(sheet, axis=2) > 0
    rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    if not rows.size:
        return sheet[:256]
    part = sheet[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    middle = max(0, part.shape[0] // 2 - 128)
    return part[middle : middle + 256]


def compact(sheet: np.ndarray, exact: bool, options: dict[str, int]) -> bytes:
    """A picture that only illustrates, as a small WebP.

    Args:
        sheet: (H, W, C) uint8.
        exact: whether it is kept without loss all the same.
        options: of Pillow's lossy WebP.
    """
    image = _image(sheet)
    return _encoded(image, lossless=True, quality=0, method=0) if exact else _encoded(image, **options)


def png(picture: np.ndarray) -> bytes:
    """A picture as a PNG."""
    return _encoded_as("PNG", _image(picture), optimize=True)


def _image(planes: np.ndarray) -> Image.Image:
    """(H, W, 1, 3 or 4) uint8 as a Pillow image."""
    return Image.fromarray(planes[:, :, 0] if planes.shape[2] == 1 else planes)


def _encoded(image: Image.Image, **options: int | bool) -> bytes:
    return _encoded_as("WEBP", image, **options)


def _encoded_as(form: str, image: Image.Image, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _signal_to_noise(image: Image.Image, options: dict[str, int]) -> float:
    """Peak signal-to-noise ratio of a picture in lossy WebP, dB."""
    with Image.open(io.BytesIO(_encoded(image, **options))) as decoded:
        difference = np.asarray(decoded.convert(image.mode)).astype(np.int16) - np.asarray(image)
    error = float(np.mean(np.square(difference, dtype=np.float32)))
    return 10 * math.log10(255**2 / error) if error else math.inf
