"""Figures for print: a grid of maximised pictures with labels, as PDF, SVG or PNG of a width in millimetres.

Pictures are never stretched or smoothed: each of their pixels is a whole square of pixels in the file, as many as
reach the resolution asked for. The same run gives the same bytes. Reads a run through its reader alone.
"""

from __future__ import annotations

import base64
import difflib
import fnmatch
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import LayerInfo
from filterscope.analyzer.run.rows import UnitRow
from filterscope.converters.errors import SettingsError, setting
from filterscope.reports.figures import pdf
from filterscope.reports.page import sheets, words
from filterscope.reports.page.units import UnitTable

CAPTIONS = ("none", "channel", "activation")
MILLIMETRES = {"mm": 1.0, "cm": 10.0, "in": 25.4, "pt": 25.4 / 72}
WIDTHS = (5.0, 2000.0)  # mm, of a figure
RESOLUTIONS = (36.0, 2400.0)  # pixels an inch
NARROWEST = 2.0  # mm, of a tile
GAP = 1.0  # mm, between tiles
FONT = 7.0  # points, of labels; smaller where they would not fit
SMALLEST_FONT = 4.5  # points: below it nobody reads a printed label
LARGEST_PNG = 2e8  # pixels


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One unit of a figure."""

    channel: int
    label: str  # printable ASCII
    status: str
    activation: float | None
    picture: np.ndarray  # (H, W, 1 or 3) uint8


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """A grid of pictures, ready to be written; shows itself in a notebook."""

    layer: str
    kind: str  # such as "channel, by ascent"
    tiles: tuple[Tile, ...]
    columns: int
    width: float  # mm
    dpi: float  # at least so many pixels an inch
    font: float  # points; 0 without labels
    notes: tuple[str, ...]  # what a reader of the figure has to know

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of each picture, pixels."""
        height, width = self.tiles[0].picture.shape[:2]
        return height, width

    @property
    def tile(self) -> tuple[float, float]:
        """(height, width) of each picture, mm."""
        height, width = self.shape
        side = (self.width - (self.columns - 1) * GAP) / self.columns
        return side * height / width, side

    @property
    def line(self) -> float:
        """Height of the label below a picture, mm; 0 without labels."""
        return 1.35 * self.font / pdf.POINTS

    @property
    def height(self) -> float:
        """Height of the whole figure, mm."""
        rows = math.ceil(len(self.tiles) / self.columns)
        return rows * (self.tile[0] + self.line) + (rows - 1) * GAP

    @property
    def factor(self) -> int:
        """Pixels in the file for each pixel of a picture, along each axis."""
        return max(1, math.ceil(self.dpi * self.tile[1] / 25.4 / self.shape[1] - 1e-9))

    @property
    def title(self) -> str:
        """What the figure shows, in a line."""
        listed = words.listed([str(tile.channel) for tile in self.tiles], 12)
        return f"{words.clean(self.layer)}, channels {listed}: {self.kind}"

    def place(self, index: int) -> tuple[float, float]:
        """(left, top) of a picture, mm."""
        row, column = divmod(index, self.columns)
        height, width = self.tile
        return column * (width + GAP), row * (height + self.line + GAP)

    def base(self, index: int) -> tuple[float, float]:
        """(left, base line) of a picture's label, mm: in the middle below it."""
        left, top = self.place(index)
        size = self.font / pdf.POINTS
        indent = (self.tile[1] - size * pdf.text_width(self.tiles[index].label)) / 2
        return left + indent, top + self.tile[0] + 1.02 * size

    def enlarged(self, index: int) -> np.ndarray:
        """A picture with each pixel repeated, (k·H, k·W, C) uint8."""
        return self.tiles[index].picture.repeat(self.factor, 0).repeat(self.factor, 1)

    def svg(self) -> bytes:
        """As SVG: pictures as PNG inside, labels as text, in millimetres."""
        height, width = self.tile
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width:.6g}mm" height="{self.height:.6g}mm" '
            f'viewBox="0 0 {self.width:.6g} {self.height:.6g}" role="img">',
            f"<title>{escape(self.title)}</title>",
        ]
        for index in range(len(self.tiles)):
            left, top = self.place(index)
            data = base64.b64encode(_png(self.enlarged(index))).decode()
            lines.append(
                f'<image x="{left:.6g}" y="{top:.6g}" width="{width:.6g}" height="{height:.6g}" '
                f'image-rendering="pixelated" href="data:image/png;base64,{data}"/>'
            )
        if self.font:
            size = self.font / pdf.POINTS
            lines.append(f'<g font-family="Helvetica, Arial, sans-serif" font-size="{size:.6g}" text-anchor="middle">')
            for index, tile in enumerate(self.tiles):
                x, base = self.place(index)[0] + width / 2, self.base(index)[1]
                lines.append(f'<text x="{x:.6g}" y="{base:.6g}">{escape(tile.label)}</text>')
            lines.append("</g>")
        return "\n".join([*lines, "</svg>", ""]).encode()

    def pdf(self) -> bytes:
        """As one page of PDF: pictures as images, labels as text in an embedded font."""
        height, width = self.tile
        count = range(len(self.tiles))
        pictures = [pdf.PlacedPicture(*self.place(index), width, height, self.enlarged(index)) for index in count]
        texts = [pdf.PlacedText(*self.base(index), self.font, self.tiles[index].label) for index in count]
        return pdf.page((self.width, self.height), self.title, pictures, texts if self.font else [])

    def png(self) -> bytes:
        """As PNG on white, which states its resolution.

        Raises:
            SettingsError: it would be too large.
        """
        high, wide = (self.factor * side for side in self.shape)
        scale = wide / self.tile[1]  # pixels a millimetre
        gap, line = round(GAP * scale), math.ceil(self.line * scale)
        rows = math.ceil(len(self.tiles) / self.columns)
        size = self.columns * (wide + gap) - gap, rows * (high + line + gap) - gap
        if size[0] * size[1] > LARGEST_PNG:
            raise SettingsError(
                f"{setting('dpi', f'{self.dpi:g}')}: {size[0]:,} × {size[1]:,} pixels are too many; choose fewer "
                f"channels, a lower {setting('dpi')}, or write an SVG or PDF",
                field="dpi",
                value=self.dpi,
            )
        colour = self.tiles[0].picture.shape[2] == 3
        sheet = Image.new("RGB" if colour else "L", size, "white")
        draw = ImageDraw.Draw(sheet)
        for index, tile in enumerate(self.tiles):
            row, column = divmod(index, self.columns)
            left, top = column * (wide + gap), row * (high + line + gap)
            sheet.paste(_image(self.enlarged(index)), (left, top))
            if self.font:
                pixels = self.font / pdf.POINTS * scale
                place = left + wide / 2, top + high + 1.02 * pixels
                draw.text(place, tile.label, fill="black", font=pdf.font(pixels), anchor="ms")
        dpi = size[0] / self.width * 25.4
        return _png(np.asarray(sheet).reshape(size[1], size[0], -1), dpi)

    def save(self, path: str | Path) -> Path:
        """Write the figure in the format of the suffix: .pdf, .svg or .png.

        Raises:
            SettingsError: another suffix, too large a PNG, or the file cannot be written.
        """
        path = Path(path)
        content = _form(path)(self)
        try:
            path.write_bytes(content)
        except OSError as error:
            raise SettingsError(f"{path}: cannot be written ({error.strerror}); choose another file") from error
        return path

    def description(self) -> str:
        """How many pictures it holds, its size and its resolution, in a line."""
        height, width = self.shape
        resolution = self.factor * width / self.tile[1] * 25.4
        return (
            f"{words.count(len(self.tiles), 'picture')} of {width} × {height} pixels, "
            f"{self.width:.4g} × {self.height:.4g} mm, {resolution:.0f} dpi"
        )

    def _repr_svg_(self) -> str:
        return self.svg().decode()


