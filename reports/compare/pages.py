"""The pages of a comparison: an overview, and one page per layer with its units side by side.

They look as the site of a run does, open from a disk, ask no server and hold no script. Names from models are data:
templates hold all markup and escape all text. Reads numbers from `compare` and pictures through the run's reader.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import RunInfo
from filterscope.analyzer.run.rows import UnitRow
from filterscope.converters.errors import RunError
from filterscope.reports.compare import caveats
from filterscope.reports.compare.comparison import Comparison, KindId, KindPair, LayerPair, Pair
from filterscope.reports.compare.words import alike
from filterscope.reports.page import markup, sheets, words
from filterscope.reports.page.folder import NewFolder
from filterscope.reports.page.units import KINDS

MARK = "compare.json"  # every comparison has it
MOST_PAIRS = 32  # with pictures, on a layer's page
MOST_OVERVIEW = 24
SIDE = 144  # CSS pixels, of a picture
STORED = 288  # pixels: larger pictures are reduced
LOSSLESS_PIXELS = 16 * 2**20  # of all large pictures together, about 30 MB; beyond it they are lossy
BINS = 20  # of a distribution


@dataclass(frozen=True, slots=True)
class Sprite:
    """Where a picture lies; classes of the style sheets."""

    sheet: str  # class that names the file, its size and how it is drawn
    place: str  # class that shifts it


@dataclass(frozen=True, slots=True, eq=False)
class PairPage:
    """A matched layer as its page shows it."""

    pair: LayerPair
    file: str
    kinds: tuple[str, ...]  # titles
    pictured: tuple[Pair, ...]  # at most MOST_PAIRS, what changed most first
    sprites: dict[tuple[str, KindId, int], Sprite]  # a or b, kind, channel
    rules: tuple[str, ...]

    def sprite(self, side: str, kind_pair: KindPair, pair: Pair) -> Sprite | None:
        """A picture of a pair; None where there is none."""
        return self.sprites.get((side, kind_pair.kind, pair.a if side == "a" else pair.b))

    def bins(self) -> list[tuple[float, float, float, float]]:
        """The distribution of correlations as bars: left, top, width, height, each in 0 … 1; below 0 counts as 0."""
        counts, _ = np.histogram(np.clip(self.pair.correlations, 0, 1), BINS, (0, 1))
        highest = max(1, int(counts.max(initial=0)))
        return [(i / BINS, 1 - c / highest, 1 / BINS, c / highest) for i, c in enumerate(counts.tolist()) if c]


def render(comparison: Comparison, out: Path) -> Path:
    """Write the pages; an older comparison in the same place stays until the new one is whole.

    The same runs give the same bytes.

    Returns:
        Its index.html.

    Raises:
        RunError: `out` holds something else or cannot be written, or a file of a run is damaged.
    """
    place = out.resolve()
    if place == Path.cwd():  # it would be swapped for the new folder, and every shell in it left nowhere
        raise RunError(f"{out}: is the current folder; name one inside it")
    with NewFolder(place, MARK) as folder:
        _Pages(comparison, folder).write()
    return out / "index.html"


class _Pages:
    def __init__(self, comparison: Comparison, folder: NewFolder) -> None:
        self.comparison = comparison
        self.folder = folder
        self.fidelity = math.inf  # dB, of the worst sheet
        self.lossless = sum(_pixels(layer) for layer in comparison.layers) <= LOSSLESS_PIXELS
        self.environment = self._environment()

    def write(self) -> None:
        for name in ("site.css", "compare.css", "icon.svg"):
            self.folder.write(
                f"assets/{name}", resources.files("filterscope.reports").joinpath("static", name).read_bytes()
            )
        pages = [self._layer(pair) for pair in self.comparison.layers]
        of_pair = {id(page.pair): page for page in pages}
        for index, page in enumerate(pages):
            around = {"before": pages[max(0, index - 1) : index], "after": pages[index + 1 : index + 2]}
            self._page(page.file, "compare-layer.html", page=page, layer=page.pair, **around)
        most = [(of_pair[id(layer)], pair) for layer, pair in self.comparison.most_changed[:MOST_OVERVIEW]]
        used = {
            name
            for page, pair in most
            for side in "ab"
            if pair.leading and (sprite := page.sprite(side, pair.leading, pair))
            for name in (sprite.sheet, sprite.place)
        }
        rules = [rule for page in pages for rule in page.rules if rule[1:].partition("{")[0] in used]
        self.folder.write_lines("assets/compare-index.css", rules)
        self._page("index.html", "compare.html", pages=pages, most=most, plot=CorrelationPlot(self.comparison.layers))
        self.folder.write_json(MARK, self.comparison.to_json())

    def _environment(self) -> Environment:
        a, b = self.comparison.a, self.comparison.b
        names = {
            "info": RunInfo.read({"filterscope": a.info.filterscope}),
            "images": [],
            "model": " and ".join(self.comparison.names),
            "comparison": self.comparison,
            "verdict": list(caveats.verdict(self.comparison)),
            "facts": list(caveats.facts(a, b)),
            "words": words,
            "pictures": self,
        }
        return markup.environment(names, alike)

    def _page(self, name: str, template: str, **context: Any) -> None:
        self.folder.write(name, self.environment.get_template(template).render(**context).encode())

    def _layer(self, layer: LayerPair) -> PairPage:
        """Write a layer's sheets; say where each picture lies."""
        slug, number = layer.a.slug, layer.a.index
        pictured = _pictured(layer)
        rules: list[str] = []
        sprites: dict[tuple[str, KindId, int], Sprite] = {}
        for position, kind in enumerate(layer.kinds):
            for side, run in (("a", self.comparison.a), ("b", self.comparison.b)):
                rows = {
                    (pair.a if side == "a" else pair.b): row
                    for pair in pictured
                    for kind_pair in pair.kinds
                    if kind_pair.kind == kind
                    and (row := kind_pair.a if side == "a" else kind_pair.b)
                    and row.has_picture
                }
                tiles = _tiles(run, rows)
                if tiles:
                    name = f"{number}-{position}{side}"
                    grid = sheets.grid_for(len(tiles), *next(iter(tiles.values())).shape[:2])
                    rules += self._sheets(f"pairs-{slug}-{position}{side}", name, grid, list(tiles.values()))
                    for index, channel in enumerate(tiles):
                        sheet, place = divmod(index, grid.tiles)
                        sprites[side, kind, channel] = Sprite(f"c{name}-{sheet}", f"t{name}-{place}")
        self.folder.write_lines(f"assets/compare-{slug}.css", rules)
        titles = tuple(KINDS[kind][0] if kind in KINDS else f"{kind[0]}, {kind[1]}" for kind in layer.kinds)
        return PairPage(
            pair=layer,
            file=f"layer-{slug}.html",
            kinds=titles,
            pictured=tuple(pictured),
            sprites=sprites,
            rules=tuple(rules),
        )

    def _sheets(self, stem: str, name: str, grid: sheets.Grid, tiles: list[np.ndarray]) -> Iterator[str]:
        """Write the sheets of one kind; the rules of their classes, cNAME-SHEET and tNAME-PLACE."""
        height, width = tiles[0].shape[:2]
        exact = self.lossless or max(height, width) < sheets.PIXELATED
        high, wide = sheets.shown_size(height, width, SIDE)
        for number, first in enumerate(range(0, len(tiles), grid.tiles)):
            content, fidelity = sheets.webp(grid.sheet(tiles[first : first + grid.tiles]), lossless=exact)
            self.fidelity = min(self.fidelity, fidelity)
            self.folder.write(f"assets/{stem}-{number}.webp", content)
            yield (
                f".c{name}-{number}{{width:{wide}px;height:{high}px;background-image:url({stem}-{number}.webp);"
                f"background-size:{grid.size};{sheets.rendering(height, width)}}}"
            )
        for index in range(min(len(tiles), grid.tiles)):
            x, y = grid.place(index)
            yield f".t{name}-{index}{{background-position:{x} {y}}}"


