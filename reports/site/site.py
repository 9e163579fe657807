"""The site of a run: an overview, one page per layer and per image, the classes, and the method.

Pages open from a disk, ask no server and need no script to show pictures and numbers. Names from models are data:
templates hold all markup and escape all text. Reads a run through its reader alone; knows nothing of torch or ONNX.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import LayerInfo, StudyInfo
from filterscope.analyzer.run.rows import ExamplePictureRow, ExampleRow, rows_of
from filterscope.reports.page import heat, markup, sheets, words
from filterscope.reports.page.folder import Files, NewFolder
from filterscope.reports.page.units import MAP_SIDE, UnitTable
from filterscope.reports.site import (
    class_page,
    data_page,
    definitions,
    details,
    doubles,
    findings,
    graph,
    image_page,
    layer_answer,
    layer_page,
    overview,
    pictures,
    script_numbers,
    search_targets,
    setting_words,
    single,
    summary,
    telling,
)
from filterscope.reports.site.details import Studies
from filterscope.reports.site.image_page import ImagePage
from filterscope.reports.site.layer_page import LayerEntry, LayerPage, LayerPlace
from filterscope.reports.site.search_index import SearchIndex

SCHEMA = 2  # of the JSON files beside the pages
LOSSLESS_PIXELS = 32 * 2**20  # of all large pictures together, about 70 MB; beyond it they are lossy
MOST_PIXELS = 300_000_000  # of all large pictures together, about 60 MB; beyond it they are reduced
LEAST_SIDE = 112  # pixels, to which at most; in a single file always
MOST_DIVERSE = 24  # channels a layer with diverse pictures, where all of them would be too many even so
MOST_PNG_BYTES = 50_000_000  # of all maximised pictures, up to which each is a file of its own by default
MOST_SINGLE = 1500  # channels in a single file to begin with: about what 20 MB hold
MARK = "assets/index.json"  # every site has it
STATIC = (
    *("site.css", "layer.js", "maps.js", "unit.js", "enlarge.js", "graph.js", "image.js", "data.js", "find.js"),
    "icon.svg",
)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a run goes into a site."""

    images: int = 12  # of the user's, at most
    channels: int | None = None  # a layer, those that rise highest; None for all
    examples: bool = True  # whether pictures of the data set are shown
    classes: int | None = None  # at most; None for all
    png: bool = False  # whether each maximised picture is written as a PNG of its own, for which its page has a link
    lossless: int = LOSSLESS_PIXELS
    pixels: float = math.inf  # of all large pictures, beyond which they are reduced
    least_side: int = LEAST_SIDE  # to which at most
    thrifty: bool = False  # whether photos, maps on images' pages and pictures of the data set are smaller
    patches: int = details.EXAMPLES  # strongest places of the data set shown of a channel, at most


def render(run: Run, out: Path | None = None, images: int = 12, *, png: bool | None = None) -> Path:
    """Write the site of a run, finished or not; the old site stays until the new one is whole.

    The same run gives the same bytes.

    Args:
        run: to read from.
        out: the site's folder; by default `site` inside the run.
        images: how many of the run's images are shown at most.
        png: whether each maximised picture is written as a PNG of its own too, into `png`; None: where all of them
            together are small.

    Returns:
        The site's index.html.

    Raises:
        RunError: `out` holds something else or cannot be written, or a file of the run is damaged.
    """
    own = run.folder / "site"
    place = own if out is None else Path(out)
    with NewFolder(place, MARK, own=place.absolute() == own.absolute()) as folder:
        pictures_too = run.size_of_pictures() <= MOST_PNG_BYTES if png is None else png
        Site(run, folder, Extent(images=images, png=pictures_too, lossless=LOSSLESS_PIXELS, pixels=MOST_PIXELS)).write()
    return place / "index.html"