def figure(
    run: Run,
    layer: str,
    channels: str | Sequence[int],
    *,
    objective: str = "channel",
    method: str = "ascent",
    columns: int | None = None,
    captions: str = "channel",
    width: str | float = 85.0,
    dpi: float = 300.0,
) -> Figure:
    """A figure of some units of one layer.

    Args:
        run: to read from.
        layer: its name, or a glob or #number that fits one.
        channels: "0,4,8-11", "all", or numbers; they stand in this order.
        objective: as in the unit table: channel, neuron, negative, diversity-1, …
        method: ascent or analytic.
        columns: of the grid; None: nearly a square.
        captions: none, channel, or activation (the channel's number, then its activation).
        width: of the figure: a number of millimetres, or text such as 85mm, 3.3in.
        dpi: pixels an inch, at least: each pixel of a picture becomes a whole square of pixels.

    Raises:
        SettingsError: a setting does not fit the run, or its labels would be too small to read.
    """
    millimetres = length(width)
    if captions not in CAPTIONS:
        raise _refusal("captions", captions, f"give one of {', '.join(CAPTIONS)}")
    if not RESOLUTIONS[0] <= dpi <= RESOLUTIONS[1]:
        raise _refusal("dpi", f"{dpi:g}", f"give {RESOLUTIONS[0]:g} to {RESOLUTIONS[1]:g}")
    name = find_layer(run, layer).name
    rows = _rows(run, name, objective, method)
    chosen = numbers(channels) if channels != "all" else [channel for channel, row in rows.items() if row.has_picture]
    tiles = tuple(_tile(run, rows, channel, captions) for channel in chosen)
    if not tiles:
        raise _refusal("channels", channels, f"{name} has no such picture; choose another {setting('objective')}")
    if len({tile.picture.shape for tile in tiles}) > 1:
        raise SettingsError(f"{run.folder}: pictures of {name} differ in size; choose channels of one size")
    height, wide = tiles[0].picture.shape[:2]
    if columns is None:
        columns = min(len(tiles), math.ceil(math.sqrt(len(tiles) * height / wide)))
    most = max(1, int((millimetres + GAP) / (NARROWEST + GAP)))
    if not 1 <= columns <= most:
        raise _refusal("columns", columns, f"give 1 to {most} for a width of {millimetres:g} mm")
    columns = min(columns, len(tiles))
    side = (millimetres - (columns - 1) * GAP) / columns
    kind = f"{objective}, by {'ascent' if method == 'ascent' else 'formula' if method == 'analytic' else method}"
    return Figure(
        layer=name,
        kind=kind,
        tiles=tiles,
        columns=columns,
        width=millimetres,
        dpi=dpi,
        font=_font(tiles, side, captions),
        notes=_notes(run, tiles, [rows[channel] for channel in chosen]),
    )


