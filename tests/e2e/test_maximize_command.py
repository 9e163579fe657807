"""`filterscope maximize` as its user runs it: a picture, its numbers, and a line for whatever does not fit."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from PIL import Image

from filterscope.analyzer.maximize import engine
from filterscope.converters.errors import SettingsError, setting
from filterscope.requests.maximize import FIRST
from support.networks import answers, build, normal

CLASSES = ["crane", "cane", "zebra"]
RUN = ("maximize", "net.onnx", "--preprocess", "unit", "--device", "cpu")
TWO = (*RUN, "--layer", "two")
CHANNEL = (*TWO, "--channel", "1")
DRAFT = ("--quality", "draft", "--steps", "8")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maximize")
    nodes = [
        ("Conv", "x k", "a", {"name": "one", "pads": [1, 1, 1, 1]}),
        ("Relu", "a", "r"),
        ("Conv", "r w", "b", {"name": "two"}),
        ("GlobalAveragePool", "b", "p"),
        ("Flatten", "p", "s"),
        ("Softmax", "s", "y", {"axis": 1}),
    ]
    constants = {"k": normal(4, 3, 3, 3) / 5, "w": normal(3, 4, 3, 3) / 6}
    onnx.save(build(nodes, constants, shape=("N", 3, 12, 12)), folder / "net.onnx")
    onnx.save(build(nodes[:3], constants, shape=("N", 3, 12, 12)), folder / "maps.onnx")
    (folder / "labels.txt").write_text("\n".join(CLASSES))
    (folder / "two-labels.txt").write_text("\n".join(CLASSES[:2]))
    np.save(folder / "good.npy", np.array([1.0, 0, 1]))
    np.save(folder / "long.npy", np.ones(7))
    np.save(folder / "zeros.npy", np.zeros(3))
    np.save(folder / "empty.npy", np.zeros((0, 3)))
    np.save(folder / "words.npy", np.array(["a", "b", "c"]))
    np.save(folder / "complex.npy", np.ones(3, complex))
    np.savez(folder / "archive.npz", np.ones(3))
    (folder / "text.npy").write_text("1, 0, 1")
    (folder / "folder.png").mkdir()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(folder / "start.png")
    return folder


def maps_of(place, file):
    pixels = np.asarray(Image.open(file), np.float32) / 255
    model = onnx.load(place / "maps.onnx")
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"d{axis}"
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return answers(model, pixels.transpose(2, 0, 1)[None], ["b"])["b"][0]


def test_a_process_writes_a_first_picture_and_then_the_one_asked_for(place):
    done = subprocess.run(
        [sys.executable, "-m", "filterscope", *CHANNEL, "--quality", "draft"],
        cwd=place,
        env=os.environ | {"XDG_CACHE_HOME": str(place / ".cache"), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    told, file = done.stdout.splitlines()

    assert done.returncode == 0, done.stderr
    assert file == "two-1.png"
    assert done.stderr.startswith("two-1.png: a first picture, ")
    assert len(done.stderr.splitlines()) == 1
    assert told.startswith(
        f"two 1 (channel, ascent): {maps_of(place, place / file)[1].mean():.4g}, too small to shift, best of "
    )


@pytest.mark.parametrize(
    ("options", "files", "expected"),
    [
        ((*CHANNEL, *DRAFT), "two-1.png", [lambda maps: maps[1].mean()]),
        ((*TWO, "--pair", "0,2", *DRAFT), "two-0-2-pair.png", [lambda maps: (maps[0] + maps[2]).mean() / 2]),
        (
            (*TWO, "--direction", "good.npy", *DRAFT),
            "two-good-direction.png",
            [lambda maps: (maps[0] + maps[2]).mean()],
        ),
        ((*TWO, "--objective", "layer", *DRAFT), "two-layer.png", [lambda maps: (maps**2).mean()]),
        (
            (*CHANNEL, "--objective", "negative", "--method", "vertex"),
            "two-1-negative-vertex.png",
            [lambda maps: maps[1].mean()],
        ),
        ((*RUN, "--class", "zebra", "--labels", "labels.txt", *DRAFT), "class-scores-2.png", [lambda m: m[2].mean()]),
        ((*CHANNEL, *DRAFT, "--preset", "yosinski", "--restrain", "tv=0.1"), "two-1.png", [lambda m: m[1].mean()]),
    ],
    ids=["channel", "pair", "direction", "layer", "vertex", "class", "yosinski"],
)
def test_numbers_as_json_are_those_of_the_file(options, files, expected, ask, place):
    code, out, err = ask(*options, "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)

    assert len(rows) == len(expected)
    assert rows[0]["activation"] == pytest.approx(float(expected[0](maps_of(place, place / files))), rel=1e-4, abs=1e-5)


def test_pictures_of_one_unit_have_names_of_their_own_and_a_bound_says_of_what(ask, place):
    neuron = (*RUN, "--layer", "one", "--channel", "1", "--objective", "neuron")
    files = []
    for options in (
        (*RUN, "--layer", "one", "--channel", "1", *DRAFT),
        (*neuron, *DRAFT),
        (*neuron, "--method", "analytic"),
    ):
        code, out, _ = ask(*options)
        assert code == 0
        files.append(out.splitlines()[-1])
    assert files == ["one-1.png", "one-1-neuron.png", "one-1-neuron-analytic.png"]
    assert all((place / file).is_file() for file in files)
    assert ", no picture can raise this neuron above " in out


@pytest.mark.parametrize(
    ("pair", "name"), [("0,2", "two-0-2-pair"), ("00,2:1", "two-0-2-pair"), ("0,2:3", "two-0-2-pair-3")]
)
def test_a_pair_names_its_file_by_both_channels_and_its_steps(pair, name, ask, place):
    code, out, _ = ask(*TWO, "--pair", pair, *DRAFT)
    assert (code, out.splitlines()[-1]) == (0, f"{name}.png")
    assert (place / f"{name}.png").is_file()


def test_a_published_presets_first_picture_is_no_second_ascent(ask, place, monkeypatch):
    taken = []
    monkeypatch.setattr(engine._Climb, "_gradient", counting(engine._Climb._gradient, taken))
    code, out, err = ask(*CHANNEL, "--preset", "notebook-2018", "--out", "book.png", "--json")

    assert code == 0
    note, first = err.splitlines()
    assert note.startswith("note: preset notebook-2018 shows its pictures with contrast stretched")
    assert first.startswith("book.png: a first picture, ")
    assert json.loads(out)[0]["steps"] == 40
    assert len(taken) == FIRST.steps + 40


def test_a_film_is_of_the_pictures_asked_for_and_not_of_the_first_one(ask, place):
    code, out, err = ask(
        *CHANNEL, "--preset", "yosinski", "--steps", "20", "--out", "filmed.png", "--film", "filmed.webp"
    )

    assert code == 0
    assert err.startswith("filmed.png: a first picture, ")
    assert out.splitlines()[1:] == ["filmed.png", "filmed.webp: 21 frames of 20 steps, 3.5 s"]
    with Image.open(place / "filmed.webp") as film:
        assert film.n_frames == 21
        film.seek(20)
        np.testing.assert_array_equal(np.asarray(film.convert("RGB")), np.asarray(Image.open(place / "filmed.png")))


def test_numbers_as_json_stay_alone_beside_a_film(ask):
    code, out, err = ask(*CHANNEL, *DRAFT, "--film", "json.webp", "--json")
    assert (code, err) == (0, "json.webp: 9 frames of 8 steps, 2.6 s\n")
    assert json.loads(out)[0]["steps"] == 8


def test_a_film_that_cannot_be_written_leaves_the_picture(ask, place, monkeypatch):
    def full(field, path, content):
        raise SettingsError(f"{setting(field, path)}: cannot be written (No space left on device)")

    monkeypatch.setattr("filterscope.analyzer.maximize.film.write_whole", full)
    code, _, err = ask(*CHANNEL, *DRAFT, "--out", "alone.png", "--film", "alone.webp")
    assert (code, err) == (2, "error: --film alone.webp: cannot be written (No space left on device)\n")
    assert (place / "alone.png").is_file()


def counting(method, calls):
    """The method, each of whose calls is noted."""

    def counted(*arguments):
        calls.append(1)
        return method(*arguments)

    return counted


WRONG = {  # options, words
    "percentile": ((*CHANNEL, "--restrain", "small-norm=140"), "small norm percentile 140.0: give 0 to 100"),
    "percentile below": ((*CHANNEL, "--restrain", "small-contribution=-1"), "percentile -1.0: give 0 to 100"),
    "restrain nothing": ((*CHANNEL, "--restrain", "l2"), "--restrain l2: nothing is no number"),
    "restrain word": ((*CHANNEL, "--restrain", "l2=much"), "--restrain l2=much: much is no number"),
    "restrain unknown": ((*CHANNEL, "--restrain", "sharp=1"), "give NAME=NUMBER, with one of l2, lp, tv"),
    "restrain fourier": ((*CHANNEL, "--restrain", "blur=1"), "preset filterscope holds fourier coefficients"),
    "steps 0": ((*CHANNEL, "--steps", "0"), "--steps 0: give 1 or more"),
    "steps negative": ((*CHANNEL, "--steps", "-5"), "--steps -5: give 1 or more"),
    "seed": ((*CHANNEL, "--seed", "-1"), "--seed -1: give 0 or more"),
    "canvas small": ((*CHANNEL, "--canvas", "2x2"), "--canvas 2x2: two does not run on it; give 5x5 or more"),
    "canvas large": (
        (*CHANNEL, "--canvas", "100000x8"),
        "--canvas 100000x8: too large; a side has at most 16384 pixels",
    ),
    "class without labels": ((*RUN, "--class", "zebra"), "or names with --labels FILE or --labels imagenet"),
    "canvas word": ((*CHANNEL, "--canvas", "big"), "--canvas big: give HEIGHTxWIDTH, such as 96x96"),
    "direction long": (
        (*TWO, "--direction", "long.npy"),
        "--direction long.npy: 7 numbers for a layer of 3 channels",
    ),
    "direction zeros": ((*TWO, "--direction", "zeros.npy"), "--direction zeros.npy: give finite numbers"),
    "direction empty": ((*TWO, "--direction", "empty.npy"), "--direction empty.npy: give finite numbers"),
    "direction words": ((*TWO, "--direction", "words.npy"), "--direction words.npy: cannot be read as a .npy"),
    "direction complex": ((*TWO, "--direction", "complex.npy"), "complex.npy: cannot be read as a .npy of numbers"),
    "blur wide": (
        (*CHANNEL, "--restrain", "blur=1e9", "--preset", "yosinski"),
        "--restrain blur=1e9: blur 1e+09: give at most 256 pixels; a wider one leaves one colour",
    ),
    "direction archive": ((*TWO, "--direction", "archive.npz"), "--direction archive.npz: cannot be read as a .npy"),
    "direction text": ((*TWO, "--direction", "text.npy"), "--direction text.npy: cannot be read as a .npy"),
    "direction missing": ((*TWO, "--direction", "no.npy"), "--direction no.npy: cannot be read as a .npy"),
    "class unknown": ((*RUN, "--class", "crain", "--labels", "labels.txt"), "did you mean crane, cane?"),
    "class number": ((*RUN, "--class", "3"), "--class 3: the network has classes 0 to 2"),
    "class neuron": ((*RUN, "--class", "1", "--objective", "neuron"), "class scores have none"),
    "labels": ((*RUN, "--class", "cane", "--labels", "two-labels.txt"), "2 names for a network of 3 classes"),
    "no classifier": (("maximize", "maps.onnx", "--class", "1"), "--class: the network is no classifier"),
    "both": ((*CHANNEL, "--class", "1"), "give one of --channel, --class, --pair, --direction"),
    "none": (TWO, "give one of --channel, --class, --pair, --direction, --objective layer"),
    "no layer": ((*RUN, "--channel", "1"), "give --layer, or --class"),
    "channel": ((*TWO, "--channel", "3"), "--channel 3: two has channels 0 to 2"),
    "channel negative": ((*TWO, "--channel", "-1"), "--channel -1: two has channels 0 to 2"),
    "layer": ((*RUN, "--layer", "tow", "--channel", "1"), "no layer matches 'tow'; nearest: two"),
    "layers": ((*RUN, "--layer", "*", "--channel", "1"), "--layer *: fits 2 layers, one, two; name one"),
    "analytic": ((*CHANNEL, "--method", "analytic"), "--method analytic: works on one neuron; add --objective neuron"),
    "analytic deep": (
        (*CHANNEL, "--method", "analytic", "--objective", "neuron"),
        "two: is not a Conv directly on the image",
    ),
    "vertex": ((*CHANNEL, "--method", "vertex", "--objective", "diversity"), "makes one picture per unit"),
    "preset": ((*CHANNEL, "--preset", "nicest"), "--preset nicest: give one of filterscope, strong"),
    "quality": ((*CHANNEL, "--quality", "best"), "--quality best: give one of draft, standard, fine"),
    "objective": ((*CHANNEL, "--objective", "sum"), "--objective sum: give one of channel, neuron"),
    "method": ((*CHANNEL, "--method", "magic"), "--method magic: give one of ascent, vertex"),
    "pair one": ((*TWO, "--pair", "3"), "--pair 3: give A,B or A,B:STEPS"),
    "pair far": ((*TWO, "--pair", "3,99"), "--pair 3,99: the layer has channels 0 to 2"),
    "pair none": ((*TWO, "--pair", "0,1:0"), "--pair 0,1:0: give 1 step or more"),
    "pair many": ((*TWO, "--pair", "0,1:99999999999"), "--pair 0,1:99999999999: give A,B or A,B:STEPS (at most 999)"),
    "out jpg": ((*CHANNEL, "--out", "p.jpg"), "--out p.jpg: give a name that ends in .png"),
    "film gif": ((*CHANNEL, "--film", "f.gif"), "--film f.gif: give a name that ends in .webp"),
    "film as out": (
        (*CHANNEL, "--film", "same.png", "--out", "same.png"),
        "--film same.png: give a name that ends in .webp",
    ),
    "film away": ((*CHANNEL, "--film", "away/f.webp"), "--film away/f.webp: cannot be written (no folder away)"),
    "film vertex": (
        (*CHANNEL, "--film", "f.webp", "--method", "vertex"),
        "--film: is of --method ascent, not of --method vertex; leave one of the two out",
    ),
    "film large": (
        (*CHANNEL, *DRAFT, "--film", "f.webp", "--canvas", "1300x1300"),
        "--film: frames of 1300 × 1300 pixels are more than a browser plays; give a smaller --canvas",
    ),
    "start missing": ((*CHANNEL, "--start", "no.jpg"), "no.jpg: no such file or folder"),
    "start text": ((*CHANNEL, "--start", "labels.txt"), "labels.txt: not an image"),
    "start maco": (
        (*CHANNEL, "--start", "start.png", "--preset", "maco"),
        "--preset maco: holds phases and cannot begin at a picture; give --preset filterscope",
    ),
    "start analytic": (
        (*CHANNEL, "--start", "start.png", "--method", "analytic", "--objective", "neuron"),
        "--start: is of --method ascent, not of --method analytic",
    ),
    "white alone": ((*CHANNEL, "--white", "4095"), "--white: is of --start; leave it out"),
    "out folder": ((*CHANNEL, "--out", "folder.png"), "--out folder.png: is a folder; give another name"),
    "pair neuron": ((*TWO, "--pair", "0,1", "--objective", "neuron"), "leave --objective out"),
    "seconds": ((*CHANNEL, "--seconds", "0"), "--seconds 0.0: give more than 0"),
    "out": ((*CHANNEL, *DRAFT, "--out", "away/p.png"), "--out away/p.png: cannot be written"),
    "device": ((*CHANNEL, *DRAFT, "--device", "toaster"), "--device toaster: not to be had"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_one_line_and_exit_code_2(case, ask):
    options, words = WRONG[case]
    code, out, err = ask(*options)

    assert words in err
    assert (code, out) == (2, "")
    *notes, line = err.splitlines()
    assert all(note.startswith("note: ") for note in notes)  # of what was assumed
    assert line.startswith("error: ")
