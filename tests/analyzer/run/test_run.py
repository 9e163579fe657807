"""The run on disk: safe names, files that are whole or absent, one writer, and a reader that names what is wrong."""

import contextlib
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from filterscope.analyzer.run import atlas
from filterscope.analyzer.run import reader as run
from filterscope.analyzer.run.files import gather_units
from filterscope.analyzer.run.layout import SCHEMA, TaskKey, slugs
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.tables import MAP_SCHEMA, UNIT_SCHEMA
from filterscope.analyzer.run.wholeness import is_whole
from filterscope.analyzer.run.writer import RunWriter, remove
from filterscope.converters.errors import RunError

HOSTILE = "../../x<script>alert(1)</script>"
SLUGS = [  # names, their slugs; {8} stands for eight hexadecimal digits
    ([HOSTILE], ["x-script-alert-1-script"]),
    (["features.0", "layer1.0.conv1", "/a/Conv"], ["features-0", "layer1-0-conv1", "a-Conv"]),
    (["a.b", "a/b"], ["a-b-{8}", "a-b-{8}"]),
    (["conv", "Conv", "pool"], ["conv-{8}", "Conv-{8}", "pool"]),
    (["n" * 300], ["n" * 60]),
    (["n" * 300, "n" * 299 + "m"], ["n" * 51 + "-{8}"] * 2),
    (["", "...", "été 🦊", "شبكة"], ["{8}", "{8}", "t", "{8}"]),
    (["aux", "NUL", "com1", "console"], ["aux-{8}", "NUL-{8}", "com1-{8}", "console"]),
    (["C:\\con\x00\x1b[31m", "-rf", "~", "."], ["C-con-31m", "rf", "{8}", "{8}"]),
    (["lone \udcff surrogate", "\udcff"], ["lone-surrogate", "{8}"]),
]


@pytest.mark.parametrize(("names", "expected"), SLUGS)
def test_slugs_are_safe_and_tell_names_apart(names, expected):
    found = slugs(names)
    assert list(found) == names
    for name, pattern in zip(names, expected, strict=True):
        assert re.fullmatch(pattern.replace("{8}", "[0-9a-f]{8}"), found[name])


def test_no_slug_is_the_name_of_another_table_of_the_examples():
    assert all(slug not in ("units", "layers", "pictures", "firing") for slug in slugs(["units", "Layers"]).values())
    assert slugs(["units"])["units"] == slugs(["units", "other"])["units"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("aA-./é\x00", max_size=70), unique=True, max_size=12))
def test_slugs_differ_on_file_systems_that_ignore_case(names):
    found = slugs(names)
    assert len({slug.lower() for slug in found.values()}) == len(names)
    assert all(re.fullmatch("[A-Za-z0-9-]{1,60}", slug) for slug in found.values())
    assert slugs(names) == found


def test_a_name_made_like_a_hashed_slug_gets_a_file_of_its_own():
    taken = slugs(["a.b", "a/b"])["a.b"]
    assert len(set(slugs(["a.b", "a/b", taken]).values())) == 3
    assert len(set(slugs([taken, "a/b", "a.b"]).values())) == 3


# A run to read: two layers whose order in the network is not that of the alphabet.

KEYS = [  # layer, kind, channels of a task; in an order that is not the one they are read in
    ("first", "neuron-ascent", (0, 1)),
    ("first", "channel-ascent", (2, 10)),
    ("first", "channel-ascent", (0, 1)),
    ("before", "channel-ascent", (0,)),
    ("first", "neuron-analytic", (0, 1, 2)),
]

OUTLINE = [
    {"kind": "input", "name": "x", "steps": [], "layer": None, "shape": [3, 4, 6], "sources": [], "nodes": 0},
    {"kind": "layer", "name": "/first", "steps": ["Conv"], "layer": 0, "shape": [2, 4, 6], "sources": [0], "nodes": 2},
]