def _refusal(field: str, value: object, why: str) -> SettingsError:
    """An error about one setting: its name and its value, then what to do."""
    return SettingsError(f"{setting(field, value)}: {why}", field=field, value=value)


def length(width: str | float) -> float:
    """Convert a width to millimetres.

    Raises:
        SettingsError: not a length, or not a width that a figure can have.
    """
    millimetres = math.nan
    if isinstance(width, str):
        match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(mm|cm|in|pt)?\s*", width, re.ASCII)
        if match:
            millimetres = float(match[1]) * MILLIMETRES[match[2] or "mm"]
    else:
        millimetres = float(width)
    if not WIDTHS[0] <= millimetres <= WIDTHS[1]:
        raise _refusal("width", width, f"give {WIDTHS[0]:g}mm to {WIDTHS[1]:g}mm, also in cm, in or pt")
    return millimetres


def numbers(channels: str | Sequence[int]) -> list[int]:
    """Channels in the order of the setting, each once.

    Raises:
        SettingsError: not numbers and ranges.
    """
    if not isinstance(channels, str):
        return list(dict.fromkeys(int(channel) for channel in channels))
    chosen: dict[int, None] = {}
    for part in channels.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", part, re.ASCII)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise _refusal("channels", channels, "give all, or numbers and ranges such as 0,4,8-11")
        chosen |= dict.fromkeys(range(int(match[1]), int(match[2] or match[1]) + 1))
    return list(chosen)


def find_layer(run: Run, pattern: str) -> LayerInfo:
    """The one layer of a run with this name, or that a glob or #number fits.

    Raises:
        SettingsError: none, or several.
    """
    exact = [layer for layer in run.layers if pattern in (layer.name, layer.node, layer.slug)]
    matches = exact or [
        layer for layer in run.layers if pattern == f"#{layer.index}" or fnmatch.fnmatchcase(layer.name, pattern)
    ]
    if len(matches) == 1:
        return matches[0]
    names = [layer.name for layer in matches or run.layers]
    if matches:
        raise _refusal("layer", pattern, f"fits {len(matches)} layers, {words.listed(names, 4)}; name one")
    near = difflib.get_close_matches(pattern, names, 3, 0.3) or names[:3]
    raise _refusal("layer", pattern, f"{run.folder} has no such layer; nearest: {', '.join(near) or 'none at all'}")


