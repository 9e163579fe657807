"""A run whose files were damaged or deleted is whole again when the same analysis is asked for."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from PIL import Image

from filterscope.analyzer.analysis import Analysis
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.data.images import find
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.run.files import gather_units
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.wholeness import is_whole
from filterscope.analyzer.run.writer import RunWriter
from filterscope.analyzer.studies.values import ValueStudy
from filterscope.converters.errors import FilterscopeError
from support.networks import build, normal


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A finished run of a small network on two photos, and how to ask for it again."""
    folder = tmp_path_factory.mktemp("wholeness")
    nodes = [("Conv", "x w1", "a", {"name": "conv1"}), ("Relu", "a", "b"), ("Conv", "b w2", "y", {"name": "conv2"})]
    onnx.save(
        build(nodes, {"w1": normal(4, 3, 3, 3), "w2": normal(2, 4, 3, 3)}, shape=(1, 3, 12, 12)), folder / "m.onnx"
    )
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for index in range(2):
        Image.fromarray(rng.integers(0, 255, (12, 12, 3), np.uint8)).save(folder / "photos" / f"{index}.png")
    network = open_network(folder / "m.onnx")

    def analyse(out):
        studies = [ValueStudy(("all",))]
        return Analysis(network, Settings(), find([folder / "photos"]), out, studies=studies).run()

    analyse(folder / "run")
    return folder, analyse


def contents(folder):
    """Bytes of a run's files, but for when and how long."""
    own = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in own.items() if name not in ("run.json", ".lock")}


def emptied(path):
    path.write_bytes(b"")


def truncated(path):
    path.write_bytes(path.read_bytes()[:-5])


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten(path):
    path.write_bytes(b"nothing of the kind" * 20)


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def shrunk(path):
    """A whole picture, and too small."""
    if path.suffix == ".png":
        Image.new("L", (2, 2)).save(path)
    else:
        path.unlink()


DAMAGES = [Path.unlink, emptied, truncated, halved, overwritten, shrunk]
FILES = [  # one of each kind
    "tasks/conv1/channel-ascent-0-3.parquet",
    "tasks/conv1/channel-ascent-0-3.png",
    "maps/conv2.parquet",
    "maps/conv2-1.png",
    "images/1.json",
    "images/0.png",
    "weights/conv1.parquet",
    "weights/study.json",
    "values/values.parquet",
    "units.parquet",
    "layers.json",
    "graph.json",
]


def untimed(folder):
    """Tables and facts without seconds, pictures as they are."""
    found = {}
    for name, content in contents(folder).items():
        if name.endswith(".parquet"):
            table = pq.read_table(folder / name)
            found[name] = table.drop_columns([c for c in table.schema.names if c == "seconds"]).to_pylist()
        elif name.endswith("study.json"):
            found[name] = {key: value for key, value in json.loads(content).items() if key != "seconds"}
        else:
            found[name] = content
    return found


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_found_and_made_again(place, tmp_path, damage):
    """Each file by itself, then all that were damaged at once."""
    folder, analyse = place
    whole = untimed(folder / "run")
    assert set(FILES) <= set(whole)
    for name in FILES:
        out = shutil.copytree(folder / "run", tmp_path / name.replace("/", "-"))
        damage(out / name)
        assert damage is shrunk or not is_whole(out, name)
        run = analyse(out)
        assert run.info["status"] == "complete"
        assert untimed(out) == whole, name
    out = shutil.copytree(folder / "run", tmp_path / "all")
    for name in FILES:
        damage(out / name)
    analyse(out)
    assert untimed(out) == whole


def test_a_changed_byte_of_a_picture_is_found(place, tmp_path):
    folder, analyse = place
    out = shutil.copytree(folder / "run", tmp_path / "run")
    for name in ("tasks/conv1/channel-ascent-0-3.png", "maps/conv1-0.png", "images/0.png"):
        flipped(out / name)
    analyse(out)
    assert untimed(out) == untimed(folder / "run")


