"""The command as its user runs it: a process of its own in a folder of its own, on small networks.

Runs are made once and shared by the tests that look at them; what a run says is measured again by verify_run.py.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper
from PIL import Image

from support.networks import build, normal
from support.paths import ROOT, SUPPORT

DEMO = ROOT / "filterscope" / "data" / "cifar10_cnn.onnx"
HOSTILE = ("../../x<script>alert(1)</script>", "</script><b>\x1b[31m")
SECONDS = 600  # generous: machines that run tests may be busy

# Stops the process while it writes the file named first: written, not yet in its place.
STOPPED = """
import os, signal, sys, time
from filterscope.analyzer.run.writer import RunWriter
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process started in the background may ignore it
relative, number = sys.argv[1], int(sys.argv[2])
write, flush = RunWriter.write_bytes, os.fsync
def stop(_):
    os.fsync = flush
    os.kill(os.getpid(), number)
    time.sleep(1)
def stopped(self, name, content):
    if name == relative:
        os.fsync = stop
    write(self, name, content)
RunWriter.write_bytes = stopped
sys.argv = ["filterscope", *sys.argv[3:]]
from filterscope.cli import main
main()
"""


def run(place, program, *arguments, **environment):
    """What a process answers, started in a folder that also holds its cache."""
    own = {"XDG_CACHE_HOME": str(place / ".cache"), "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        cwd=place,
        env=os.environ | own | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=SECONDS,
    )


def filterscope(place, *arguments, **environment):
    return run(place, ["-m", "filterscope"], *arguments, **environment)


def conv(source, name, target, **attributes):
    return ("Conv", f"{source} {name}.weight", target, attributes)


def save(place, name, nodes, constants, shape, **rest):
    onnx.save(build(nodes, constants, shape=shape, **rest), place / name)


def save_models(place):
    """Networks of two convolutions: grey with a fixed batch and hostile names, NHWC, and of five bands."""
    first, second = HOSTILE
    save(
        place,
        "grey.onnx",
        [
            conv("x", first, "a", pads=[1, 1, 1, 1]),
            ("Relu", "a", "r"),
            conv("r", second, "b", strides=[2, 2]),
            ("Reshape", "b t", "f"),
            ("MatMul", "f m", "y"),
        ],
        {
            f"{first}.weight": normal(3, 1, 3, 3),
            f"{second}.weight": normal(2, 3, 3, 3),
            "t": np.array([1, -1]),
            "m": normal(2 * 81, 7),
        },
        (1, 1, 20, 20),
    )
    save(
        place,
        "nhwc.onnx",
        [
            ("Transpose", "x", "t", {"perm": [0, 3, 1, 2]}),
            conv("t", "stem", "a", pads=[1, 1, 1, 1]),
            ("LeakyRelu", "a", "r"),
            conv("r", "body", "b"),
            ("Transpose", "b", "y", {"perm": [0, 2, 3, 1]}),
        ],
        {"stem.weight": normal(3, 3, 3, 3), "body.weight": normal(2, 3, 3, 3)},
        ("N", 18, 22, 3),
    )
    save(
        place,
        "bands.onnx",
        [conv("x", "stem", "a"), ("Relu", "a", "r"), conv("r", "body", "b"), ("GlobalAveragePool", "b", "y")],
        {"stem.weight": normal(3, 5, 3, 3), "body.weight": normal(2, 3, 3, 3)},
        ("N", 5, 16, 16),
    )


def save_images(place):
    rng = np.random.default_rng(11)
    (place / "photos").mkdir()
    Image.fromarray(rng.integers(0, 256, (50, 40, 3), dtype=np.uint8)).save(place / "photos" / "a.png")
    Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(place / "photos" / "b.png")
    np.save(place / "bands.npy", rng.integers(0, 256, (2, 16, 16, 5), dtype=np.uint8))
    np.save(place / "many.npy", rng.integers(0, 256, (30, 18, 22, 3), dtype=np.uint8))
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    (place / "labels.txt").write_text("\n".join(names), encoding="utf-8")


COLOUR = [
    *("analyze", DEMO, "--images", "photos", "--labels", "labels.txt", "--channels", "0-1"),
    *("--layers", "conv[123]", "--objective", "channel", "--objective", "neuron"),
]
NHWC = [
    *("analyze", "nhwc.onnx", "--preprocess", "caffe-bgr", "--images", "photos/*", "--quiet"),
    *("--examples", "photos", "--examples", "many.npy"),
]
RUNS = {  # folder: model, arguments
    "run é 1": (DEMO, COLOUR),
    "grey": ("grey.onnx", ["analyze", "grey.onnx", "--preprocess", "symmetric", "--images", "photos/b.png"]),
    "nhwc": ("nhwc.onnx", NHWC),
    "bands": ("bands.onnx", ["analyze", "bands.onnx", "--images", "bands.npy:0-1", "--json-log"]),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with networks, images and a run of each network."""
    place = tmp_path_factory.mktemp("command") / "place"
    place.mkdir()
    save_models(place)
    save_images(place)
    return place