def _rows(run: Run, layer: str, objective: str, method: str) -> dict[int, UnitRow]:
    """Channel → row of one kind."""
    rows = UnitTable(run).of(layer)
    kinds = dict.fromkeys((row.objective, row.method) for row in rows)
    if not kinds:
        raise _refusal("layer", layer, f"was not analysed in {run.folder}; choose another, or analyse it")
    if (objective, method) not in kinds:
        others = ", ".join(f"{setting('objective', name)} {setting('method', how)}" for name, how in kinds)
        raise SettingsError(
            f"{setting('objective', objective)} {setting('method', method)}: {layer} has no such pictures; "
            f"it has {others}"
        )
    return {row.channel: row for row in rows if (row.objective, row.method) == (objective, method)}


def _tile(run: Run, rows: dict[int, UnitRow], channel: int, captions: str) -> Tile:
    layer = next(iter(rows.values())).layer
    if channel not in rows:
        others = words.listed([str(number) for number in sorted(rows)], 12)
        raise _refusal("channels", channel, f"is not in the run; of {layer} it has {others}")
    row = rows[channel]
    picture = run.tile(row)
    if picture is None:
        raise _refusal("channels", channel, f"has no picture ({row.status}); choose other channels of {layer}")
    label = {"none": "", "channel": str(channel), "activation": f"{channel}: {_plain(row.activation)}"}[captions]
    return Tile(
        channel=channel,
        label=label,
        status=row.status,
        activation=row.activation,
        picture=sheets.visible(picture),
    )


def _plain(value: float | None) -> str:
    """Three digits in the characters that the font has."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.3g}"


def _font(tiles: Sequence[Tile], side: float, captions: str) -> float:
    """Points of the captions, so that the widest fits below its picture."""
    if captions == "none":
        return 0.0
    widest = max(pdf.text_width(tile.label) for tile in tiles)
    fits = min(FONT, math.floor(10 * (side + 0.6 * GAP) * pdf.POINTS / widest) / 10)
    if fits < SMALLEST_FONT:
        raise _refusal(
            "captions",
            captions,
            f"do not fit below pictures of {side:.1f} mm; choose fewer {setting('columns')}, "
            f"a larger {setting('width')} or {setting('captions', 'none')}",
        )
    return fits


def _notes(run: Run, tiles: Sequence[Tile], rows: Sequence[UnitRow]) -> tuple[str, ...]:
    """Notes that a reader of the figure must know.

    Args:
        run: that the figure is of.
        tiles: of the figure.
        rows: of its units, in the same order.
    """
    notes = []
    for status in ("unraised", "dead", "diverged"):
        here = [str(tile.channel) for tile in tiles if tile.status == status]
        if here:
            notes.append(f"{status}: {words.listed(here)}; {words.STATUSES[status]}")
    if run.info.settings.stretched and any(row.method == "ascent" for row in rows):
        notes.append("the run's preset stretched the contrast of these pictures; say so beside the figure")
    bands = rows[0].size[2]
    if bands not in (1, 3):
        notes.append(f"pictures of {bands} bands are shown as grey planes side by side")
    if rows[0].space == "input":
        notes.append("shown in the layer's own input: one patch per input channel, white for high and black for low")
    return tuple(notes)


def _form(path: Path) -> Callable[[Figure], bytes]:
    forms = {".pdf": Figure.pdf, ".svg": Figure.svg, ".png": Figure.png}
    if path.suffix.lower() not in forms:
        raise SettingsError(f"{path}: give a name that ends in {', '.join(forms)}")
    return forms[path.suffix.lower()]


def check_file(path: Path) -> None:
    """Check that a figure can be written there, before it is made.

    Raises:
        SettingsError: the suffix is unknown, or there is no such folder.
    """
    _form(path)
    if path.is_dir() or not path.parent.is_dir():
        raise SettingsError(f"{path}: is a folder, or lies in none; choose another file")


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])


def _png(pixels: np.ndarray, dpi: float | None = None) -> bytes:
    if dpi is None:
        return atlas.to_png(_image(pixels))
    buffer = io.BytesIO()
    _image(pixels).save(buffer, "PNG", compress_level=9, dpi=(dpi, dpi))
    return buffer.getvalue()
