"""One unit asked for by name: its numbers against ONNX Runtime's on the saved picture, and what is refused."""

import dataclasses
import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from PIL import Image

import filterscope as fs
from filterscope.analyzer.maximize.presets import PRESETS as RECIPES
from filterscope.analyzer.maximize.presets import Quality, Recipe
from filterscope.analyzer.maximize.single_unit import UnitRequest, answer, at_quality, only_layer, save
from filterscope.analyzer.network.preprocessing import PRESETS
from filterscope.analyzer.network.scores import scores
from filterscope.analyzer.units.objectives import Direction
from filterscope.converters.errors import SettingsError
from support.networks import answers, build, normal
from support.opened import opened

QUICK = Recipe(RECIPES["filterscope"], Quality("quick", 16, 0.2, 96, 16))
SIDE = 14
WHITE, BLACK = 0, 1  # what the planted classes look for


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Two convolutions, and three planted classes: bright everywhere, dark everywhere, both."""
    first = normal(4, 3, 3, 3) / 5
    first[0], first[1] = 1 / 27, -1 / 27
    table = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]], np.float32)
    table[:2, 2] = 1
    nodes = [
        ("Conv", "x k c", "a", {"name": "one", "pads": [1, 1, 1, 1]}),
        ("Relu", "a", "r"),
        ("Conv", "r w", "b", {"name": "two"}),
        ("GlobalAveragePool", "r", "p"),
        ("Flatten", "p", "f"),
        ("MatMul", "f m", "s"),
        ("Softmax", "s", "y", {"axis": 1}),
    ]
    constants = {"k": first, "c": np.array([0, 1, 0, 0], np.float32), "w": normal(3, 4, 3, 3) / 6, "m": table}
    model = build(nodes, constants, shape=("N", 3, SIDE, SIDE), outputs=["y", "b"])
    return opened(tmp_path_factory.mktemp("portrait"), model, PRESETS["unit"], (SIDE, SIDE))


def ask(network, layer="two", units=(1,), objective="channel", **rest):
    return UnitRequest(only_layer(network, layer), objective, units, QUICK, **{"device": "cpu"} | rest)


def maps_of(network, path, value):
    """What ONNX Runtime alone makes of a saved picture, as 0 to 1."""
    pixels = np.asarray(Image.open(path), np.float32) / 255
    free = onnx.ModelProto()
    free.CopyFrom(network.model.proto)
    for axis in (2, 3):
        free.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"d{axis}"
    for shown in free.graph.output:
        shown.type.tensor_type.ClearField("shape")
    del free.graph.value_info[:]
    return answers(free, pixels.transpose(2, 0, 1)[None], [value])[value][0]


@pytest.mark.parametrize("method", ["ascent", "vertex", "certified"])
@pytest.mark.parametrize("objective", ["channel", "neuron", "negative", "layer"])
def test_numbers_are_those_of_the_saved_picture(network, objective, method, tmp_path):
    if method == "certified" and objective != "neuron":
        pytest.skip("a proof is of a neuron")
    unit = 0 if objective == "layer" else 1
    found = answer(network, ask(network, "two", (unit,), objective, method=method))
    maps = maps_of(network, found.save(tmp_path / "two.png"), "b")
    expected = {
        "channel": lambda: maps[1].mean(),
        "negative": lambda: maps[1].mean(),
        "neuron": lambda: maps[1, maps.shape[1] // 2, maps.shape[2] // 2],
        "layer": lambda: (maps**2).mean(),
    }[objective]()
    [row] = found.to_json()

    assert (found.layer, found.objective, found.method, found.units) == ("two", objective, method, (unit,))
    assert found.activation[0] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert (found.random[0] - found.activation[0]) * (1 if objective == "negative" else -1) > 0
    assert json.loads(json.dumps(row, allow_nan=False))["activation"] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert (row["height"], row["width"]) == found.tiles.shape[1:3]
    if method == "certified":
        assert row["bound"] >= row["activation"] > 0
    else:
        assert row["bound"] is None


def test_the_formula_is_exact_for_a_layer_that_sees_the_image(network, tmp_path):
    found = answer(network, ask(network, "one", (0, 1), "neuron", method="analytic"))

    np.testing.assert_allclose(found.activation, [1, 1], rtol=1e-5)  # white by 27 taps of 1 / 27; black by the bias
    np.testing.assert_allclose(found.bound, found.activation, rtol=1e-5)
    assert not found.steps.any()
    with pytest.raises(SettingsError, match="two: is not a Conv directly on the image"):
        answer(network, ask(network, "two", (0,), "neuron", method="analytic"))


@pytest.mark.parametrize("method", ["ascent", "vertex"])
def test_a_class_is_what_was_planted(network, method, tmp_path):
    layer = scores(network)
    longer = Recipe(QUICK.preset, Quality("longer", 64, 0.2, 96, 64))
    question = UnitRequest(layer, "channel", (WHITE, BLACK), longer, method, device="cpu")
    found = answer(network, question)
    middle = found.tiles[:, 2:-2, 2:-2].mean(axis=(1, 2, 3))
    for place in (WHITE, BLACK):
        path = save(found.tiles[place : place + 1], tmp_path / f"{place}.png")
        assert found.activation[place] == pytest.approx(maps_of(network, path, layer.value)[place], rel=1e-4)

    assert found.tiles.shape == (2, SIDE, SIDE, 3)
    assert middle[WHITE] > 200
    assert middle[BLACK] < 55
    assert (found.activation > found.random).all()


def test_several_units_pictures_and_directions_keep_their_places(network, tmp_path):
    diverse = answer(network, ask(network, "two", (2, 0), "diversity"))
    turned = answer(network, ask(network, "two", (0, 1), Direction(np.array([[1, 0, 0], [0.5, 0, 0.5]]))))
    for place, weights in enumerate(([1, 0, 0], [0.5, 0, 0.5])):
        path = save(turned.tiles[place : place + 1], tmp_path / "one.png")
        expected = np.tensordot(weights, maps_of(network, path, "b"), 1).mean()
        assert turned.activation[place] == pytest.approx(expected, rel=1e-4)

    assert diverse.units == (2, 2, 2, 2, 0, 0, 0, 0)
    assert len(diverse.tiles) == len(diverse.to_json()) == 8
    assert turned._repr_html_().count("<img") == 2


def test_a_seed_gives_the_same_picture_and_a_first_one_is_less_work(network):
    question = ask(network, seed=4)
    first, again = answer(network, question), answer(network, question)
    published = replace(question, recipe=Recipe(RECIPES["distill"], QUICK.quality))
    quick = at_quality(published, Quality("first", 3, 0.3, 96, 3))

    np.testing.assert_array_equal(first.tiles, again.tiles)
    assert (published.recipe.steps, quick.recipe.steps) == (512, 3)
    assert answer(network, quick).steps.max() <= 3


@pytest.mark.parametrize("channels", [2, np.int64(2), np.array([2]), [2]], ids=repr)
def test_from_python_the_same_picture_of_a_proven_network(network, channels, monkeypatch):
    proven = []
    monkeypatch.setattr(type(network), "prove", lambda *_: proven.append(1))
    found = fs.maximize(network, "two", channels, recipe=QUICK, device="cpu", seed=3)
    of_class = fs.maximize(network, channels=channels, recipe=QUICK, device="cpu", method="vertex")

    np.testing.assert_array_equal(found.tiles, answer(network, ask(network, "two", (2,), seed=3)).tiles)
    assert (of_class.layer, of_class.units) == ("class scores", (2,))
    assert len(proven) == 2


def test_a_canvas_is_as_asked(network):
    assert answer(network, ask(network, canvas=(6, 11))).tiles.shape == (1, 6, 11, 3)
    with pytest.raises(SettingsError, match=r"^`canvas=2x9`: two does not run on it; give \d+x\d+ or more$"):
        answer(network, ask(network, canvas=(2, 9)))
    with pytest.raises(SettingsError, match="a neuron's canvas is its receptive field"):
        answer(network, ask(network, "two", (0,), "neuron", canvas=(9, 9)))
    with pytest.raises(SettingsError, match="the scores are of whole images, 14x14"):
        answer(network, UnitRequest(scores(network), "channel", (0,), QUICK, canvas=(9, 9)))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"units": (3,)}, "`channel=3`: two has channels 0 to 2"),
        ({"units": (-1,)}, "`channel=-1`: two has channels 0 to 2"),
        ({"units": ()}, "no channel to maximise"),
        ({"method": "magic"}, "`method=magic`: give one of ascent, vertex, analytic, certified"),
        ({"method": "certified"}, "add `objective=neuron`"),
        ({"method": "vertex", "objective": "diversity"}, "makes one picture per unit, but diversity needs several"),
        ({"start": np.zeros((64, 64, 3), np.uint8), "objective": "diversity"}, "`start`: gives all .* one start"),
        ({"objective": "best"}, "`objective=best`: give one of channel, neuron"),
        ({"objective": Direction(np.ones(4)), "units": (0,)}, "4 numbers for a layer of 3 channels"),
        ({"seconds": 0.0}, "`seconds=0.0`: give more than 0"),
        ({"seed": -1}, "`seed=-1`: give 0 or more"),
        ({"device": "toaster"}, "`device=toaster`: not to be had"),
    ],
)
def test_what_does_not_fit_is_told(network, changed, words):
    with pytest.raises(SettingsError, match=words):
        answer(network, ask(network, **changed))


@pytest.mark.parametrize("objective", ["neuron", "diversity"])
def test_scores_have_no_maps(network, objective):
    with pytest.raises(SettingsError, match="class scores have none"):
        UnitRequest(scores(network), objective, (0,), QUICK)


def test_a_layer_that_is_not_two_dimensional_is_refused(network):
    line = dataclasses.replace(network.layer("two"), rank=1)
    with pytest.raises(SettingsError, match="1-d convolutions are listed, but cannot be maximised"):
        UnitRequest(line, "channel", (0,), QUICK)


def test_a_name_must_fit_one_layer(network):
    assert only_layer(network, "tw*").name == "two"
    with pytest.raises(SettingsError, match=r"^`layer=\*`: fits 2 layers, one, two; name one$"):
        only_layer(network, "*")
    with pytest.raises(SettingsError, match="no layer matches 'tvo'; nearest: two"):
        only_layer(network, "tvo")


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    tiles = np.zeros((1, 4, 4, 3), np.uint8)
    folder = tmp_path / "folder.png"
    folder.mkdir()
    with pytest.raises(SettingsError, match=r"^`out=.*away/p\.png`: cannot be written \(no folder .*away\)$"):
        save(tiles, tmp_path / "away" / "p.png")
    with pytest.raises(SettingsError, match=r"folder\.png`: is a folder; give another name"):
        save(tiles, folder)
    with pytest.raises(SettingsError, match=r"p\.jpg`: give a name that ends in \.png$"):
        save(tiles, tmp_path / "p.jpg")