def row(layer, kind, channel):
    objective, method = kind.split("-")
    numbers = dict.fromkeys(("activation", "robust", "random", "bound", "gap", "seconds"), 1.5)
    words = {"bound_kind": "interval", "status": "ok", "space": "image"}
    known = {"layer": layer, "channel": channel, "objective": objective, "method": method, "steps": 3}
    return numbers | words | known


def pictures(count, height=4, width=6, bands=3):
    return np.random.default_rng(count).integers(0, 256, (count, height, width, bands), dtype=np.uint8)


def write(folder, plan="p"):
    with RunWriter(folder, plan) as writer:
        writer.write_info({"status": "complete"})
        listed = [{"index": 0, "name": "first", "slug": "first"}, {"index": 1, "name": "before", "slug": "before"}]
        writer.write_json("layers.json", {"schema": SCHEMA, "layers": listed})
        writer.write_json("graph.json", {"schema": SCHEMA, "nodes": 2, "left_out": "", "entries": OUTLINE})
        for layer, kind, channels in KEYS:
            rows = [row(layer, kind, channel) for channel in channels]
            writer.write_task(TaskKey(layer, kind, channels[0], channels[-1]), rows, pictures(len(rows)))
        for index in (0, 1):
            writer.write_bytes(f"images/{index}.png", atlas.to_png(atlas.pack(pictures(1, bands=5))))
            facts = {"schema": SCHEMA, "name": f"{index}", "height": 4, "width": 6, "bands": 5}
            writer.write_json(f"images/{index}.json", facts)
        writer.write_bytes("maps/first-0.png", atlas.to_png(atlas.pack(pictures(2, bands=1))))
        numbers = dict.fromkeys(("image", "channel", "minimum", "mean", "maximum", "row", "column"), 1)
        rows = [numbers | {"atlas": "maps/first-0.png", "tile": tile, "height": 4, "width": 6} for tile in (0, 1)]
        writer.write_table("maps/first.parquet", pa.Table.from_pylist(rows, MAP_SCHEMA))
        writer.write_units()
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write(tmp_path_factory.mktemp("written") / "run")


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "run")


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_read_as_it_was_written(folder):
    found = Run(folder)
    assert found.info == {"schema": SCHEMA, "plan": "p", "status": "complete"}
    assert found.units.schema == UNIT_SCHEMA
    for unit in found.units.to_pylist():
        channels = next(
            c for layer, kind, c in KEYS if unit["atlas"] == TaskKey(layer, kind, c[0], c[-1]).stem + ".png"
        )
        np.testing.assert_array_equal(found.tile(unit), pictures(len(channels))[channels.index(unit["channel"])])
    for index, facts in enumerate(found.images):
        assert facts["name"] == str(index)
        np.testing.assert_array_equal(found.image(index), pictures(1, bands=5)[0])
    maps = found.maps("first").to_pylist()
    np.testing.assert_array_equal(np.stack([found.tile(one) for one in maps]), pictures(2, bands=1))
    assert found.maps("before").num_rows == 0


def test_units_come_in_network_order_then_kind_then_channel(folder):
    order = [("first", "channel", "ascent", c) for c in (0, 1, 2, 10)]
    order += [("first", "neuron", "analytic", c) for c in (0, 1, 2)] + [
        ("first", "neuron", "ascent", c) for c in (0, 1)
    ]
    order += [("before", "channel", "ascent", 0)]
    found = [(r["layer"], r["objective"], r["method"], r["channel"]) for r in gather_units(folder).to_pylist()]
    assert found == order
    (folder / "units.parquet").unlink()
    (folder / "run.json").write_text('{"schema": 1, "status": "running"}')
    assert Run(folder).units.equals(gather_units(folder)), "a run under way is read from its finished tasks"


