"""The pictures of a site: which sheets a page needs, their files, and the style sheets that cut them out.

Classes in the style sheets are a letter and a number: kN a kind of picture, w weights, b best stimulus, m maps, h heat
maps, e examples, c classes, d the diverse pictures of a unit together; sN a sheet, tN a tile in it, iN or jN a column
of a sheet of maps. Each style sheet puts a prefix of its own before them (l7- layer 7, o2- image 2, e-, classes-,
images-, strip-), so that no rule of one can place a picture of another. Knows units and sheets; knows nothing of HTML.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import LayerInfo
from filterscope.analyzer.run.rows import ExamplePictureRow, rows_of
from filterscope.converters.errors import RunError
from filterscope.reports.page import colours, sheets
from filterscope.reports.page.folder import Files
from filterscope.reports.page.units import GRID_SIDE, Kind, LayerMaps, Picture, Unit
from filterscope.reports.site import likeness
from filterscope.reports.site.details import Details

STRIP = 8  # pictures that stand for a layer on the overview
STRIP_SIDE = 96  # pixels
STRIP_SHOWN = 64  # CSS pixels
CLASS_SIDE = 192  # CSS pixels, of a class's picture
FIRING_SIDE = 112  # pixels, of a map on an image's page: larger ones are reduced
OVER_SIDE = 128  # CSS pixels, of a photo with a map over it
THUMB_SIDE = 96  # pixels, of an image in a row of thumbnails
SMALL = 64  # pixels: pictures of no more grow by whole factors in the grid of a layer
SMALL_SIDE = 128  # CSS pixels, up to which they do: 4 times 32, twice 64
STIMULUS_SIDE = 96  # pixels, of a best stimulus: larger ones are reduced
SMOOTH_MAP = 24  # pixels: maps of this side and more may be lossy
LEVELS = 32  # greys of a map in a large site
DIVERSE_SIDE = 84  # CSS pixels, of each of the four diverse pictures in the grid of a layer
DIVERSE_GAP = 2  # CSS pixels between them, as in static/site.css
HEAT_SIDE = 32  # pixels, of a map over a whole example
EXAMPLE_SIDE = 224  # pixels, of a whole example: larger ones are reduced
THRIFTY_EXAMPLE, THRIFTY_MAP = 112, 56  # pixels, of whole examples and of maps on an image's page, where space is short
MAP_LOSSY = {"quality": 70, "method": 4}
EXAMPLE_LOSSY = {"quality": 82, "method": 1}
NO_PICTURE = f"{{background:none;border:1px dashed {sheets.custom_value('quiet')}}}"
UNDER_MAP = ".ex:has([value^=m]:checked) .u b::before"  # the photo below a map in the grid of a layer
GRAIN = f"image-rendering:{sheets.custom_value('grain')}"  # smooth maps or hard pixels, as the reader wants them
OF_MAPS = f"background-position:{sheets.custom_value('i')} {sheets.custom_value('r')}"  # column and row of a sheet


@dataclass(frozen=True, slots=True)
class SheetSet:
    """Pictures of one size that stand for the units of a page, and their sheets."""

    letter: str  # class of the style sheet
    size: tuple[int, int]  # (height, width) of a tile, pixels
    grid: sheets.Grid
    used: tuple[int, ...]  # sheets that exist
    is_choice: bool = True  # whether the grid of a layer can show it by itself
    is_soft: bool = False  # whether small pictures are drawn smooth, unless the reader wants their pixels

    def rules(self, space: str, stem: str) -> Iterator[str]:
        """CSS: a picture of this set.

        Args:
            space: prefix of the classes of one style sheet.
            stem: with which the names of the sheets begin.
        """
        yield f".{space}{self.letter}{{{self._look}}}"
        for sheet in self.used:
            yield f".{space}{self.letter}.{space}s{sheet}{self._image(stem, sheet)}"

    def grid_rules(self, page: str, space: str, stem: str) -> Iterator[str]:
        """CSS: the tiles of a page (its class) while it shows this set."""
        chosen = f".{page}:has([value={self.letter}]:checked)"
        shown = sheets.shown_size(*self.size, SMALL_SIDE if max(self.size) <= SMALL else GRID_SIDE)
        yield f"{chosen} .units{{{sheets.custom('column', f'{shown[1]}px')}}}"
        yield f"{chosen} .u{{{sheets.tile_size(shown)};{self._look}}}"
        yield f"{chosen} .u::after{{content:attr(data-{self.letter})}}"
        yield f"{chosen} .about-{self.letter}{{display:block}}"
        yield f"{chosen} .f{self.letter} .first{{display:inline-block}}"
        for sheet in self.used:
            yield f"{chosen} .{space}s{sheet}::before{self._image(stem, sheet)}"
        yield f"{chosen} .u.x{self.letter}::before{NO_PICTURE}"

    @property
    def _look(self) -> str:
        return f"{sheets.custom('bs', self.grid.size)};{GRAIN if self.is_soft else sheets.rendering(*self.size)}"

    def _image(self, stem: str, sheet: int) -> str:
        return f"{{background-image:url({stem}-{self.letter}-{sheet}.webp)}}"


def input_images(run: Run, folder: Files, images: int, *, thrifty: bool) -> list[tuple[int, int]]:
    """Write the images as the network saw them and a sheet of their thumbnails.

    Args:
        run: to read from.
        folder: of the site.
        images: how many.
        thrifty: whether space is short: then large images are stored with a small loss.

    Returns:
        (height, width) of each in pixels.
    """
    visible = [sheets.visible(run.image(index)) for index in range(images)]
    for index, picture in enumerate(visible):
        exact = not thrifty or max(picture.shape[:2]) < sheets.PIXELATED
        folder.write(f"assets/image-{index}.webp", sheets.webp(picture, lossless=exact)[0])
    if visible:
        size = sheets.within(visible[0].shape[0], visible[0].shape[1], THUMB_SIDE)
        thumbs = sheets.Grid(images, 1).sheet([sheets.reduced(picture, *size) for picture in visible])
        exact = not thrifty or max(size) < sheets.PIXELATED
        folder.write("assets/images.webp", sheets.webp(thumbs, lossless=exact)[0])
        folder.write("assets/images-grey.webp", sheets.webp(colours.luma(thumbs), lossless=exact)[0])
        rendering = sheets.rendering(*size)
        high, wide = (f"{side / max(size):.6g}" for side in size)
        over = sheets.filled_size(*size, OVER_SIDE)
        rules = [
            f".thumb,{UNDER_MAP}{{background-size:{images * 100}% 100%;{rendering}}}",
            ".thumb{background-image:url(images.webp)}",
            f"{UNDER_MAP}{{background-image:url(images-grey.webp)}}",  # a filter on each tile would be slow
            f".thumb{{{sheets.custom('high', high)};{sheets.custom('wide', wide)}}}",
            f".overlay{{{sheets.custom('ow', f'{over[1]}px')};{sheets.custom('oh', f'{over[0]}px')}}}",
        ]
        rules += [f".images-i{index}{{{sheets.custom('i', sheets.offset(index, images))}}}" for index in range(images)]
        folder.write_lines("assets/images.css", rules)
    return [picture.shape[:2] for picture in visible]


@dataclass(frozen=True, slots=True)
class LayerSheets:
    """Writes the sheets of one layer's pictures."""

    run: Run
    folder: Files  # of the site
    slug: str  # of the layer
    lossless: bool  # whether large pictures are kept without loss
    compared: int = 0  # position of the kind whose pictures are compared with each other
    thumbnails: list[np.ndarray] = field(default_factory=list)  # of those of them that are fine, as they were written
    plain: set[tuple[int, int]] = field(default_factory=set)  # kind and channel of pictures of one plain colour

    def kind_set(self, kind: Kind, units: Sequence[Unit]) -> tuple[SheetSet, float]:
        """Write the sheets of one kind of picture.

        Returns:
            The sheets, and the peak signal-to-noise ratio of the worst of them, dB.
        """
        exact = self.lossless or max(kind.size) < sheets.PIXELATED
        blank = np.zeros((*kind.size, kind.bands), np.uint8)
        worst, used = math.inf, []
        for number, part in _parts(units, kind.grid):
            pictures = [unit.pictures[kind.position] for unit in part]
            if all(picture is None or picture.sheet is None for picture in pictures):
                continue
            tiles = [blank if picture is None else self._tile(picture, kind, blank) for picture in pictures]
            if any(tile.shape != blank.shape for tile in tiles):
                raise RunError(
                    f"{self.run.folder}: pictures of one layer and kind differ in size; delete the run and run again"
                )
            is_reduced = kind.size != sheets.visible_size(*kind.pixels, kind.planes)
            content, fidelity = sheets.webp(kind.grid.sheet(tiles), lossless=exact, is_reduced=is_reduced)
            worst = min(worst, fidelity)
            self.folder.write(f"assets/{self.slug}-k{kind.position}-{number}.webp", content)
            used.append(number)
        letter, is_soft = f"k{kind.position}", kind.space == "image"
        choice = not kind.is_diverse
        return SheetSet(letter, kind.size, kind.grid, tuple(used), is_choice=choice, is_soft=is_soft), worst

    def _tile(self, picture: Picture, kind: Kind, blank: np.ndarray) -> np.ndarray:
        """What a sheet holds of a unit, in the size of its kind: first pictures are smaller than the finer ones."""
        tile = self.run.tile(picture.row)
        if tile is None:
            return blank
        seen = sheets.visible(tile)
        is_of_kind = seen.shape[:2] == sheets.visible_size(*kind.pixels, kind.planes)
        shown = sheets.as_large(seen, *blank.shape[:2]) if picture.is_first or is_of_kind else seen
        if likeness.is_plain(seen):
            self.plain.add((kind.position, picture.row.channel))
        if picture.kind.position == self.compared and picture.row.status == "ok":
            self.thumbnails.append(likeness.thumbnail(shown))
        return shown

    def weight_set(self, details: Details, units: Sequence[Unit], grid: sheets.Grid) -> SheetSet | None:
        """Write the sheets of kernels; None where there are none."""

        def tile(channel: int) -> np.ndarray | None:
            row = details.weights.get(channel)
            picture = self.run.tile(row) if row else None
            if picture is None or row is None or row.is_colour:
                return picture
            return colours.contact_sheet(picture, max(1, len(row.inputs)))

        return self._table_set("w", tile, units, grid)

    def stimulus_set(self, details: Details, units: Sequence[Unit], grid: sheets.Grid) -> SheetSet | None:
        """Write the sheets of best stimuli; None where there are none."""

        def tile(channel: int) -> np.ndarray | None:
            row = details.tuning.get(channel)
            picture = self.run.tile(row) if row else None
            return None if picture is None else sheets.visible(picture)

        return self._table_set("b", tile, units, grid, side=STIMULUS_SIDE)

    def _table_set(
        self,
        letter: str,
        picture: Callable[[int], np.ndarray | None],
        units: Sequence[Unit],
        grid: sheets.Grid,
        *,
        side: float = math.inf,
    ) -> SheetSet | None:
        """Write the sheets of one picture a channel, reduced to at most `side` pixels; None where there are none."""
        first = next((tile for unit in units if (tile := picture(unit.channel)) is not None), None)
        if first is None:
            return None
        height, width, bands = first.shape
        if max(height, width) > side:
            height, width = sheets.within(height, width, int(side))
        used = []
        for number, part in _parts(units, grid):
            here = [picture(unit.channel) for unit in part]
            if all(tile is None for tile in here):
                continue
            blank = np.zeros((height, width, bands), np.uint8)
            tiles = [blank if tile is None else sheets.reduced(tile, height, width) for tile in here]
            content = sheets.webp(grid.sheet(tiles), lossless=True)[0]
            self.folder.write(f"assets/{self.slug}-{letter}-{number}.webp", content)
            used.append(number)
        return SheetSet(letter, (height, width), grid, tuple(used))

    def strip(self, lead: Sequence[Picture]) -> float:
        """Write the row of pictures that stand for the layer.

        Returns:
            Its peak signal-to-noise ratio, dB.
        """
        size = sheets.within(*lead[0].kind.size, STRIP_SIDE)
        tiles = []
        for picture in lead:
            tile = self.run.tile(picture.row)
            assert tile is not None
            tiles.append(sheets.reduced(sheets.visible(tile), *size))
        content, fidelity = sheets.webp(sheets.Grid(STRIP, 1).sheet(tiles), lossless=self.lossless)
        self.folder.write(f"assets/strip-{self.slug}.webp", content)
        return fidelity

    def maps(self, letter: str, rows: int, tiles: np.ndarray) -> None:
        """Write sheets of maps: a row a unit, a column an image or an example.

        Where pictures may lose something, maps keep 32 greys, and large ones are lossy.

        Args:
            letter: m for maps on the user's images, h for those over examples.
            rows: units a sheet.
            tiles: (units, columns, H, W) uint8.
        """
        units, columns, height, width = tiles.shape
        lossy = not self.lossless and max(height, width) >= SMOOTH_MAP
        if not (self.lossless or lossy):
            tiles = (tiles // (256 // LEVELS) * (255 / (LEVELS - 1))).astype(np.uint8)
        for number, first in enumerate(range(0, units, rows)):
            part = tiles[first : first + rows].transpose(0, 2, 1, 3).reshape(-1, columns * width, 1)
            sheet = np.zeros((rows * height, columns * width, 1), np.uint8)
            sheet[: len(part)] = part
            content = sheets.compact(sheet, not lossy, MAP_LOSSY)
            self.folder.write(f"assets/{self.slug}-{letter}-{number}.webp", content)


def _parts(units: Sequence[Unit], grid: sheets.Grid) -> Iterator[tuple[int, Sequence[Unit]]]:
    for number, first in enumerate(range(0, len(units), grid.tiles)):
        yield number, units[first : first + grid.tiles]


def heat_tiles(run: Run, details: Details, units: Sequence[Unit]) -> np.ndarray | None:
    """The maps over the strongest examples, (units, ranks, H, W) uint8; None where there are none."""
    ranks = details.heat_ranks
    stack: np.ndarray | None = None
    for index, unit in enumerate(units):
        for rank, row in enumerate(details.examples.get(unit.channel, [])[:ranks]):
            tile = run.tile(row)
            if tile is None:
                continue
            if stack is None:
                stack = np.zeros((len(units), ranks, *sheets.at_most(tile, HEAT_SIDE).shape[:2]), np.uint8)
            stack[index, rank] = sheets.reduced(tile, stack.shape[2], stack.shape[3])[:, :, 0]
    return stack


def layer_style(
    layer: LayerInfo, sets: Sequence[SheetSet], units: Sequence[Unit], maps: LayerMaps, *, images: int, heats: int
) -> Iterator[str]:
    """The rules that cut the sheets of a layer.

    Args:
        layer: its page has the class l0, l1, … of its index, and so begin the classes of its pictures.
        sets: of its pictures.
        units: shown.
        maps: of this layer.
        images: shown by the site.
        heats: columns of the sheets of maps over examples; 0 where there are none.
    """
    slug, page, space = layer.slug, f"l{layer.index}", f"l{layer.index}-"
    for one in sets:
        yield from one.rules(space, slug)
        if one.is_choice:
            yield from one.grid_rules(page, space, slug)
    grid = sheets.Grid(1, units[0].rows) if units else sheets.Grid(1, 1)
    tiles = sets[0].grid if sets else grid
    yield from tiles.rules(space)
    numbers = range(units[-1].sheet + 1) if units else range(0)
    if maps.neurons is not None and units:
        shown = sheets.filled_size(*maps.neurons, GRID_SIDE)
        how = f"{sheets.custom('bs', f'{images * 100}% {grid.rows * 100}%')};{GRAIN}"
        chosen = f".{page}:has([value^=m]:checked)"
        yield f".pic.{space}m{{{how};{OF_MAPS}}}"
        yield f"{chosen} .units{{{sheets.custom('column', f'{shown[1]}px')}}}"
        yield f"{chosen} .u{{{sheets.tile_size(shown)};{how}}}"
        yield f"{chosen} .about-m{{display:block}}"
        yield f"{chosen} .u::before{{{OF_MAPS}}}"
        for image in range(images):
            of_image = f".{page}:has([value=m{image}]:checked) .u"
            yield f"{of_image}{{{sheets.custom('i', sheets.offset(image, images))}}}"
            yield f"{of_image}::after{{content:attr(data-m{image})}}"
        for sheet in numbers:
            url = f"{{background-image:url({slug}-m-{sheet}.webp)}}"
            yield f".{space}m.{space}s{sheet},{chosen} .{space}s{sheet}::before{url}"
        yield f"{chosen} .u.xm::before{NO_PICTURE}"
        yield f"{chosen} .u.xm b::before{{content:none}}"
    if heats:
        size = sheets.custom("bs", f"{heats * 100}% {grid.rows * 100}%")
        yield f".pic.{space}h{{{size};{GRAIN};{OF_MAPS}}}"
        for rank in range(heats):
            yield f".{space}j{rank}{{{sheets.custom('i', sheets.offset(rank, heats))}}}"
        for sheet in numbers:
            yield f".{space}h.{space}s{sheet}{{background-image:url({slug}-h-{sheet}.webp)}}"


def diverse_style(layer: LayerInfo, kinds: Sequence[Kind]) -> Iterator[str]:
    """The rules that lay the diverse pictures of a layer's units out, two by two.

    Args:
        layer: of the page.
        kinds: the diverse ones, whose pictures have one size.
    """
    kind = next((kind for kind in kinds if kind.pictured), None)
    if kind is None:
        return
    chosen = f".l{layer.index}:has([value=d]:checked)"
    height, width = (2 * side + DIVERSE_GAP for side in sheets.shown_size(*kind.size, DIVERSE_SIDE))
    yield f"{chosen} .units{{{sheets.custom('column', f'{width}px')}}}"
    yield f"{chosen} .u{{{sheets.tile_size((height, width))}}}"
    yield f"{chosen} .u::after{{content:attr(data-d)}}"
    yield f"{chosen} .about-d{{display:block}}"
    yield f"{chosen} .fd .first{{display:inline-block}}"


def strip_style(layers: Sequence[tuple[LayerInfo, Sequence[Picture]]]) -> Iterator[str]:
    """The rules that cut the strips of the overview: each layer with the pictures that stand for it."""
    for place in range(STRIP):
        yield f".strip-t{place}{{background-position:{sheets.offset(place, STRIP)} 0}}"
    for layer, lead in layers:
        if lead:
            size = lead[0].kind.size
            height, width = sheets.shown_size(*size, STRIP_SHOWN)
            yield (
                f".px.strip-{layer.index}{{width:{width}px;height:{height}px;"
                f"background-image:url(strip-{layer.slug}.webp);background-size:{STRIP * 100}% 100%;"
                f"{sheets.rendering(*size)}}}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class MapTile:
    """A map on an image's page."""

    picture: np.ndarray  # (H, W, 1) uint8, on its own scale
    shared: str  # CSS filter functions that take it to the scale of its channel; empty where there is none


def image_maps(
    folder: Files, image: int, tiles: Sequence[MapTile], grids: Sequence[int], *, side: float, lossless: bool
) -> None:
    """Write the maps shown on one image's page, a sheet for each size, and the rules that lay them out.

    Args:
        folder: of the site.
        image: its number.
        tiles: maps, in order of their numbers on the page.
        grids: columns of each activation grid on the page.
        side: pixels, to which larger maps are reduced.
        lossless: whether large maps are kept without loss.
    """
    of_size: dict[tuple[int, ...], list[int]] = {}
    for number, tile in enumerate(tiles):
        height, width = tile.picture.shape[:2]
        size = sheets.within(height, width, int(min(side, max(height, width))))
        of_size.setdefault(size, []).append(number)
    space = f"o{image}-"
    rules = [f".px.{space}m{{{GRAIN};background-position:{sheets.custom_value('x')} {sheets.custom_value('y')}}}"]
    for (height, width), numbers in of_size.items():
        grid = sheets.grid_for(len(numbers), height, width, most=len(numbers))
        sheet = grid.sheet([sheets.reduced(tiles[number].picture, height, width) for number in numbers])
        name = f"maps-{image}-{height}x{width}.webp"
        exact = lossless or max(height, width) < SMOOTH_MAP
        folder.write(f"assets/{name}", sheets.compact(sheet, exact, MAP_LOSSY))
        selectors = ",".join(f".{space}t{number}" for number in numbers)
        rules.append(f"{selectors}{{background-image:url({name});background-size:{grid.size}}}")
        for index, number in enumerate(numbers):
            x, y = grid.place(index)
            shared = f";{sheets.custom('scale', tiles[number].shared)}" if tiles[number].shared else ""
            rules.append(f".{space}t{number}{{{sheets.custom('x', x)};{sheets.custom('y', y)}{shared}}}")
    columns_of = [f".cols-{n}{{grid-template-columns:repeat({n},1fr)}}" for n in sorted(set(grids))]
    folder.write_lines(f"assets/image-{image}.css", [*(rules if tiles else ()), *columns_of])


@dataclass(frozen=True, slots=True)
class ExampleSheets:
    """The pictures of a data set that some units fire on most, as a page finds them."""

    size: tuple[int, int]  # (height, width) of all of them, pixels, as the network saw them
    shown: tuple[int, int]  # of a tile
    grid: sheets.Grid
    places: dict[int, int]  # example → its place in the sheets
    names: dict[int, tuple[str, str | None]]  # example → name, label


def examples(
    run: Run, folder: Files, shown_ones: Collection[int] | None = None, *, thrifty: bool
) -> ExampleSheets | None:
    """Write the sheets of example pictures; None where the run has none.

    Args:
        run: to read from.
        folder: of the site.
        shown_ones: examples that some page shows; None for all.
        thrifty: whether space is short: then they are smaller.
    """
    table = run.table("examples/pictures.parquet")
    rows = [row for row in rows_of(table, ExamplePictureRow) if row.has_picture]
    rows = [row for row in rows if shown_ones is None or row.example in shown_ones]
    if not rows:
        return None
    height, width, planes = rows[0].size
    size = height, width
    rows = [row for row in rows if row.size[:2] == size]
    bands = 3 if planes == 3 else 1  # of many bands the first alone: fields are cut out of it
    shown = sheets.within(*size, THRIFTY_EXAMPLE if thrifty else EXAMPLE_SIDE)
    grid = sheets.grid_for(len(rows), *shown)
    for number, first in enumerate(range(0, len(rows), grid.tiles)):
        tiles = []
        for row in rows[first : first + grid.tiles]:
            tile = run.tile(row)
            assert tile is not None
            tiles.append(sheets.reduced(tile if bands == 3 else tile[:, :, :1], *shown))
        exact = max(shown) < sheets.PIXELATED
        folder.write(f"assets/examples-{number}.webp", sheets.compact(grid.sheet(tiles), exact, EXAMPLE_LOSSY))
    count = -(-len(rows) // grid.tiles)
    rules = [f".e-e{{{sheets.custom('bs', grid.size)};{sheets.rendering(*shown)}}}"]
    rules += [
        f".e-e.e-s{number},.ex:has([value=e]:checked) .e-s{number}::before"
        f"{{background-image:url(examples-{number}.webp)}}"
        for number in range(count)
    ]
    folder.write_lines("assets/examples.css", [*rules, *grid.rules("e-")])
    return ExampleSheets(
        size=size,
        shown=shown,
        grid=grid,
        places={row.example: place for place, row in enumerate(rows)},
        names={row.example: (row.name, row.label) for row in rows},
    )
