"""The run on disk: what an analysis writes and what everybody reads back.

    run.json                 what was done, on what, with what; status running, complete or partial
    layers.json              every conv layer, analysed or not
    graph.json               the outline of the network, small operations folded
    units.parquet            a row a unit and kind, the union of the tasks' tables
    tasks/SLUG/KIND-FIRST-LAST.parquet + .png   one finished task: its rows and an atlas of its pictures
    first/…                  the same of first pictures, until those in tasks/ have replaced them
    maps/SLUG.parquet, maps/SLUG-N.png          activation maps: a row a channel and image, an atlas an image
    images/N.json + .png     each input image as the network saw it, and what the network answered
    STUDY/study.json, STUDY/…                   what a study found (analyzer.studies), written before its study.json

Files are written beside their place, flushed, and renamed; a task is finished when its .parquet exists. Knows files
and tables; knows nothing of torch, ONNX or HTML.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from PIL.PngImagePlugin import PngImageFile

from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.files import (
    AGAIN,
    gather_units,
    is_run,
    read_graph,
    read_info,
    read_layers,
    read_record,
    read_table,
)
from filterscope.analyzer.run.layout import LARGEST_ATLAS, OWN_FILES
from filterscope.analyzer.run.records import GraphInfo, ImageInfo, LayerInfo, RunInfo, StudyInfo
from filterscope.analyzer.run.rows import StoredPicture
from filterscope.analyzer.run.table_view import TableView
from filterscope.analyzer.run.tables import EXAMPLE_SCHEMA, MAP_SCHEMA, TABLES, UNIT_SCHEMA, WEIGHT_SCHEMA
from filterscope.converters import checks
from filterscope.converters.errors import RunError

if TYPE_CHECKING:
    from filterscope.analyzer.run.views import LayerView


class Run:
    """A run as it lies on disk, finished or not. Reads lazily; writes nothing.

    Args:
        folder: the run.

    Raises:
        RunError: no run there, a newer schema, or a damaged file (named).
    """

    __module__ = "filterscope"  # its public name

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not is_run(self.folder):
            raise RunError(f"{self.folder}: is not a run of filterscope (it has no run.json)")
        self.info: RunInfo = read_info(self.folder)
        self._atlas = lru_cache(maxsize=4)(self._read_picture)

    def __repr__(self) -> str:
        analysed = [layer for layer in self.layers if layer["analysed"]]
        channels = sum(len(layer["channels"]) for layer in analysed)
        return (
            f"<filterscope.Run {self.folder}: {self.info['status']}, {len(analysed)} of {len(self.layers)} layers, "
            f"{channels} channels>"
        )

    def __reduce__(self) -> tuple[type[Run], tuple[Path]]:
        return Run, (self.folder,)

    def __getitem__(self, layer: str) -> LayerView:
        """One layer, which shows itself in a notebook; `run["conv4"][17]` is one of its channels."""
        from filterscope.analyzer.run.views import layer_view

        return layer_view(self, layer)

    @cached_property
    def layers(self) -> list[LayerInfo]:
        """Every conv layer in graph order, analysed or not."""
        return read_layers(self.folder)

    @cached_property
    def graph(self) -> GraphInfo | None:
        """The outline of the network; None where an older version made the run.

        Raises:
            RunError: it is damaged.
        """
        path = self.folder / "graph.json"
        return read_graph(path) if path.is_file() else None

    @cached_property
    def units(self) -> TableView:
        """UNIT_SCHEMA: a row a unit and kind. Gathered from finished tasks while the run is under way."""
        path = self.folder / "units.parquet"
        is_current = path.is_file() and (self.info.status == "complete" or not _is_outdated(path))
        there = is_current or self._is_lost("units.parquet")
        return TableView(read_table(path, UNIT_SCHEMA) if there else gather_units(self.folder))

    @cached_property
    def images(self) -> list[ImageInfo]:
        """The run's input images, in order of their numbers.

        Raises:
            RunError: one of them is missing or damaged.
        """
        folder = self.folder / "images"
        numbers = sorted(int(path.stem) for path in folder.glob("*.json") if path.stem.isdecimal())
        count = self.info.get("images") if self.info.status == "complete" else None
        for number in range(max(count or 0, *(n + 1 for n in numbers), 0)):
            if number not in numbers:
                raise RunError(f"{folder / f'{number}.json'}: missing; {AGAIN}")
        return [read_record(folder / f"{number}.json", ImageInfo) for number in numbers]

    def image(self, index: int) -> np.ndarray:
        """Input image `index` as the network saw it, (H, W, C) uint8.

        Raises:
            SettingsError: the run has no such image.
        """
        if not 0 <= index < len(self.images):
            checks.refuse("image", index, f"the run has {len(self.images)}, counted from 0")
        info = self.images[index]
        picture = StoredPicture(
            atlas=f"images/{index}.png", tile=0, height=info.height, width=info.width, bands=info.bands
        )
        return self._cut(picture.atlas or "", picture)

    def layer_called(self, name: str) -> LayerInfo:
        """A layer by its name, or by its name in files.

        Raises:
            SettingsError: the network has no such layer; the nearest names are suggested.
        """
        text = checks.text("layer", name)
        names = [layer.name for layer in self.layers]
        slugs = [layer.slug for layer in self.layers]
        if text not in (*names, *slugs):
            near = difflib.get_close_matches(text, names, 3, 0.5)
            advice = f"did you mean {', '.join(near)}?" if near else f"the layers are {', '.join(names[:8])}"
            checks.refuse("layer", text, f"no layer is called that; {advice}")
        return self.layers[(names if text in names else slugs).index(text)]

    def maps(self, layer: str) -> pa.Table:
        """MAP_SCHEMA of one layer, by name; empty where no images were given or the layer is not done."""
        return self._table_or_empty(f"maps/{self.layer_called(layer).slug}.parquet", MAP_SCHEMA)

    def study(self, name: str) -> StudyInfo | None:
        """How a study was made; None where the run has no such study, or not all of it yet."""
        path = self.folder / name / "study.json"
        return read_record(path, StudyInfo) if path.is_file() else None

    def holds(self, name: str) -> bool:
        """Whether anything of a study is there, finished or not."""
        return (self.folder / name).is_dir()

    def table(self, relative: str) -> TableView:
        """A table of a study, such as "examples/units.parquet"; empty where it is missing.

        Raises:
            SettingsError: no study has a table of that name.
        """
        if relative not in TABLES:
            checks.refuse("table", relative, f"give one of {', '.join(TABLES)}")
        return TableView(self._table_or_empty(relative, TABLES[relative]))

    def examples(self, layer: str) -> pa.Table:
        """EXAMPLE_SCHEMA of one layer, by name; empty where no data set was given or the layer is not done."""
        return self._table_or_empty(f"examples/{self.layer_called(layer).slug}.parquet", EXAMPLE_SCHEMA)

    def weights(self, layer: str) -> pa.Table:
        """WEIGHT_SCHEMA of one layer, by name; empty where the study is not done or its kernel is no constant."""
        return self._table_or_empty(f"weights/{self.layer_called(layer).slug}.parquet", WEIGHT_SCHEMA)

    def _table_or_empty(self, relative: str, schema: pa.Schema) -> pa.Table:
        path = self.folder / relative
        return read_table(path, schema) if path.is_file() or self._is_lost(relative) else schema.empty_table()

    def _is_lost(self, relative: str) -> bool:
        """Whether a table that is not there was there once."""
        folder, _, name = relative.rpartition("/")
        if not folder:
            return self.info.status == "complete"
        if folder == "maps":
            slug, finished = name.removesuffix(".parquet"), self.info.status == "complete"
            layers = self.layers if finished and self.info.get("images") else []
            return any(layer.analysed and layer.slug == slug for layer in layers)
        study = self.study(folder)
        return study is not None and name in (study.get("files") or ())

    def size_of_pictures(self) -> int:
        """Bytes of the files that hold the maximised pictures; one that is missing counts as none."""
        paths = (self.folder / name for name in self.units["atlas"].unique().to_pylist() if name is not None)
        return sum(path.stat().st_size for path in paths if path.is_file())

    def tile(self, row: StoredPicture | Mapping[str, Any], prefix: str = "") -> np.ndarray | None:
        """The picture of one row of a table, (H, W, C) uint8; None where there is none.

        Args:
            row: of a table, as a row of analyzer.run.rows or as a dictionary of its columns: atlas, tile, height,
                width and perhaps bands.
            prefix: of those columns, such as "mask_".
        """
        picture = row if isinstance(row, StoredPicture) else StoredPicture.in_row(row, prefix)
        return None if picture.atlas is None else self._cut(picture.atlas, picture)

    def _cut(self, relative: str, picture: StoredPicture) -> np.ndarray:
        height, width, bands = picture.size
        try:
            return atlas.unpack(self._atlas(relative), picture.tile or 0, height, width, bands=bands)
        except IndexError as error:
            raise RunError(f"{self.folder / relative}: damaged ({error}); {AGAIN}") from error

    def _read_picture(self, relative: str) -> np.ndarray:
        path = self.folder / relative
        if not OWN_FILES.fullmatch(relative):
            raise RunError(f"{path}: the run names a file that is not its own; make the run again")
        try:
            # Image.open refuses large pictures; an atlas of ours may be one.
            with PngImageFile(path) as picture:
                if picture.width * picture.height > LARGEST_ATLAS:
                    raise ValueError("too large")
                return np.asarray(picture)
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise RunError(f"{path}: missing or damaged picture; {AGAIN}") from error


def _is_outdated(path: Path) -> bool:
    """Whether a task was finished after its run's table of all units was written."""
    written = path.stat().st_mtime_ns
    return any(table.stat().st_mtime_ns > written for table in path.parent.glob("tasks/*/*.parquet"))
