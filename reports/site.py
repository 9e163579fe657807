"""The static site of a run: an index, a page a layer, a page an image, and the method.

Pages open from a disk, ask no server and need no script. Names from models are data: templates hold all markup and
escape all text. Reads a run through its reader alone; knows nothing of torch or ONNX.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from analyzer.run import Run
from reports import pictures, sheets, summary, words
from reports.folder import NewFolder
from reports.units import (
    MAP_SIDE,
    Kind,
    LayerMaps,
    MapFact,
    Picture,
    Unit,
    UnitTable,
    absent,
    count_statuses,
    kinds_of,
    leading,
    units_of,
)

SCHEMA = 1  # of the JSON files beside the pages
MOST_ON_IMAGE = 8  # channels a layer on an image's page
LOSSLESS_PIXELS = 128 * 2**20  # of all large pictures together, about 250 MB; beyond it they are lossy
MARK = "assets/index.json"  # every site has it


@dataclass(frozen=True, slots=True)
class LayerEntry:
    """A layer as the index and its neighbours' pages name it."""

    layer: dict[str, Any]  # of layers.json
    page: str | None  # null where the layer was not analysed
    brief: list[str]
    lead: Sequence[Picture] = ()
    planned: int = 0  # units
    units: int = 0  # with at least one picture
    pictures: int = 0
    unraised: int = 0  # pictures
    dead: int = 0  # units
    diverged: int = 0  # pictures
    absent: tuple[str, ...] = ()  # what an unfinished run lacks, in words


@dataclass(frozen=True, slots=True, eq=False)
class OnLayer:
    """The channels of a layer that fire most on an image."""

    layer: dict[str, Any]
    page: str
    channels: list[tuple[int, MapFact, bool, int | None]]  # channel, numbers, is it on the page, tile


@dataclass(slots=True, eq=False)
class ImagePage:
    """What is gathered of one image while the layers go by."""

    index: int
    facts: dict[str, Any]  # of images/N.json
    pixels: tuple[int, int]  # (height, width) of its file
    size: tuple[int, int]  # CSS pixels on its own page
    layers: list[OnLayer] = field(default_factory=list)
    tiles: list[np.ndarray] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The image's name, short enough to stand beside every unit."""
        return words.shortened(str(self.facts["name"]))


def render(run: Run, out: Path | None = None, images: int = 12) -> Path:
    """Write the site of a run, finished or not; the old site stays until the new one is whole.

    The same run gives the same bytes.

    Args:
        run: to read from.
        out: the site's folder; by default `site` inside the run.
        images: how many of the run's images are shown at most.

    Returns:
        The site's index.html.

    Raises:
        RunError: `out` holds something else or cannot be written, or a file of the run is damaged.
    """
    place = run.folder / "site" if out is None else Path(out)
    with NewFolder(place, MARK) as folder:
        _Site(run, folder, images).write()
    return place / "index.html"