def test_what_is_whole_is_not_made_again(place, tmp_path):
    folder, analyse = place
    out = shutil.copytree(folder / "run", tmp_path / "run")
    names = [name for name in contents(out) if name.startswith(("tasks/", "maps/", "images/", "weights/", "values/"))]
    before = {name: (out / name).stat().st_mtime_ns for name in names}
    analyse(out)
    assert {name: (out / name).stat().st_mtime_ns for name in names} == before


ADVISED = ["tasks/conv1/channel-ascent-0-3.parquet", "maps/conv2.parquet", "weights/conv1.parquet", "layers.json"]


@pytest.mark.parametrize("name", ADVISED)
def test_what_the_message_advises_works(place, tmp_path, name):
    folder, analyse = place
    out = shutil.copytree(folder / "run", tmp_path / "run")
    overwritten(out / name)

    def read_all():
        run = Run(out)
        return run.layers, gather_units(out), run.maps("conv2"), run.weights("conv1")

    with pytest.raises(FilterscopeError, match=r"damaged; analyse again into the same folder, which mends it"):
        read_all()
    analyse(out)
    read_all()
    assert untimed(out) == untimed(folder / "run")


def test_a_study_of_an_older_run_that_does_not_list_its_files_is_looked_at_too(place, tmp_path):
    folder, analyse = place
    out = shutil.copytree(folder / "run", tmp_path / "run")
    path = out / "weights" / "study.json"
    known = json.loads(path.read_text())
    assert known.pop("files") == ["conv1.parquet", "conv1.png", "conv2.parquet", "conv2.png"]
    path.write_text(json.dumps(known))
    overwritten(out / "weights" / "conv2.parquet")
    analyse(out)
    assert untimed(out) == untimed(folder / "run")


def test_a_newer_study_is_not_taken_for_a_damaged_one(place, tmp_path):
    folder, analyse = place
    out = shutil.copytree(folder / "run", tmp_path / "run")
    (out / "weights" / "study.json").write_text('{"schema": 99}')
    with pytest.raises(FilterscopeError, match="newer filterscope"):
        analyse(out)


def test_a_converted_model_is_written_again_where_it_is_not_the_same(place, tmp_path):
    with RunWriter(tmp_path / "run", "plan") as writer:
        assert not writer.holds_bytes("model.onnx", b"model")
        writer.write_bytes("model.onnx", b"mod")
        assert not writer.holds_bytes("model.onnx", b"model")
        writer.write_bytes("model.onnx", b"model")
        assert writer.holds_bytes("model.onnx", b"model")


@pytest.mark.parametrize("cut", [1, 5, 12, 13])
def test_a_png_that_ends_before_its_end_is_said_is_not_whole(tmp_path, cut):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    assert is_whole(tmp_path, "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:-cut])
    assert not is_whole(tmp_path, "a.png")


LOST = [  # files of a finished run, how they are read
    ("images/0.json", lambda run: run.images),
    ("images/1.json", lambda run: run.image(0)),
    ("units.parquet", lambda run: run.units),
    ("maps/conv1.parquet", lambda run: run.maps("conv1")),
    ("weights/conv2.parquet", lambda run: run.weights("conv2")),
]


@pytest.mark.parametrize(("name", "read"), LOST, ids=[name for name, _ in LOST])
def test_what_a_finished_run_has_lost_is_named_and_made_again(place, tmp_path, name, read):
    folder, analyse = place
    out = shutil.copytree(folder / "run", tmp_path / "run")
    read(Run(out))
    (out / name).unlink()
    with pytest.raises(FilterscopeError, match=f"{name}: missing; analyse again into the same folder"):
        read(Run(out))
    analyse(out)
    read(Run(out))


def test_an_image_that_a_run_does_not_have_is_refused(place):
    folder, _ = place
    with pytest.raises(FilterscopeError, match=r"`image=9`: the run has \d, counted from 0"):
        Run(folder / "run").image(9)