@pytest.fixture(scope="module")
def answers(place):
    """What the command said while it made each run."""
    return {name: filterscope(place, *arguments, "--out", name) for name, (_, arguments) in RUNS.items()}


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def contents(folder):
    """Every file of a folder: its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Runs


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_made_and_stdout_holds_the_path_of_its_report_alone(place, answers, name):
    said = answers[name]
    assert said.returncode == 0, said.stderr
    assert said.stdout == f"{Path(name) / 'site' / 'index.html'}\n"
    assert (place / said.stdout.strip()).is_file()
    assert read_json(place / name / "run.json")["status"] == "complete"
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(("name", "model"), [(name, model) for name, (model, _) in RUNS.items()])
def test_numbers_of_a_run_are_confirmed_by_a_program_that_shares_no_code(place, answers, name, model):
    found = run(place, [SUPPORT / "verify_run.py"], name, model, "--units", 60)
    assert found.returncode == 0, found.stdout + found.stderr
    pictures = pq.read_table(place / name / "units.parquet").to_pylist()
    measured = sum(row["space"] == "image" for row in pictures)
    assert measured >= 6
    assert found.stdout.splitlines()[-1].startswith(f"{measured} units, worst error ")


def test_progress_goes_to_stderr_as_asked(answers):
    assert "making pictures: 26/26" in answers["run é 1"].stderr
    assert "making pictures: " not in answers["nhwc"].stderr
    lines = [json.loads(line) for line in answers["bands"].stderr.splitlines() if line.startswith("{")]
    assert [line["done"] for line in lines if line["stage"] == "making pictures"][-1] > 0


def test_a_data_set_is_measured_and_told(place, answers):
    told = read_json(place / "nhwc" / "examples" / "study.json")
    assert told["notes"][:2] == [
        "32 images were measured.",
        "2 images had another size than 18×22 and were resized (auto).",
    ]
    units = pq.read_table(place / "nhwc" / "examples" / "units.parquet").to_pylist()
    assert [(row["layer"], row["channel"]) for row in units] == [("stem", i) for i in range(3)] + [
        ("body", 0),
        ("body", 1),
    ]
    pictures = pq.read_table(place / "nhwc" / "examples" / "pictures.parquet").to_pylist()
    assert all((place / "nhwc" / row["atlas"]).is_file() for row in pictures)


def test_predictions_carry_the_names_of_the_classes(place, answers):
    names = (place / "labels.txt").read_text(encoding="utf-8").split()
    for index in (0, 1):
        image = read_json(place / "run é 1" / "images" / f"{index}.json")
        for guess in image["prediction"]["top"]:
            assert guess["label"] == names[guess["index"]]


def test_hostile_names_become_safe_paths_and_plain_text(place, answers):
    layers = read_json(place / "grey" / "layers.json")["layers"]
    assert [layer["name"] for layer in layers] == list(HOSTILE)
    assert layers[0]["slug"] == "x-script-alert-1-script"
    for path in (place / "grey").rglob("*"):
        assert re.fullmatch(r"[A-Za-z0-9._-]+", path.name)
    beside = {path.name for path in place.parent.iterdir()} | {path.name for path in place.iterdir()}
    assert not any("script" in name for name in beside), "nothing was written outside the run"
    pages = {path.name: path.read_text(encoding="utf-8") for path in (place / "grey" / "site").glob("*.html")}
    assert "../../x&lt;script&gt;alert(1)&lt;/script&gt;" in pages["index.html"]
    assert "layer-x-script-alert-1-script.html" in pages
    for page in pages.values():
        assert "<script>alert" not in page
        assert "</script><b>" not in page
        assert "\x1b" not in page
    assert "\x1b" not in answers["grey"].stderr


def test_the_report_is_made_again_with_the_same_bytes(place, answers, tmp_path):
    """On a terminal that knows ASCII alone, too."""
    shutil.copytree(place / "run é 1", tmp_path / "copy é")
    before = contents(tmp_path / "copy é" / "site")
    shutil.rmtree(tmp_path / "copy é" / "site")
    said = filterscope(tmp_path, "report", "copy é", PYTHONIOENCODING="ascii")
    assert (said.returncode, said.stderr) == (0, "")
    written = [str(Path(name, "site", "index.html")) for name in ("copy é", r"copy \xe9")]
    assert said.stdout.strip() in written
    after = contents(tmp_path / "copy é" / "site")
    assert set(after) == set(before)
    assert [name for name in after if after[name] != before[name]] == []


def test_clean_removes_a_run_and_nothing_else(place, answers, tmp_path):
    shutil.copytree(place / "bands", tmp_path / "bands")
    (tmp_path / "bands" / "maps" / "notes.txt").write_text("mine")
    said = filterscope(tmp_path, "clean", "bands")
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    assert list(contents(tmp_path / "bands")) == ["maps/notes.txt"]


# Interruption


STEPS = [  # what is being written when the process is stopped, and how
    ("tasks/conv1/channel-ascent-0-1.parquet", signal.SIGINT),
    ("tasks/conv3/channel-ascent-0-1.parquet", getattr(signal, "SIGKILL", signal.SIGTERM)),
]


def times(folder):
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*/*") if path.is_file()
    }


@pytest.fixture(scope="module")
def stopped(place):
    """A run that is stopped twice and then finished: what was said each time, and copies of the folder in between."""
    said, copies, seen = [], [], []
    for index, (relative, number) in enumerate(STEPS):
        said.append(run(place, ["-c", STOPPED], relative, int(number), *COLOUR, "--out", "stopped"))
        copies.append(shutil.copytree(place / "stopped", place / f"copy-{index}"))
        seen.append(times(place / "stopped"))
    said.append(filterscope(place, *COLOUR, "--out", "stopped"))
    seen.append(times(place / "stopped"))
    return said, copies, seen


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(stopped):
    (said, *_), (copy, *_), _ = stopped
    assert said.returncode == 130
    assert said.stdout == ""
    last = said.stderr.splitlines()[-1]
    assert last == "interrupted; what is done is kept in stopped: run the same command again to go on"
    assert "Traceback" not in said.stderr
    info = read_json(copy / "run.json")
    assert (info["status"], info["finished"]) == ("partial", None)
    assert (info["tasks"]["planned"], info["tasks"]["found_done"]) == (13, 0)
    assert 0 < len(list(copy.glob("tasks/*/*.parquet"))) < 12
    assert not list(copy.rglob(".*.part")), "what was being written is taken back"


def test_a_killed_run_keeps_its_finished_tasks(stopped):
    (_, said, _), (_, copy), _ = stopped
    assert said.returncode == -STEPS[1][1]
    assert read_json(copy / "run.json")["status"] == "running", "it had no time to say otherwise"
    assert not (copy / STEPS[1][0]).exists()
    assert len(list(copy.glob("tasks/*/*.parquet"))) > 1


def test_the_report_of_a_killed_run_shows_what_is_there(stopped, place):
    _, (_, copy), _ = stopped
    said = filterscope(place, "report", copy.name)
    assert (said.returncode, said.stderr) == (0, "")
    assert "under way" in (copy / "site" / "index.html").read_text(encoding="utf-8")


def test_what_was_done_is_not_done_again(stopped, place):
    (*_, said), _, seen = stopped
    assert said.returncode == 0, said.stderr
    for before in seen[:2]:
        tables = [name for name in before if name.endswith(".parquet") and not Path(name).name.startswith(".")]
        finished = [name for name in tables if not name.startswith("first/") and name != "units.parquet"]
        assert finished
        for name in finished:
            assert seen[2][name] == before[name], f"{name} was written again"
    tasks = read_json(place / "stopped" / "run.json")["tasks"]
    assert tasks["planned"] == tasks["done"] == 13
    assert tasks["found_done"] == sum(name.startswith("tasks/") and name.endswith(".parquet") for name in seen[1])


def test_a_run_stopped_twice_ends_as_one_that_never_was(stopped, place, answers):
    whole, found = place / "run é 1", place / "stopped"
    tables = [pq.read_table(folder / "units.parquet") for folder in (whole, found)]
    assert tables[1].drop_columns("seconds").equals(tables[0].drop_columns("seconds"))
    assert read_json(found / "run.json")["plan"] == read_json(whole / "run.json")["plan"]
    for part in ("tasks", "maps", "images"):
        expected, actual = contents(whole / part), contents(found / part)
        assert set(actual) == set(expected)
        for name, content in expected.items():
            if name.endswith(".png") or part != "tasks":
                assert actual[name] == content, name


# Bad input


def save_bad_models(place):
    demo = DEMO.read_bytes()
    (place / "picture.onnx").write_bytes((place / "photos" / "a.png").read_bytes())
    (place / "text.onnx").write_text("weights: none\n" * 20)
    (place / "empty.onnx").write_bytes(b"")
    (place / "half.onnx").write_bytes(demo[: len(demo) // 2])
    nodes, weight = [("Conv", "x w", "y")], {"w": normal(4, 3, 3, 3)}
    for name, location in (("missing.onnx", "gone.bin"), ("outside.onnx", "../secret.bin")):
        model = build(nodes, weight)
        (tensor,) = model.graph.initializer
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        onnx.save(model, place / name)
    (place.parent / "secret.bin").write_bytes(bytes(432))
    huge = build(nodes, weight)
    huge.graph.initializer[0].dims[:] = [1 << 20, 1 << 20, 1 << 10]
    onnx.save(huge, place / "huge.onnx")
    save(place, "dense.onnx", [("Flatten", "x", "f"), ("MatMul", "f w", "y")], {"w": normal(48, 2)}, ("N", 3, 4, 4))
    shape = {"s": np.array([0, 4, 8, 8])}
    save(
        place,
        "channels.onnx",
        [("Reshape", "x s", "r"), conv("r", "c", "y")],
        shape | {"c.weight": normal(2, 4, 1, 1)},
        list("NCHW"),
    )
    head = [conv("x", "c", "a"), ("Flatten", "a", "f"), ("MatMul", "f m", "y")]
    save(place, "size.onnx", head, {"c.weight": normal(1, 3, 1, 1), "m": normal(10007, 2)}, ("N", 3, "H", "W"))
    half = helper.make_tensor_value_info("x", TensorProto.FLOAT16, ("N", 3, 16, 16))
    model = build(nodes, weight)
    model.graph.input[0].CopyFrom(half)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight["w"].astype(np.float16), "w"))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, place / "half16.onnx")


def save_bad_files(place):
    (place / "empty.png").write_bytes(b"")
    (place / "text.png").write_text("a photo\n")
    (place / "half.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(40))
    (place / "nine.txt").write_text("\n".join(map(str, range(9))))
    (place / "none.txt").write_text("\n")
    (place / "notes").mkdir()
    (place / "notes" / "mine.txt").write_text("mine")


@pytest.fixture(scope="module")
def bad(place, answers):
    save_bad_models(place)
    save_bad_files(place)
    return place


FEW = ("--layers", "conv1", "--channels", "0")
BAD = [  # arguments, words of the error, in which "…" stands for anything
    # the model
    (("inspect", "picture.onnx"), "picture.onnx: not an ONNX model"),
    (("inspect", "text.onnx"), "text.onnx: not an ONNX model"),
    (("inspect", "empty.onnx"), "empty.onnx: is empty"),
    (("analyze", "half.onnx"), "half.onnx: not an ONNX model, or only a part of one; export or download it again"),
    (("analyze", "gone.onnx"), "gone.onnx: no such file"),
    (("analyze", "photos"), "photos: is a folder; name the .onnx file itself"),
    (("analyze", "missing.onnx"), "missing.onnx: its external data 'gone.bin' is missing"),
    (("analyze", "outside.onnx"), "'../secret.bin', outside the model's folder"),
    (("inspect", "huge.onnx"), "would not fit…memory"),
    (("analyze", "dense.onnx"), "dense.onnx: has no convolution layer; it holds 2 nodes: 1 Flatten, 1 MatMul"),
    (("inspect", "channels.onnx"), "unknown number of input channels: give --layout and --input-channels"),
    (("inspect", "size.onnx"), "runs at none of the sizes tried…give --input-size HEIGHTxWIDTH"),
    # options
    (("analyze", DEMO, "--layers", "convv2"), "no layer matches 'convv2'; nearest: conv2"),
    (("analyze", DEMO, "--channels", "0,40"), "--channels 0,40: conv1 has channels 0 to 31"),
    (("analyze", DEMO, "--channels", "some"), "--channels some: give auto, all, 16/layer, or numbers and ranges"),
    (("analyze", DEMO, "--quality", "best"), "--quality best: give one of draft, standard, fine"),
    (("analyze", DEMO, "--objective", "layer"), "--objective layer: give one of channel, neuron, negative, diversity"),
    (("analyze", DEMO, "--device", "tpu9", *FEW), "--device tpu9: not to be had on this machine; give auto or cpu"),
    (("analyze", DEMO, "--maps", "-1"), "--maps -1: give 0 or more"),
    (("analyze", DEMO, "--seed", "-1"), "--seed -1: give 0 or more"),
    (("analyze", DEMO, "--resize", "stretch"), "--resize stretch: give one of auto, crop, cover, squash, fit"),
    (("inspect", DEMO, "--preprocess", "imagenett"), "--preprocess imagenett: did you mean imagenet?"),
    (("inspect", DEMO, "--mean", "a,b"), "--mean a,b: give a number, or one a channel separated by commas"),
    (("inspect", DEMO, "--mean", "1,2"), "2 channels…has 3"),
    (("inspect", DEMO, "--std", "0"), "--std 0: has a zero, and the input is divided by it"),
    (("inspect", DEMO, "--order", "GBR"), "--order GBR: give RGB or BGR"),
    (("inspect", DEMO, "--layout", "CHWN"), "--layout CHWN: give NCHW or NHWC"),
    (("inspect", DEMO, "--input-size", "32"), "--input-size 32: give HEIGHTxWIDTH, such as 240x320"),
    (("inspect", DEMO, "--input-size", "99999x1"), "--input-size 99999x1: too large; a side has at most 16384 pixels"),
    (("inspect", DEMO, "--input-size", "100000x100000"), "100000x100000: too large; a side has at most 16384 pixels"),
    (("inspect", DEMO, "--input-size", "64x64"), "--input-size 64x64: the file fixes input 'image' to 32x32"),
    (("analyze", DEMO, "--labels", "nine.txt", *FEW), "--labels: 9 names for 10 outputs; give one name a line"),
    (("analyze", DEMO, "--labels", "none.txt"), "--labels none.txt: is empty; give one name a line"),
    (("analyze", DEMO, "--labels", "gone.txt"), "--labels gone.txt: cannot be read as text"),
    # images
    (("analyze", DEMO, "--images", "gone.png"), "gone.png: no such file or folder"),
    (("analyze", DEMO, "--images", "empty.png"), "empty.png: the file is empty"),
    (("analyze", DEMO, "--images", "photos", "--images", "half.jpg"), "half.jpg: …"),
    (("analyze", DEMO, "--images", "text.png"), "text.png: not an image"),
    (("analyze", DEMO, "--images", "notes"), "notes: no images in this folder"),
    (("analyze", DEMO, "--examples", "gone"), "gone: no such file or folder"),
    (("analyze", DEMO, "--examples", "notes"), "notes: no pictures at any depth"),
    # the run's folder
    (("analyze", DEMO, "--out", "text.onnx"), "text.onnx: is a file; --out names a folder"),
    (("analyze", DEMO, "--out", "notes"), "notes: is not empty and not a run; choose another --out"),
    (
        ("analyze", DEMO, *FEW, "--out", "text.onnx/run"),
        "text.onnx/run: cannot be written below…text.onnx; choose another --out",
    ),
    (
        (*COLOUR, "--seed", "1", "--out", "run é 1"),
        "holds a run with other settings, other images or another model…--out",
    ),
    (("report", "notes"), "notes: is not a run of filterscope"),
    (("clean", "notes"), "notes: is not a run of filterscope (it has no run.json); nothing was removed"),
]


def test_inspect_lists_the_convolutions_of_a_network_with_an_operator_that_nobody_knows(place):
    nodes = [
        conv("x", "c", "a", strides=[2, 2]),
        ("Magic", "a", "b", {"domain": "mine", "name": "wand"}),
        conv("b", "d", "y"),
    ]
    weights = {"c.weight": normal(8, 3, 3, 3), "d.weight": normal(4, 8, 1, 1)}
    save(place, "magic.onnx", nodes, weights, ("N", 3, 16, 16))
    said = filterscope(place, "inspect", "magic.onnx")
    assert said.returncode == 2
    assert "wand: operator Magic of mine" in said.stderr.splitlines()[-1]
    rows = [line.split() for line in said.stdout.splitlines()]
    assert [row[:4] for row in rows[1:]] == [["0", "a", "3×3/2", "3→8"], ["1", "y", "1×1", "8→4"]]


def told(words):
    return ".*".join(re.escape(part) for part in words.split("…"))


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_input_gets_one_clear_line_and_exit_code_2_and_nothing_is_lost(bad, arguments, words):
    def state():
        own = (path for path in bad.rglob("*") if ".cache" not in path.parts and path.name != ".lock")
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in own if path.is_file()}

    before = state()
    said = filterscope(bad, *arguments)
    *earlier, last = said.stderr.splitlines()
    assert last.startswith("error: "), said.stderr
    assert re.search(told(words), last), last
    assert not any(line.startswith(("error", "Traceback", " ")) for line in earlier), said.stderr
    assert (said.returncode, said.stdout) == (2, "")
    assert state() == before


@pytest.mark.parametrize(
    "arguments", [("analyze",), ("inspect", "--bogus"), ("bogus",), ("analyze", "x", "--seed", "y")]
)
def test_a_command_that_does_not_exist_is_explained(tmp_path, arguments):
    said = filterscope(tmp_path, *arguments)
    assert (said.returncode, said.stdout) == (2, "")
    assert "Usage: filterscope" in said.stderr
    assert "Traceback" not in said.stderr


# Answers without a run


def test_help_is_quick_for_it_imports_neither_torch_nor_onnx(tmp_path):
    said = run(tmp_path, ["-X", "importtime", "-m", "filterscope"], "--help")
    assert said.returncode == 0
    for command in ("inspect", "analyze", "demo", "report", "clean"):
        assert command in said.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in said.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"torch", "onnx", "onnxruntime", "onnxscript", "pyarrow", "numpy", "PIL"}


def test_version_is_that_of_the_distribution(tmp_path):
    said = filterscope(tmp_path, "--version")
    assert (said.returncode, said.stdout) == (0, f"filterscope {metadata.version('filterscope')}\n")


LAYER_FIELDS = {  # DESIGN: contract of a layer; docs/run-format.md
    *("index", "name", "node", "value", "op", "rank", "kernel", "stride", "dilation", "pads", "auto_pad", "groups"),
    *("in_channels", "out_channels", "output_shape", "parameters", "macs", "bias", "batchnorm", "nonlinearity"),
    *("field", "depth", "predecessors", "sees_image", "computed", "parity"),
    "kind",
    "paths",
    "origin",
}


def test_inspect_prints_json_with_every_field_of_the_contract(place):
    said = filterscope(place, "inspect", DEMO, "--json")
    assert (said.returncode, said.stderr) == (0, "")
    found = json.loads(said.stdout, parse_constant=pytest.fail)  # NaN is no JSON
    assert set(found) == {"schema", "model", "input", "layers", "parity", "refusal"}
    assert found["refusal"] is None
    assert found["schema"] == 1
    assert [layer["name"] for layer in found["layers"]] == ["conv1", "conv2", "conv3", "conv4"]
    for layer in found["layers"]:
        assert set(layer) == LAYER_FIELDS
        assert set(layer["field"]) == {"size", "jump", "start", "global", "local"}
        assert 0 <= layer["parity"] < 1e-4
    conv3 = found["layers"][2]
    assert (conv3["field"]["size"], conv3["field"]["jump"], conv3["predecessors"]) == ([10, 10], [2, 2], ["conv2"])
    assert {"name", "sha256", "producer", "opset", "notes", "parameters", "macs", "outputs"} <= set(found["model"])
    assert {"name", "layout", "channels", "height", "width", "preprocessing", "why", "certain"} <= set(found["input"])
    assert {"original", "nodes", "end_to_end", "limit", "refuse", "warnings"} <= set(found["parity"])


def test_inspect_prints_a_table_of_at_most_100_columns_whatever_the_names(place):
    said = filterscope(place, "inspect", "grey.onnx")
    assert (said.returncode, said.stderr) == (0, "")
    table = said.stdout.splitlines()[:3]
    assert table[0].split() == ["#", "layer", "kernel", "channels", "output", "field", "params", "MACs", "then"]
    assert [line.split()[0] for line in table[1:]] == ["0", "1"]
    assert max(map(len, table)) <= 100
    assert "x<script>alert(1)</script>" in table[1], "the end of a long name tells more than its beginning"
    assert "\x1b" not in said.stdout


def test_a_stretched_view_is_labelled(tmp_path):
    options = ("--preprocess", "unit", "--preset", "notebook-2018", "--layers", "conv1", "--channels", "0,1")
    ended = filterscope(tmp_path, "analyze", DEMO, *options, "--out", "run", "--quiet")
    page = (tmp_path / "run" / "site" / "layer-conv1.html").read_text(encoding="utf-8")

    assert ended.returncode == 0, ended.stderr
    assert "the highest mean of the whole map, contrast stretched afterwards" in page