class CorrelationPlot:
    """Correlation along the network, as the points of an SVG of 960 × 260.

    Args:
        layers: in network order; those without any correlation are left out.
    """

    width, height = 960, 260
    left, right, top, bottom = 44, 12, 12, 30

    def __init__(self, layers: Sequence[LayerPair]) -> None:
        self.layers = [(index, layer) for index, layer in enumerate(layers) if len(layer.correlations)]
        self.count = len(layers)
        quantiles = [layer.quantile(0.1) or 0.0 for _, layer in self.layers]
        self.low = -1.0 if min(quantiles, default=0) < -0.05 else 0.0

    def x(self, index: int) -> float:
        """Horizontal place of a layer."""
        wide = self.width - self.left - self.right
        return round(self.left + wide * ((index + 0.5) / max(1, self.count)), 1)

    def y(self, correlation: float | None) -> float:
        """Vertical place of a correlation."""
        share = (max(self.low, correlation or 0.0) - self.low) / (1 - self.low)
        return round(self.height - self.bottom - share * (self.height - self.top - self.bottom), 1)

    def ticks(self) -> list[float]:
        """Correlations with a grid line."""
        return [-1.0, -0.5, 0.0, 0.5, 1.0] if self.low < 0 else [0.0, 0.25, 0.5, 0.75, 1.0]

    def line(self, share: float) -> str:
        """Points of a quantile."""
        return " ".join(f"{self.x(index)},{self.y(layer.quantile(share))}" for index, layer in self.layers)

    def band(self) -> str:
        """Points around the middle 80 per cent."""
        back = (f"{self.x(index)},{self.y(layer.quantile(0.9))}" for index, layer in reversed(self.layers))
        return f"{self.line(0.1)} {' '.join(back)}"

    def chance(self) -> str:
        """Points of the correlation expected by chance."""
        return " ".join(
            f"{self.x(index)},{self.y(layer.chance)}" for index, layer in self.layers if layer.chance is not None
        )


