"""The run on disk: what an analysis writes and what everybody reads back.

    run.json                 what was done, on what, with what; status running, complete or partial
    layers.json              every conv layer, analysed or not
    units.parquet            a row a unit and kind, the union of the tasks' tables
    tasks/SLUG/KIND-FIRST-LAST.parquet + .png   one finished task: its rows and an atlas of its pictures
    maps/SLUG.parquet, maps/SLUG-N.png          activation maps: a row a channel and image, an atlas an image
    images/N.json + .png     each input image as the network saw it, and what the network answered
    STUDY/study.json, STUDY/…                   what a study found (analyzer.studies), written before its study.json

Files are written beside their place, flushed, and renamed; a task is finished when its .parquet exists. Knows files
and tables; knows nothing of torch, ONNX or HTML.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL.PngImagePlugin import PngImageFile

from analyzer import atlas, locks
from analyzer.tables import EXAMPLE_SCHEMA, MAP_SCHEMA, TABLES, UNIT_SCHEMA, WEIGHT_SCHEMA
from analyzer.wholeness import is_whole, read_whole_table
from converters.errors import RunError

if TYPE_CHECKING:
    from analyzer.views import LayerView

SCHEMA = 1  # of run.json, layers.json and the tables; readers accept older ones and refuse newer ones by name
LARGEST_ATLAS = 1 << 30  # pixels
LOCKS = (".lock", ".report.lock")  # held by who writes the run, and by who makes its report
PATIENCE = 0.2  # seconds between two looks at a lock

SLUG = r"[A-Za-z0-9-]{1,60}"
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))}  # Windows
TAKEN = DEVICES | {Path(name).stem for name in TABLES if name.startswith("examples/")}  # beside examples/SLUG.parquet
STUDIES = "weights|examples|attribution|classes|inversion|groups|tuning|truth|values"
OWN_FILES = re.compile(  # paths that a run may hold
    rf"(units\.parquet|layers\.json|run\.json|model\.onnx|tasks/{SLUG}/[a-z]+-[a-z]+-\d+-\d+\.(parquet|png)"
    rf"|maps/{SLUG}(-\d+\.png|\.parquet)|images/\d+\.(json|png)"
    rf"|({STUDIES})/(study\.json|[A-Za-z0-9-]{{1,90}}\.(parquet|png|npz))"
    rf"|report\.html|site/(index|method|classes|layer-{SLUG}|image-\d+)\.html|site/(assets|png)/[^/]+|\.site\.(part|old)/.+"
    r"|\.(site|report\.html)\.lock)"
)
OWN_FOLDERS = re.compile(rf"tasks(/{SLUG})?|maps|images|{STUDIES}|site(/(assets|png))?|\.site\.(part|old)(/.+)?")


def slugs(names: Sequence[str]) -> dict[str, str]:
    """A safe file name for each layer name: ASCII letters, digits and dashes, at most 60 characters.

    Names that would collide (also on file systems that ignore case) get a short hash of the real name, and so do names
    without a single safe character, those that stand for devices on Windows and those of the other tables in examples/.
    """
    plain = {name: re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:60].strip("-") for name in names}
    seen = Counter(slug.lower() for slug in plain.values())
    taken = TAKEN | {slug.lower() for slug in plain.values()} | {""}
    found = {}
    for name, slug in plain.items():
        found[name] = slug
        if not slug or slug.lower() in TAKEN or seen[slug.lower()] > 1:
            hashed = (_hashed(slug, name, digits) for digits in range(8, 60))
            found[name] = next(longer for longer in hashed if longer.lower() not in taken)
            taken.add(found[name].lower())
    return found


def _hashed(slug: str, name: str, digits: int) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
    return f"{slug[: 59 - digits]}-{digest}".lstrip("-")


@dataclass(frozen=True, slots=True)
class TaskKey:
    """Which files a task owns."""

    slug: str  # of the layer
    kind: str  # objective-method, such as channel-ascent
    first: int  # lowest channel
    last: int  # highest channel

    @property
    def stem(self) -> str:
        """Path of the task's files inside the run, without suffix."""
        return f"tasks/{self.slug}/{self.kind}-{self.first}-{self.last}"