def test_tasks_that_are_newer_than_the_table_of_all_are_read_while_a_run_is_under_way(folder):
    (table,) = folder.glob("tasks/before/*.parquet")
    content = table.read_bytes()
    table.unlink()
    pq.write_table(gather_units(folder), folder / "units.parquet")
    written = (folder / "units.parquet").stat().st_mtime_ns
    (folder / "run.json").write_text('{"schema": 1, "status": "partial"}')
    before = len(Run(folder).units)
    table.write_bytes(content)
    os.utime(table, ns=(written + 1, written + 1))
    assert len(Run(folder).units) == before + 1
    os.utime(table, ns=(written, written))
    assert len(Run(folder).units) == before


def test_which_pictures_are_first_ones_is_known_by_their_folder(folder):
    (folder / "first").mkdir()
    (folder / "tasks" / "before").rename(folder / "first" / "before")
    marks = {row["layer"]: row["is_first"] for row in gather_units(folder).to_pylist()}
    assert marks == {"first": False, "before": True}


def test_tables_of_a_version_without_first_pictures_are_read(folder):
    for path in (folder / "units.parquet", *folder.glob("tasks/*/*.parquet")):
        pq.write_table(pq.read_table(path).drop_columns("is_first"), path)
    assert not any(row["is_first"] for row in gather_units(folder).to_pylist())
    assert {row["is_first"] for row in Run(folder).units.to_pylist()} == {None}
    task = "tasks/before/channel-ascent-0-0.parquet"
    assert is_whole(folder, task, UNIT_SCHEMA)
    pq.write_table(pq.read_table(folder / task).drop_columns("steps"), folder / task)
    assert not is_whole(folder, task, UNIT_SCHEMA)


def test_a_run_without_tasks_or_layers_has_no_units(tmp_path):
    with RunWriter(tmp_path / "run", "p") as writer:
        writer.write_info({"status": "running"})
    assert Run(tmp_path / "run").units.equals(UNIT_SCHEMA.empty_table())
    assert Run(tmp_path / "run").images == []


def test_a_task_without_pictures_has_a_table_only(tmp_path):
    key = TaskKey("first", "neuron-analytic", 0, 0)
    with RunWriter(tmp_path / "run", "p") as writer:
        writer.write_info({})
        assert not writer.done(key)
        writer.write_task(key, [row("first", "neuron-analytic", 0)], None)
        assert writer.done(key)
        assert writer.has(f"{key.stem}.parquet")
        assert not writer.has(f"{key.stem}.png")
    (unit,) = Run(tmp_path / "run").units.to_pylist()
    assert unit["atlas"] is None
    assert Run(tmp_path / "run").tile(unit) is None