class _Site:
    """One rendering: the run, the folder, and what the pages have in common."""

    def __init__(self, run: Run, folder: NewFolder, images: int) -> None:
        self.run = run
        self.folder = folder
        self.table = UnitTable(run)
        self.lossless = self.table.pixels() <= LOSSLESS_PIXELS
        self.fidelity = math.inf  # dB, of the worst sheet
        self.objectives = [str(name) for name in (run.info.get("settings") or {}).get("objectives") or []]
        self.images = self._images(min(images, len(run.images)))
        self.environment = self._environment()

    def write(self) -> None:
        """Write every page and every picture."""
        for name in ("site.css", "site.js", "icon.svg"):
            self.folder.write(f"assets/{name}", resources.files("reports").joinpath("static", name).read_bytes())
        with_page = [layer for layer in self.run.layers if layer["analysed"] or self.table.has(layer["name"])]
        place = {layer["name"]: index for index, layer in enumerate(with_page)}
        entries = []
        for layer in self.run.layers:
            if layer["name"] in place:
                here = place[layer["name"]]
                entries.append(self._layer(layer, with_page[max(0, here - 1) : here], with_page[here + 1 : here + 2]))
            else:
                entries.append(LayerEntry(layer, None, words.in_brief(layer)))
        for page in self.images:
            pictures.image_maps(self.folder, page.index, page.tiles)
            self._page(f"image-{page.index}.html", "image.html", page=page, most=MOST_ON_IMAGE)
        self._index(entries)
        self._page("method.html", "method.html", lossless=self.lossless, fidelity=self.fidelity)

    def _images(self, number: int) -> list[ImagePage]:
        sizes = pictures.input_images(self.run, self.folder, number)
        return [
            ImagePage(index, self.run.images[index], size, sheets.shown_size(*size, 320))
            for index, size in enumerate(sizes)
        ]

    def _environment(self) -> Environment:
        environment = Environment(
            loader=PackageLoader("reports"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=lambda value: words.clean(value) if type(value) is str else value,
        )
        filters = (words.figure, words.percent, words.count, words.large, words.times, words.listed, words.shortened)
        environment.filters |= {function.__name__: function for function in filters}
        environment.globals |= {
            "info": dict.fromkeys(("filterscope", "seed", "status", "settings", "model", "input", "tasks"))
            | self.run.info,
            "images": self.images,
            "given": [words.shortened(str(image["name"])) for image in self.run.images],
            "model": str((self.run.info.get("model") or {}).get("name") or self.run.folder.name),
            "summary": summary,
            "words": words,
            "sheets": sheets,
            "map_side": MAP_SIDE,
            "strip_side": pictures.STRIP_SIDE,
            "firing_side": pictures.FIRING_SIDE,
        }
        return environment

    def _page(self, name: str, template: str, **context: Any) -> None:
        parts = self.environment.get_template(template).stream(**context)
        parts.enable_buffering(256)
        with self.folder.path(name).open("wb") as file:
            for part in parts:
                file.write(part.encode())

    def _index(self, entries: Sequence[LayerEntry]) -> None:
        totals = summary.Totals(
            layers=sum(entry.units > 0 for entry in entries),
            units=sum(entry.units for entry in entries),
            pictures=sum(entry.pictures for entry in entries),
            unraised=sum(entry.unraised for entry in entries),
            dead=sum(entry.dead for entry in entries),
            diverged=sum(entry.diverged for entry in entries),
        )
        self.folder.write_lines(
            "assets/index.css", pictures.strip_style([(entry.layer, entry.lead) for entry in entries])
        )
        told = ("page", "planned", "units", "pictures", "unraised", "dead", "diverged", "absent")
        layers = [entry.layer | {name: getattr(entry, name) for name in told} for entry in entries]
        images = [page.facts | {"page": f"image-{page.index}.html"} for page in self.images]
        self.folder.write_json(
            MARK,
            {"schema": SCHEMA, "run": self.run.info, "totals": asdict(totals), "layers": layers, "images": images},
        )
        self._page("index.html", "index.html", entries=entries, totals=totals)

    def _layer(
        self, layer: dict[str, Any], before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]
    ) -> LayerEntry:
        """Write a layer's page and its pictures; note what its images' pages will show of it."""
        slug, images = layer["slug"], len(self.images)
        rows = self.table.of(layer["name"])
        kinds = kinds_of(layer["channels"], rows, self.objectives)
        maps = LayerMaps(self.run, slug, images)
        units = units_of(layer["channels"], rows, kinds, maps, images)
        lead = leading(kinds, units, pictures.STRIP)
        counted = count_statuses(units)
        pictured = [[picture is not None and picture.sheet is not None for picture in unit.pictures] for unit in units]
        entry = LayerEntry(
            layer=layer,
            page=f"layer-{slug}.html",
            brief=words.in_brief(layer),
            lead=lead,
            planned=len(units),
            units=sum(map(any, pictured)),
            pictures=sum(map(sum, pictured)),
            unraised=counted["unraised"],
            dead=sum("dead" in unit.statuses for unit in units),
            diverged=counted["diverged"],
            absent=tuple(self._absent(units, kinds, maps)),
        )
        worst = pictures.layer_pictures(self.run, self.folder, slug, kinds, units, lead, self.lossless)
        self.fidelity = min(self.fidelity, worst)
        if maps.neurons is not None and units:
            tiles = []
            for page in self.images:  # image by image: each atlas of maps is read once
                tiles.append(maps.tiles(page.index, units))
                self._gather(page, layer, units, maps)
            pictures.layer_maps(self.folder, slug, units[0].rows, np.stack(tiles, 1))
        self.folder.write_lines(f"assets/layer-{slug}.css", pictures.layer_style(slug, kinds, units, maps, images))
        self.folder.write_json(
            f"assets/layer-{slug}.json",
            {"schema": SCHEMA, "layer": layer, "units": [_unit_json(unit) for unit in units]},
        )
        pages = {other["name"]: f"layer-{other['slug']}.html" for other in self.run.layers if other["analysed"]}
        self._page(
            f"layer-{slug}.html",
            "layer.html",
            entry=entry,
            layer=layer,
            kinds=kinds,
            units=units,
            before=before,
            after=after,
            feeding=[(name, pages.get(name)) for name in layer["predecessors"]],
            has_maps=maps.neurons is not None,
        )
        return entry

    def _absent(self, units: Sequence[Unit], kinds: Sequence[Kind], maps: LayerMaps) -> list[str]:
        """What the run lacks of a layer, in words."""
        lacking = [
            f"{words.count(number, 'picture')} of {len(units):,} of the kind “{kind.title}”"
            for kind, number in absent(units, kinds)
        ]
        if self.images and not len(maps):
            lacking.append("all activation maps")
        return lacking

    def _gather(self, page: ImagePage, layer: dict[str, Any], units: Sequence[Unit], maps: LayerMaps) -> None:
        """Note what an image's page shows of a layer."""
        on_page = {unit.channel for unit in units}
        found = []
        for channel in maps.strongest_channels(page.index, MOST_ON_IMAGE):
            fact, tile = maps.fact(page.index, channel), maps.tile(page.index, channel, pictures.FIRING_SIDE)
            if fact is not None:
                found.append((channel, fact, channel in on_page, None if tile is None else len(page.tiles)))
                page.tiles += [] if tile is None else [tile]
        if found:
            page.layers.append(OnLayer(layer, f"layer-{layer['slug']}.html", found))


def _unit_json(unit: Unit) -> dict[str, Any]:
    """A unit's numbers, exact."""
    rows = [picture.row for picture in unit.pictures if picture]
    unsaid = ("layer", "channel", "atlas", "tile")  # said above, or true of the run's files only
    return {
        "channel": unit.channel,
        "pictures": [{name: value for name, value in row.items() if name not in unsaid} for row in rows],
        "maps": [asdict(fact) for fact in unit.maps if fact],
        "strongest": unit.strongest and asdict(unit.strongest),
    }