def render_single(run: Run, out: Path | None = None) -> Path:
    """Write a run's report as one HTML file of at most 20 MB, choosing what goes in.

    Args:
        run: to read from.
        out: the file; by default `report.html` inside the run.

    Returns:
        The file.

    Raises:
        RunError: the file cannot be written, or a file of the run is damaged.
    """

    def rendered(excerpt: single.Excerpt) -> dict[str, bytes]:
        files = Files()
        Site(run, files, extent_of(excerpt)).write()
        return files.contents

    file = run.folder / "report.html" if out is None else Path(out)
    sizes = [len(layer.channels) for layer in run.layers if layer.analysed]
    first = max(single.FEW_CHANNELS, min(MOST_SINGLE // max(1, len(sizes)), max(sizes, default=1)))
    single.write(file, single.fitted(rendered, single.Excerpt(first, examples=run.holds("examples"))))
    return file


def extent_of(excerpt: single.Excerpt) -> Extent:
    """How much of a run an excerpt for one file holds."""
    return Extent(
        excerpt.images,
        excerpt.channels,
        excerpt.examples,
        classes=100,
        lossless=0,
        pixels=0,
        thrifty=excerpt.thrifty,
        patches=excerpt.patches,
    )


class Site:
    """One rendering: the run, where its files go, and what the pages have in common."""

    def __init__(self, run: Run, folder: Files, extent: Extent) -> None:
        self.run = run
        self.folder = folder
        self.extent = extent
        self.table = UnitTable(run)
        self.studies = Studies(run, extent.patches)
        self.lossless = self.table.pixels() <= extent.lossless
        has_many = extent.channels is None and self.table.pixels_at(extent.least_side) > max(extent.pixels, MOST_PIXELS)
        self.diverse = MOST_DIVERSE if has_many else None
        self.side = self.table.largest_side(extent.pixels, extent.least_side, diverse=self.diverse)
        self.fidelity = math.inf  # dB, of the worst sheet
        self.images = self._images(min(extent.images, len(run.images)))
        self.with_page = [layer for layer in run.layers if layer.analysed or self.table.has(layer.name)]
        self.has_labels = any(self.studies.unit_classes.has(layer.name) for layer in self.with_page)  # of the data set
        self.classes = class_page.write(run, folder, extent.classes)
        self.examples = (
            pictures.examples(run, folder, self._examples_shown(), thrifty=extent.thrifty) if extent.examples else None
        )
        self.search = SearchIndex()
        self.places: dict[str, LayerPlace] = {}  # layer → where its channels' pictures are
        self.source = layer_page.LayerSource(
            run=run,
            table=self.table,
            studies=self.studies,
            objectives=[str(name) for name in run.info.settings.objectives],
            images=len(self.images),
            most=extent.channels,
            lossless=self.lossless,
            side=self.side,
            diverse=self.diverse,
        )
        self.environment = self._environment()

    def write(self) -> None:
        """Write every page and every picture."""
        for name in STATIC:
            self.folder.write(
                f"assets/{name}", resources.files("filterscope.reports").joinpath("static", name).read_bytes()
            )
        if self.examples is not None:
            self._write_examples(self.examples)
        place = {layer.name: index for index, layer in enumerate(self.with_page)}
        entries, on_page = [], {}
        for layer in self.run.layers:
            if layer.name in place:
                page = self._layer(layer, place[layer.name])
                entries.append(page.entry)
                on_page[layer.name] = f"layer-{layer.slug}.html", {unit.channel for unit in page.units}
            else:
                entries.append(self._not_analysed(layer))
        ways = {name: way.packed() for name, way in self.places.items()}
        self.folder.write("assets/ways.js", layer_page.call("ways", ways))
        thrifty = self.extent.thrifty
        studies = image_page.ImageStudies(self.run, self.folder, on_page, thrifty=thrifty)
        for image in self.images:
            studies.add(image)
            columns = [part.columns for part in image.grids]
            side = pictures.THRIFTY_MAP if thrifty else pictures.FIRING_SIDE
            pictures.image_maps(
                self.folder, image.index, image.tiles, columns, side=side, lossless=self.lossless and not thrifty
            )
        in_data = self._write_data(on_page)
        for image in self.images:
            most = image_page.MOST_ON_IMAGE
            self._page(image.page, "image.html", page=image, most=most, class_pages=self._class_pages(in_data))
        if self.classes is not None:
            self._page("classes.html", "classes.html", classes=self.classes, in_data=in_data)
            numbers = script_numbers.of_classes([tile.row for tile in self.classes.tiles])
            self.folder.write_json("assets/classes.json", numbers)
        self._index(entries)
        self._write_search(entries)
        self._page("method.html", "method.html", lossless=self.lossless, fidelity=self.fidelity, side=self.side)

    def _write_search(self, entries: Sequence[LayerEntry]) -> None:
        tiles = () if self.classes is None else self.classes.tiles
        facts = [page.facts for page in self.images]
        pages = search_targets.targets(facts, [tile.row for tile in tiles], self.run.info.labels, entries)
        lacking = search_targets.lacks(self.run, entries, has_classes=self.has_labels)
        plain = {name: summary.in_form(self.run.info, text).replace("`", "") for name, text in lacking.items()}
        self.folder.write("assets/search.js", layer_page.call("search", self.search.packed(pages, plain)))

    def _add_to_search(self, page: LayerPage) -> None:
        place = self.places.get(page.layer.name)
        self.search.add(
            page.layer,
            place.packed() if place else None,
            channels=[unit.channel for unit in page.units],
            tuning={channel: row.words or "" for channel, row in page.details.tuning.items()},
            classes=page.classes,
            best=next(iter(page.ranking.places), 0),
            odd=search_targets.odd_of(page.entry),
        )

    def _write_data(self, on_page: Mapping[str, tuple[str, set[int]]]) -> set[int]:
        """Write the page of the data set, where it has classes; the classes that have a row on it."""
        places = data_page.Places(
            on_page=on_page,
            images={page.source: page for page in self.images},
            classes=set() if self.classes is None else {tile.row.klass for tile in self.classes.tiles},
            examples=self.examples,
            channel_classes=self.studies.channel_classes,
        )
        page = data_page.write(self.run, self.folder, self.table, places, most=self.extent.classes)
        if page is None:
            return set()
        self._page("data.html", "data.html", page=page, examples=self.examples, plot=data_page.PLOT)
        self.folder.write_json("assets/data.json", script_numbers.of_data(self.run))
        return set(page.shown)

    def _class_pages(self, in_data: set[int]) -> dict[int, str]:
        """Class → where it stands: in the table of the data's classes, else among the pictures of classes."""
        pictured = [] if self.classes is None else [tile.row.klass for tile in self.classes.tiles]
        of_pictures = {klass: f"classes.html#class-{klass}" for klass in pictured}
        return of_pictures | {klass: f"data.html#class-{klass}" for klass in in_data}

    def _examples_shown(self) -> set[int] | None:
        """The examples on the pages of an excerpt: of its channels, and those answered wrongly; None for all."""
        if self.extent.channels is None:
            return None
        wrong = set(self.run.table("examples/mistakes.parquet")["image"].to_pylist())
        rows = rows_of(self.run.table("examples/pictures.parquet"), ExamplePictureRow)
        shown = {row.example for row in rows if row.image in wrong}
        for layer in self.with_page:
            channels = set(layer_page.chosen_channels(layer, self.table.of(layer.name), self.extent.channels))
            strongest = rows_of(self.run.examples(layer.slug), ExampleRow)
            shown |= {row.example for row in strongest if row.channel in channels and row.rank < self.extent.patches}
        return shown

    def _images(self, number: int) -> list[ImagePage]:
        sizes = pictures.input_images(self.run, self.folder, number, thrifty=self.extent.thrifty)
        return [
            ImagePage(index, self.run.images[index], size, sheets.shown_size(*size, 320))
            for index, size in enumerate(sizes)
        ]

    def _environment(self) -> Environment:
        unfinished = StudyInfo.read({})
        studies = {name: self.run.study(name) or unfinished for name in summary.STUDIES if self.run.holds(name)}
        names = {
            "info": self.run.info,
            "images": self.images,
            "image_names": [words.shortened(str(image.name)) for image in self.run.images],
            "model": str(self.run.info.model.name or self.run.folder.name),
            "summary": summary,
            "words": words,
            "sheets": sheets,
            "heat": heat,
            "definitions": definitions,
            "findings": findings,
            "graph": graph,
            "setting_words": setting_words,
            "studies": studies,
            "has_classes": self.classes is not None,
            "has_data": data_page.is_there(self.run),
            "why_no_data": data_page.why_not(self.run),
            "has_examples": self.examples is not None,
            "extent": self.extent,
            "map_side": MAP_SIDE,
            "input_size": self.source.input_size,
            "strip": pictures.STRIP,
            "strip_side": pictures.STRIP_SIDE,
            "firing_side": pictures.FIRING_SIDE,
        }

        def in_form(sentence: str | None) -> Markup:
            return markup.coded(summary.in_form(self.run.info, sentence))

        return markup.environment(names, in_form, data_page.tenths)

    def _page(self, name: str, template: str, **context: Any) -> None:
        self.folder.write(name, self.environment.get_template(template).render(**context).encode())

    def _write_examples(self, examples: pictures.ExampleSheets) -> None:
        packed = {
            "size": examples.size,
            "shown": examples.shown,
            "columns": examples.grid.columns,
            "rows": examples.grid.rows,
            "places": examples.places,
            "names": {number: [name, label] for number, (name, label) in examples.names.items()},
        }
        self.folder.write("assets/examples.js", layer_page.call("examples", packed))

    def _index(self, entries: Sequence[LayerEntry]) -> None:
        measured = [entry.silent for entry in entries if entry.silent is not None]
        totals = summary.Totals(
            layers=sum(entry.units > 0 for entry in entries),
            units=sum(entry.units for entry in entries),
            pictures=sum(entry.pictures for entry in entries),
            unraised=sum(entry.unraised for entry in entries),
            dead=sum(entry.dead for entry in entries),
            diverged=sum(entry.diverged for entry in entries),
            first=sum(entry.first for entry in entries),
            constant=sum(entry.constant for entry in entries),
            silent=sum(map(len, measured)) if measured else None,
        )
        self.folder.write_lines(
            "assets/index.css", pictures.strip_style([(entry.layer, entry.lead) for entry in entries])
        )
        columns = (
            "page",
            "planned",
            "units",
            "pictures",
            "first",
            "unraised",
            "dead",
            "diverged",
            "constant",
            "silent",
            "absent",
        )
        layers = [{**entry.layer.json} | {name: getattr(entry, name) for name in columns} for entry in entries]
        images = [{**page.facts.json} | {"page": f"image-{page.index}.html"} for page in self.images]
        self.folder.write_json(
            MARK,
            {"schema": SCHEMA, "run": self.run.info.json, "totals": asdict(totals), "layers": layers, "images": images},
        )
        seen = {entry.layer.index for entry in entries if entry.page}
        convolutions = [layer for layer in self.run.layers if layer.is_convolution]
        rule, channels = telling.write(
            self.run, self.folder, self.table, self.studies, entries=entries, examples=self.examples is not None
        )
        self._page(
            "index.html",
            "index.html",
            run=self.run,
            entries=entries,
            totals=totals,
            rule=rule,
            telling=channels,
            results=findings.class_results(self.run),
            confusions=findings.confusions(self.run),
            predictions=[page.facts.prediction for page in self.images],
            no_doubles=doubles.none_sentence({entry.layer.name: entry.doubles for entry in entries}),
            odd=findings.findings(self.run, self.studies, entries, self._saturated()),
            drawing=graph.draw(convolutions, seen, summary.ends(self.run.info)),
            outline=graph.draw_outline(self.run.graph, convolutions, seen),
            cards={entry.layer.index: entry for entry in entries if entry.layer.is_convolution},
            plots=overview.plots(self.run, entries, self.studies.channel_classes),
            lacking=overview.missing(self.run, entries),
            left_out=self._left_out(entries),
        )

    def _left_out(self, entries: Sequence[LayerEntry]) -> list[str]:
        """What an excerpt lacks, in words."""
        extent, has_examples = self.extent, self.run.holds("examples")
        return overview.left_out(
            entries,
            channels=extent.channels or 0,
            images=(len(self.images), len(self.run.images)),
            patches=extent.patches if has_examples and extent.patches < details.EXAMPLES else None,
            examples=has_examples and not extent.examples,
        )

    def _not_analysed(self, layer: LayerInfo) -> LayerEntry:
        """Write the page of a layer that the run did not analyse: what it is, and the command that would analyse it."""
        entry = LayerEntry(
            layer,
            None,
            words.in_brief(layer, self.source.input_size),
            silent=self.studies.silent(layer.name),
            doubles=layer_page.doubles_in(self.run, self.studies, layer),
        )
        pages = self._pages()
        self._page(
            f"layer-{layer.slug}.html",
            "layer-unseen.html",
            entry=entry,
            layer=layer,
            command=summary.layer_command(self.run.info, layer) if layer.rank == 2 else "",
            feeding=[(name, pages.get(name)) for name in layer.predecessors],
            fed=[(other.name, pages.get(other.name)) for other in self.run.layers if layer.name in other.predecessors],
        )
        self.search.add(layer, None, channels=(), tuning={}, classes={})
        return entry

    def _pages(self) -> dict[str, str]:
        """Layer → its page, of those that were analysed."""
        return {layer.name: f"layer-{layer.slug}.html" for layer in self.with_page}

    def _saturated(self) -> tuple[int, int]:
        """How many of the images with a page are mostly black or white, and how many there are."""
        return findings.saturated_images(self.run, len(self.images)), len(self.images)

    def _layer(self, layer: LayerInfo, here: int) -> LayerPage:
        """Write a layer's page and its pictures; note what its images' pages will show of it."""
        page = layer_page.write(self.source, self.folder, layer, self.places)
        self._add_to_search(page)
        self.fidelity = min(self.fidelity, page.fidelity)
        channels = {unit.channel for unit in page.units}
        if page.maps.neurons is not None and page.units:
            for image in self.images:
                image.gather(layer, channels, page.maps)
        if self.extent.png:
            self._write_png(page)
        pages = self._pages()
        self._page(
            f"layer-{layer.slug}.html",
            "layer.html",
            entry=page.entry,
            layer=layer,
            page=page,
            sentences=layer_answer.layer_answer(page, len(self.run.layers), has_classes=self.has_labels),
            before=self.with_page[max(0, here - 1) : here],
            after=self.with_page[here + 1 : here + 2],
            feeding=[(name, pages.get(name)) for name in layer.predecessors],
            fed=[(other.name, pages.get(other.name)) for other in self.run.layers if layer.name in other.predecessors],
            command=summary.unit_command(self.run.info, layer),
        )
        return page

    def _write_png(self, page: LayerPage) -> None:
        """Each maximised picture as a file of its own, as it lies in the run."""
        for kind in page.kinds:  # whose atlases are read one after the other
            for unit in page.units:
                picture = unit.pictures[kind.position]
                tile = self.run.tile(picture.row) if picture else None
                if tile is not None:
                    name = f"png/{page.layer.slug}-{unit.channel}-k{kind.position}.png"
                    self.folder.write(name, sheets.png(sheets.visible(tile)))