def test_a_picture_above_pillows_limit_is_read(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert Run(folder).image(0).shape == (4, 6, 5)
    monkeypatch.setattr(run, "LARGEST_ATLAS", 10)
    with pytest.raises(RunError, match=re.escape("images/0.png: missing or damaged picture")):
        Run(folder).image(0)


# Writing


def failing(number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


FAILURES = [  # what fails, as what, and how it is told
    ("os.fsync", errno.ENOSPC, "disk is full"),
    ("os.fsync", errno.EDQUOT, "disk is full"),
    ("pathlib.Path.open", errno.ENOSPC, "disk is full"),
    ("os.fsync", errno.EIO, "cannot be written"),
    ("pathlib.Path.open", errno.EROFS, "cannot be written"),
    ("pathlib.Path.replace", errno.EACCES, "cannot be written"),
]


@pytest.mark.parametrize(("function", "number", "words"), FAILURES)
def test_a_failing_write_leaves_the_old_file_and_no_remains(folder, monkeypatch, function, number, words):
    before = files(folder)
    with RunWriter(folder, "p") as writer:
        monkeypatch.setattr(function, failing(number))
        with pytest.raises(RunError, match=f"run: .*{words}"):
            writer.write_info({"status": "running"})
        with pytest.raises(RunError, match=words):
            writer.write_bytes("maps/new.png", b"x")
        monkeypatch.undo()
    assert files(folder) == before


def test_an_interrupted_write_leaves_no_remains(folder, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    before = files(folder)
    with RunWriter(folder, "p") as writer:
        monkeypatch.setattr("os.fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            writer.write_info({"status": "running"})
    assert files(folder) == before


def test_a_full_disk_in_the_middle_of_a_task_leaves_it_undone(folder, monkeypatch):
    """The table says that a task is finished: it comes after the pictures."""
    key = TaskKey("first", "channel-ascent", 20, 20)
    monkeypatch.setattr("filterscope.analyzer.run.writer.RunWriter.write_table", failing(errno.ENOSPC))
    with RunWriter(folder, "p") as writer, pytest.raises(OSError, match="space"):
        writer.write_task(key, [row("first", "channel-ascent", 20)], pictures(1))
    monkeypatch.undo()
    with RunWriter(folder, "p") as writer:
        assert writer.has(f"{key.stem}.png")
        assert not writer.done(key)


def test_json_of_a_run_has_no_nan_and_any_text(folder):
    with RunWriter(folder, "p") as writer:
        with pytest.raises(ValueError, match="JSON"):
            writer.write_json("layers.json", {"number": float("nan")})
        writer.write_json("images/2.json", {"name": "été \udcff\u2028", "schema": 1})
    assert Run(folder).images[2]["name"] == "été \udcff\u2028"


# One writer, one plan


HOLD = """
import sys, time
from pathlib import Path
from filterscope.analyzer.run.writer import RunWriter
with RunWriter(Path(sys.argv[1]), "p") as writer:
    writer.write_info({"status": "running"})
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_that_another_process_writes_is_refused_until_that_dies(tmp_path):
    place = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, place], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another process is writing this run; wait for it, or choose another `out`"):
            RunWriter(place, "p").__enter__()
        with pytest.raises(RunError, match="another process is writing this run"):
            remove(place)
        assert Run(place).info["status"] == "running", "reading needs no lock"
    finally:
        holder.kill()
        holder.communicate()
    with RunWriter(place, "p"):
        pass


def test_another_plan_is_refused_and_changes_nothing(folder):
    before = files(folder)
    with pytest.raises(
        RunError, match="holds a run with other settings, other images or another model; choose another `out`"
    ):
        RunWriter(folder, "q").__enter__()
    assert files(folder) == before
    with RunWriter(folder, "p"):  # the refusal let the lock go
        pass


NOW = {  # what run.json would say → what is said to differ
    "model": ({"model": {"name": "b.onnx", "sha256": "1"}}, r"its model is a.onnx, now b.onnx, another file"),
    "preprocessing": ({"input": {"preprocessing": {"name": "custom"}}}, "its preprocessing is unit, now custom"),
    "objectives": ({"settings": {"objectives": ["neuron"], "seed": 0}}, "its objectives are channel, now neuron"),
    "seed": ({"settings": {"objectives": ["channel"], "seed": 2}}, "its seed is 0, now 2"),
}


@pytest.mark.parametrize("case", NOW)
def test_another_plan_names_the_first_setting_that_differs(case, tmp_path):
    before = {
        "model": {"name": "a.onnx", "sha256": "0"},
        "input": {"preprocessing": {"name": "unit"}, "height": 8},
        "settings": {"objectives": ["channel"], "seed": 0, "time_budget": None},
    }
    with RunWriter(tmp_path / "run", "p") as writer:
        writer.write_info(before)
    change, words = NOW[case]
    with pytest.raises(RunError, match=rf"another model \({words}\); choose another `out`"):
        RunWriter(tmp_path / "run", "q", before | change).__enter__()


def test_a_time_budget_is_no_difference(tmp_path):
    with RunWriter(tmp_path / "run", "p") as writer:
        writer.write_info({"settings": {"seed": 0, "time_budget": None}})
    with pytest.raises(RunError, match=r"another model; choose another `out`"):
        RunWriter(tmp_path / "run", "q", {"settings": {"seed": 0, "time_budget": 60.0}}).__enter__()


def a_file(place):
    place.write_text("mine")


def a_folder(place):
    place.mkdir()
    (place / "mine.txt").write_text("mine")


def below_a_file(place):
    place.parent.write_text("mine")


REFUSED = [
    ("run", a_file, "is a file; `out` names a folder"),
    ("run", a_folder, "is not empty and not a run; choose another `out`"),
    ("file/run", below_a_file, "cannot be written"),
    ("n" * 300, lambda place: None, "cannot be written .*File name too long"),
]


@pytest.mark.parametrize(("name", "make", "words"), REFUSED)
def test_a_place_that_cannot_be_a_run_is_refused_untouched(tmp_path, name, make, words):
    place = tmp_path / name
    make(place)
    before = files(tmp_path)
    with pytest.raises(RunError, match=words):
        RunWriter(place, "p").__enter__()
    with pytest.raises(RunError, match="is not a run of filterscope"):
        Run(place)
    with pytest.raises(RunError, match=r"is not a run of filterscope .* nothing was removed"):
        remove(place)
    assert files(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(RunError, match=r"cannot be written .*choose another `out`"):
        RunWriter(tmp_path / "closed" / "run", "p").__enter__()


def test_a_folder_in_which_a_run_died_at_once_is_used_again(tmp_path):
    for name in (".lock", ".run.json.part"):
        (tmp_path / name).write_bytes(b"")
    with RunWriter(tmp_path, "p") as writer:
        writer.write_info({})
    assert Run(tmp_path).info["plan"] == "p"


# Reading


NEWER = ["run.json", "layers.json", "graph.json", "images/1.json"]


@pytest.mark.parametrize("name", NEWER)
def test_a_newer_format_is_refused_by_name(folder, name):
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(content | {"schema": SCHEMA + 1}))
    with pytest.raises(RunError, match=rf"{name}: written by a newer filterscope \(format {SCHEMA + 1}, .*update"):
        read_all(folder)


def test_the_outline_of_the_network_is_read_and_its_absence_is_none(folder):
    graph = Run(folder).graph
    assert (graph.nodes, graph.left_out) == (2, "")
    assert [(one.kind, one.steps, one.layer, one.shape, one.sources) for one in graph.entries] == [
        ("input", (), None, (3, 4, 6), ()),
        ("layer", ("Conv",), 0, (2, 4, 6), (0,)),
    ]
    (folder / "graph.json").unlink()
    assert Run(folder).graph is None


def test_a_newer_run_is_not_written_into(folder):
    (folder / "run.json").write_text(json.dumps({"schema": SCHEMA + 1, "plan": "p"}))
    with pytest.raises(RunError, match="newer filterscope"):
        RunWriter(folder, "p").__enter__()


def read_all(folder):
    """Everything that somebody may ask of a run."""
    found = Run(folder)
    assert found.graph is not None
    for unit in found.units.to_pylist():
        found.tile(unit)
    for layer in found.layers:
        for one in found.maps(layer["slug"]).to_pylist():
            found.tile(one)
    for index in range(len(found.images)):
        found.image(index)


TABLES = ("units.parquet", "maps/first.parquet")
DAMAGED = [  # file, what it holds instead
    *((name, content) for name in NEWER for content in (b"", b"{", b"[1]", b"\xff", b'{"schema": "x"}', b"[" * 99999)),
    *(("layers.json", b'{"layers": [{"slug": "%s"}]}' % slug) for slug in (b"../x", b"", b"a/b", b"x" * 61)),
    *(("layers.json", content) for content in (b'{"layers": 3}', b'{"layers": [3]}', b'{"layers": [{}]}')),
    *(("graph.json", content) for content in (b'{"entries": 3}', b'{"entries": [3]}')),
    *(("graph.json", b'{"entries": [{"sources": [%s]}]}' % source) for source in (b"0", b"-1", b'"x"', b"0.5")),
    *((name, content) for name in TABLES for content in (b"", b"PAR1", b"no table")),
    *((name, None) for name in TABLES),  # of other columns
    *((name, b"no picture") for name in ("images/1.png", "maps/first-0.png", "tasks/first/channel-ascent-0-1.png")),
    ("images/1.png", b""),
]


@pytest.mark.parametrize(("name", "content"), DAMAGED)
def test_a_damaged_file_is_named_and_what_to_do(folder, name, content):
    read_all(folder)
    if content is None:
        pq.write_table(pa.table({"layer": ["first"]}), folder / name)
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(RunError, match=f"{name}: .*damaged.*(analyse again into the same folder|filterscope clean)"):
        read_all(folder)


TRUNCATED = ["images/1.png", "maps/first-0.png", "tasks/first/channel-ascent-0-1.png", *TABLES]


@pytest.mark.parametrize("name", TRUNCATED)
def test_half_a_file_is_named(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(RunError, match=f"{name}: .*damaged"):
        read_all(folder)


def test_a_picture_of_another_size_is_named(folder):
    (folder / "maps/first-0.png").write_bytes(atlas.to_png(atlas.pack(pictures(1, 3, 3, 1))))
    with pytest.raises(RunError, match=r"maps/first-0.png: damaged \(tile 0 .*outside"):
        read_all(folder)


def test_a_damaged_table_of_a_task_is_named_while_units_are_gathered(folder):
    (folder / "tasks/first/channel-ascent-0-1.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"channel-ascent-0-1.parquet: damaged; analyse again"):
        gather_units(folder)


@pytest.mark.parametrize("atlas_name", ["../secret.png", "/etc/secret.png", "maps/../../secret.png"])
def test_a_run_shows_no_file_outside_it(folder, atlas_name):
    Image.new("L", (6, 4)).save(folder.parent / "secret.png")
    facts = {"atlas": atlas_name, "tile": 0, "height": 4, "width": 6, "bands": 1}
    with pytest.raises(RunError, match="a file that is not its own"):
        Run(folder).tile(facts)


def test_other_files_among_the_images_are_passed_over(folder):
    (folder / "images" / "notes.json").write_text("{")
    assert len(Run(folder).images) == 2


# Removing


def test_clean_takes_all_of_a_run_and_its_folder(folder):
    for name in (".units.parquet.part", "tasks/first/.channel-ascent-0-1.png.part", ".site.part/assets/x.webp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    for name in ("site/index.html", "site/layer-first.html", "site/image-0.html", "site/assets/site.css"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    remove(folder)
    assert not folder.exists()


def test_clean_leaves_what_is_not_the_runs(folder, tmp_path):
    outside = tmp_path / "photos"
    outside.mkdir()
    (outside / "0.png").write_text("mine")
    foreign = ["notes.txt", "maps/mine.txt", "tasks/first/mine.png", "tasks/mine.parquet", "images/cat.png", "a/b.txt"]
    for name in foreign:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    (folder / "empty").mkdir()
    with contextlib.suppress(OSError, NotImplementedError):  # links are not to be had everywhere
        (folder / "tasks" / "linked").symlink_to(outside, target_is_directory=True)
    remove(folder)
    left = {name for name in files(folder) if not name.startswith("tasks/linked/")}
    assert left == set(foreign)
    assert (folder / "empty").is_dir()
    assert (outside / "0.png").read_text() == "mine"


def test_a_file_that_cannot_be_removed_is_told(folder, monkeypatch):
    monkeypatch.setattr(Path, "unlink", failing(errno.EACCES))
    with pytest.raises(RunError, match="cannot be written"):
        remove(folder)


def test_readers_see_whole_files_while_a_writer_replaces_them(folder):
    """What atomic means: a reader in another thread never meets half a file."""
    stop = threading.Event()
    broken = []

    def read():
        while not stop.is_set():
            try:
                assert len(Run(folder).layers) in (2, 2000)
            except (RunError, AssertionError) as error:  # pragma: no cover
                broken.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with RunWriter(folder, "p") as writer:
            for count in (2000, 2) * 10:
                listed = [{"index": i, "name": str(i), "slug": str(i)} for i in range(count)]
                writer.write_json("layers.json", {"schema": SCHEMA, "layers": listed})
    finally:
        stop.set()
        reader.join()
    assert not broken