def _pictured(layer: LayerPair) -> list[Pair]:
    """The pairs shown with pictures: those that have them on both sides, or else on one."""
    both = [pair for pair in layer.pairs if pair.leading]
    one = (
        pair
        for pair in layer.pairs
        if any(row and row.has_picture for kind_pair in pair.kinds for row in (kind_pair.a, kind_pair.b))
    )
    return (both or list(one))[:MOST_PAIRS]


def _pixels(layer: LayerPair) -> int:
    """Pixels of the large pictures shown of a layer, as they are stored."""
    rows = (row for pair in _pictured(layer) for kind_pair in pair.kinds for row in (kind_pair.a, kind_pair.b))
    sizes = [row.size[:2] for row in rows if row and row.has_picture]
    stored = [sheets.within(high, wide, STORED) for high, wide in sizes if max(high, wide) >= sheets.PIXELATED]
    return sum(high * wide for high, wide in stored)


def _tiles(run: Run, rows: dict[int, UnitRow]) -> dict[int, np.ndarray]:
    """Channel → its picture, at most STORED high and wide; each row has one, and each atlas is read once."""
    tiles = {}
    for channel, row in sorted(rows.items(), key=lambda item: (item[1].atlas, item[1].tile)):
        tile = run.tile(row)
        assert tile is not None
        seen = sheets.visible(tile)
        tiles[channel] = sheets.reduced(seen, *sheets.within(seen.shape[0], seen.shape[1], STORED))
    finer = next((tiles[channel].shape[:2] for channel, row in rows.items() if not row.is_first), None)
    if finer is not None:
        tiles |= {channel: sheets.as_large(tiles[channel], *finer) for channel, row in rows.items() if row.is_first}
    if len({tile.shape for tile in tiles.values()}) > 1:
        raise RunError(f"{run.folder}: pictures of one layer and kind differ in size; delete the run and run again")
    return tiles