class RunWriter:
    """The one process that writes a run. Use as a context manager: the lock is held inside it.

    Args:
        folder: made where it is missing; an existing folder must be an unfinished or finished run of the same plan.
        plan: hash of everything that decides the results.
        info: of the run as run.json will say it, to name what differs from a run that is there.

    Raises:
        RunError: the folder cannot be written, is no run, belongs to another plan, or another process writes it.
    """

    def __init__(self, folder: Path, plan: str, info: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        self.plan = plan
        self._info = info or {}
        self._lock: io.TextIOWrapper | None = None

    def __enter__(self) -> RunWriter:
        refuse_foreign(self.folder)
        with _translated_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(self.folder)
        try:
            self._refuse_other_plan()
        except RunError:
            lock.close()
            raise
        self._lock = lock
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()  # the operating system lets the lock go with the file

    def _refuse_other_plan(self) -> None:
        if not _is_run(self.folder):
            return
        before = _read_info(self.folder)
        if before.get("plan") != self.plan:
            difference = _first_difference(before, self._info)
            raise RunError(
                f"{self.folder}: holds a run with other settings or another model{difference}; choose another --out, "
                f"or remove it with `filterscope clean {self.folder}`"
            )

    def done(self, key: TaskKey) -> bool:
        """Whether the task's table is there and whole, with its pictures."""
        return self.has_whole(f"{key.stem}.parquet", UNIT_SCHEMA)

    def has(self, relative: str) -> bool:
        """Whether a file of the run is there."""
        return (self.folder / relative).is_file()

    def has_whole(self, relative: str, schema: pa.Schema | None = None) -> bool:
        """Whether a file of the run is there and can be used, with the pictures that it names."""
        return is_whole(self.folder, relative, schema)

    def holds_bytes(self, relative: str, content: bytes) -> bool:
        """Whether a file of the run holds just this."""
        try:
            return (self.folder / relative).read_bytes() == content
        except OSError:
            return False

    def files_of(self, study: str) -> list[str]:
        """Names of the tables and pictures in a study's folder."""
        names = sorted(path.name for path in (self.folder / study).glob("*"))
        own = (name for name in names if OWN_FILES.fullmatch(f"{study}/{name}"))
        return [name for name in own if name.endswith((".parquet", ".png"))]

    def write_task(self, key: TaskKey, rows: Sequence[dict[str, Any]], tiles: np.ndarray | None) -> None:
        """Save what a task found: pictures first, the table last, so that a table means a finished task.

        Args:
            key: the task.
            rows: one a unit, fields of UNIT_SCHEMA but for atlas and tile, which are filled in here.
            tiles: (len(rows), H, W, C) uint8, or None where the task has no pictures.
        """
        located = [dict(row) for row in rows]
        if tiles is not None:
            self.write_bytes(f"{key.stem}.png", atlas.to_png(atlas.pack(tiles)))
            for index, row in enumerate(located):
                row |= {
                    "atlas": f"{key.stem}.png",
                    "tile": index,
                    "height": tiles.shape[1],
                    "width": tiles.shape[2],
                    "bands": tiles.shape[3],
                }
        self.write_table(f"{key.stem}.parquet", pa.Table.from_pylist(located, UNIT_SCHEMA))

    def write_table(self, relative: str, table: pa.Table) -> None:
        """Write a Parquet table in one step."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        self.write_bytes(relative, buffer.getvalue())

    def write_json(self, relative: str, value: Any) -> None:
        """Write JSON in one step; NaN is refused, since JSON has none."""
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
        self.write_bytes(relative, text.encode("utf-8", "backslashreplace"))

    def write_bytes(self, relative: str, content: bytes) -> None:
        """Write a file beside its place, flush it, rename it: it is whole, or it is not there.

        Raises:
            RunError: the disk is full or the folder cannot be written.
        """
        path = self.folder / relative
        beside = path.with_name(f".{path.name}.part")
        with _translated_errors(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with beside.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(path)
            except BaseException:  # an interrupt too
                beside.unlink(missing_ok=True)
                raise

    def read_json(self, relative: str) -> dict[str, Any]:
        """A JSON file of the run.

        Raises:
            RunError: missing, damaged, or of a newer schema.
        """
        return _read_json(self.folder / relative)

    def read_json_if_whole(self, relative: str) -> dict[str, Any] | None:
        """A JSON file of the run; None where it is missing or damaged.

        Raises:
            RunError: of a newer schema.
        """
        return self.read_json(relative) if self.has_whole(relative) else None

    def remove_file(self, relative: str) -> None:
        """Delete one of the run's files, where it is there."""
        with _translated_errors(self.folder):
            (self.folder / relative).unlink(missing_ok=True)

    def remove_folder(self, name: str) -> None:
        """Delete a study's own files."""
        with _translated_errors(self.folder):
            for path in sorted((self.folder / name).glob("*"), key=lambda path: path.name != "study.json"):
                if OWN_FILES.fullmatch(f"{name}/{path.name}"):
                    path.unlink()

    def write_info(self, info: dict[str, Any]) -> None:
        """Write run.json; `schema` and `plan` are added."""
        self.write_json("run.json", {"schema": SCHEMA, "plan": self.plan} | info)

    def write_units(self) -> pa.Table:
        """Gather the tasks' tables into units.parquet and return it."""
        table = gather_units(self.folder)
        self.write_table("units.parquet", table)
        return table


class Run:
    """A run as it lies on disk, finished or not. Reads lazily; writes nothing.

    Args:
        folder: the run.

    Raises:
        RunError: no run there, a newer schema, or a damaged file (named).
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not _is_run(self.folder):
            raise RunError(f"{self.folder}: is not a run of filterscope (it has no run.json)")
        self.info: dict[str, Any] = _read_info(self.folder)
        self._atlas = lru_cache(maxsize=4)(self._read_picture)

    def __getitem__(self, layer: str) -> LayerView:
        """One layer, which shows itself in a notebook; `run["conv4"][17]` is one of its channels."""
        from analyzer.views import layer_view

        return layer_view(self, layer)

    @cached_property
    def layers(self) -> list[dict[str, Any]]:
        """Every conv layer in network order, as in layers.json (docs/run-format.md)."""
        return _read_layers(self.folder)

    @cached_property
    def units(self) -> pa.Table:
        """UNIT_SCHEMA: a row a unit and kind. Gathered from finished tasks while the run is under way."""
        path = self.folder / "units.parquet"
        return _read_table(path, UNIT_SCHEMA) if path.is_file() else gather_units(self.folder)

    @cached_property
    def images(self) -> list[dict[str, Any]]:
        """What images/N.json say, in order of N."""
        own = [path for path in (self.folder / "images").glob("*.json") if path.stem.isdecimal()]
        return [_read_json(path) for path in sorted(own, key=lambda path: int(path.stem))]

    def image(self, index: int) -> np.ndarray:
        """Input image `index` as the network saw it, (H, W, C) uint8."""
        facts = self.images[index]
        return self._cut(f"images/{index}.png", 0, facts["height"], facts["width"], facts["bands"])

    def maps(self, slug: str) -> pa.Table:
        """MAP_SCHEMA of one layer; empty where no images were given or the layer is not done."""
        return self._table_or_empty(f"maps/{slug}.parquet", MAP_SCHEMA)

    def study(self, name: str) -> dict[str, Any] | None:
        """What a study's study.json says; None where the run has no such study, or not all of it yet."""
        path = self.folder / name / "study.json"
        return _read_json(path) if path.is_file() else None

    def holds(self, name: str) -> bool:
        """Whether anything of a study is there, finished or not."""
        return (self.folder / name).is_dir()

    def table(self, relative: str) -> pa.Table:
        """A table of a study, such as "examples/units.parquet" (analyzer.tables.TABLES); empty where it is missing."""
        return self._table_or_empty(relative, TABLES[relative])

    def examples(self, slug: str) -> pa.Table:
        """EXAMPLE_SCHEMA of one layer; empty where no data set was given or the layer is not done."""
        return self._table_or_empty(f"examples/{slug}.parquet", EXAMPLE_SCHEMA)

    def weights(self, slug: str) -> pa.Table:
        """WEIGHT_SCHEMA of one layer; empty where the study is not done or its kernel is no constant."""
        return self._table_or_empty(f"weights/{slug}.parquet", WEIGHT_SCHEMA)

    def _table_or_empty(self, relative: str, schema: pa.Schema) -> pa.Table:
        path = self.folder / relative
        return _read_table(path, schema) if path.is_file() else schema.empty_table()

    def tile(self, row: dict[str, Any], prefix: str = "") -> np.ndarray | None:
        """The picture of one row of a table, (H, W, C) uint8; None where there is none.

        Args:
            row: with atlas, tile, height, width and perhaps bands.
            prefix: of those names, such as "mask_".
        """
        if row[f"{prefix}atlas"] is None:
            return None
        tile, height, width = (row[f"{prefix}{name}"] for name in ("tile", "height", "width"))
        return self._cut(row[f"{prefix}atlas"], tile, height, width, row.get(f"{prefix}bands") or 1)

    def _cut(self, relative: str, index: int, height: int, width: int, bands: int) -> np.ndarray:
        try:
            return atlas.unpack(self._atlas(relative), index, height, width, bands)
        except IndexError as error:
            raise RunError(f"{self.folder / relative}: damaged ({error}); {_again(relative)}") from error

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
            raise RunError(f"{path}: missing or damaged picture; {_again(relative)}") from error


def gather_units(folder: Path) -> pa.Table:
    """The union of the finished tasks' tables, in network order, then kind, then channel."""
    order = {}
    if (folder / "layers.json").is_file():
        order = {layer["name"]: layer["index"] for layer in _read_layers(folder)}
    tables = [_read_table(path, UNIT_SCHEMA) for path in sorted((folder / "tasks").glob("*/*.parquet"))]
    if not tables:
        return UNIT_SCHEMA.empty_table()
    table = pa.concat_tables(tables)
    position = pa.array([order.get(name, len(order)) for name in table["layer"].to_pylist()], pa.int32())
    keyed = table.append_column("_position", position)
    by = [(key, "ascending") for key in ("_position", "objective", "method", "channel")]
    return keyed.sort_by(by).drop_columns("_position")


def remove(folder: Path) -> None:
    """Delete a run's own files, and the folder when nothing else is in it.

    Raises:
        RunError: the folder is no run, another process is writing it, or a file cannot be deleted.
    """
    if not _is_run(folder):
        raise RunError(f"{folder}: is not a run of filterscope (it has no run.json); nothing was removed")
    with _locked(folder), _locked(folder, ".report.lock", REPORTING), _translated_errors(folder):
        for root, _, names in os.walk(folder, topdown=False):  # run.json is in the last of them; links are not followed
            inner = Path(root).relative_to(folder)
            for name in sorted(names, key="run.json".__eq__):
                plain = name[1:-5] if name.startswith(".") and name.endswith(".part") else name
                if OWN_FILES.fullmatch((inner / plain).as_posix()):
                    Path(root, name).unlink()
            if OWN_FOLDERS.fullmatch(inner.as_posix()):
                with contextlib.suppress(OSError):  # somebody else's files are in it: they stay
                    Path(root).rmdir()
        for name in reversed(LOCKS):  # while they are held: who waits for one sees that it is gone
            with contextlib.suppress(OSError):
                (folder / name).unlink()
    with contextlib.suppress(OSError):
        for name in LOCKS:  # where an open file cannot be removed
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


@contextlib.contextmanager
def reporting(folder: Path) -> Iterator[None]:
    """The one process that makes a run's report; others wait for it. A folder that takes no lock is not guarded.

    Raises:
        RunError: a file of the run is missing while another process writes the run.
    """
    lock = _waited_for(folder, ".report.lock")
    try:
        yield
    except RunError as error:
        if is_being_written(folder):
            raise RunError(f"{folder}: another process is writing this run; wait for it") from error
        raise
    finally:
        if lock is not None:
            lock.close()


def is_being_written(folder: Path) -> bool:
    """Whether a living process writes the run."""
    try:
        with (folder / ".lock").open("r+") as file:
            return not locks.lock(file)
    except OSError:
        return False


def _waited_for(folder: Path, name: str) -> io.TextIOWrapper | None:
    is_told = False
    while True:
        try:
            file = locks.try_lock(folder / name)
        except OSError:  # read only
            return None
        if file is not None:
            return file
        if not is_told:
            logging.getLogger("filterscope").warning("another process is making this run's report; waiting for it")
            is_told = True
        time.sleep(PATIENCE)
        if not folder.is_dir():
            return None


def refuse_foreign(folder: Path) -> None:
    """See that a run may be written into a folder, as far as can be told without writing.

    Raises:
        RunError: it is a file, cannot be looked at, or holds something else.
    """
    with _translated_errors(folder):
        if folder.is_file():
            raise RunError(f"{folder}: is a file; --out names a folder")
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise RunError(f"{folder}: cannot be written below {nearest}; choose another --out")
        own = (*LOCKS, ".run.json.part")  # of a run that died at once
        if nearest == folder and not _is_run(folder) and any(path.name not in own for path in folder.iterdir()):
            raise RunError(f"{folder}: is not empty and not a run; choose another --out")


def _is_run(folder: Path) -> bool:
    try:
        return (folder / "run.json").is_file()
    except OSError:  # a name that no file can have
        return False


def _first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first setting in which two runs differ, as far as both say it, in brackets; empty where none is known."""
    models, inputs, settings = (
        [one.get(part) or {} for one in (before, now)] for part in ("model", "input", "settings")
    )
    if all("sha256" in model for model in models) and models[0]["sha256"] != models[1]["sha256"]:
        return f" (its model is {_named(models[0].get('name'))}, now {_named(models[1].get('name'))}, another file)"
    ways = [one.get("preprocessing") or {} for one in inputs]
    pairs = [("preprocessing", ways[0].get("name"), ways[1].get("name"))]
    pairs += [(name, ways[0].get(name), ways[1].get(name)) for name in ("high", "mean", "std", "order")]
    pairs += [(name, inputs[0].get(name), inputs[1].get(name)) for name in ("height", "width")]
    last = ("channels", "layers")  # whose words may differ where the channels are the same
    names = sorted((name for name in settings[1] if name in settings[0]), key=lambda name: name in last)
    pairs += [(name, settings[0][name], settings[1][name]) for name in names]
    for name, one, other in pairs:
        if one != other and (name in names or None not in (one, other)):
            verb = "are" if name in ("objectives", "channels", "layers", "map_pictures") else "is"
            return f" (its {name.replace('_', ' ')} {verb} {_named(one)}, now {_named(other)})"
    return ""


def _named(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _read_info(folder: Path) -> dict[str, Any]:
    return _read_json(folder / "run.json", f"remove the run with `filterscope clean {folder}`")


def _read_layers(folder: Path) -> list[dict[str, Any]]:
    path = folder / "layers.json"
    layers = _read_json(path).get("layers")
    try:
        if all(re.fullmatch(SLUG, layer["slug"]) for layer in layers or ()):  # slugs become paths
            return list(layers or ())
    except (TypeError, KeyError):
        pass
    raise RunError(f"{path}: damaged; delete it and run the same command again")


def _read_json(path: Path, remedy: str = "delete it and run the same command again") -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = content.get("schema", SCHEMA)
        newer = schema > SCHEMA
    except (OSError, ValueError, RecursionError, AttributeError, TypeError) as error:
        raise RunError(f"{path}: missing or damaged; {remedy}") from error
    if newer:
        raise RunError(
            f"{path}: written by a newer filterscope (format {schema}, this one reads up to {SCHEMA}); "
            "update filterscope"
        )
    return dict(content)


def _read_table(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        return read_whole_table(path).select(schema.names).cast(schema)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise RunError(f"{path}: damaged; delete it and run the same command again") from error


def _again(relative: str) -> str:
    """What makes a picture of the run again: it belongs to a table or to facts, without which it counts as missing."""
    if relative.startswith("images/"):
        return "delete it and its .json and run the same command again"
    return "delete it and its .parquet and run the same command again"


@contextlib.contextmanager
def _translated_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"{folder}: the disk is full; free some space and run the same command again, finished tasks are kept"
            ) from error
        raise RunError(f"{folder}: cannot be written ({error.strerror}); choose another --out") from error


WRITING = "another process is writing this run; wait for it, or choose another --out"
REPORTING = "another process is making this run's report; wait for it"


def _locked(folder: Path, name: str = ".lock", refusal: str = WRITING) -> io.TextIOWrapper:
    """A lock of the run, held as long as the file is open; the operating system lets it go with the process."""
    while True:
        with _translated_errors(folder):
            file = (folder / name).open("a")
        if not locks.lock(file):
            file.close()
            raise RunError(f"{folder}: {refusal}")
        if locks.is_still(file, folder / name):
            return file
        file.close()
