"""Gradient ascent: what it must find on networks whose answer is known, and the laws it keeps."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.compute.last_convolution import Directions
from filterscope.analyzer.compute.pixels import input_map
from filterscope.analyzer.maximize import engine
from filterscope.analyzer.maximize.engine import ascend
from filterscope.analyzer.maximize.objective_gradient import ObjectiveGradient
from filterscope.analyzer.maximize.presets import PRESETS, QUALITIES, Recipe, quality_named
from filterscope.analyzer.maximize.problem import Problem
from filterscope.analyzer.maximize.regularisers import L2
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import preset
from filterscope.analyzer.network.receptive_fields import Field
from filterscope.analyzer.units.canvas import Canvas, canvas_for
from filterscope.analyzer.units.jitter import jitters, longest_shift
from filterscope.analyzer.units.measure import Meter, shifted
from filterscope.analyzer.units.objectives import Channel, Direction, Diversity, Layer, between, objective_for
from filterscope.converters.errors import SettingsError
from support.networks import build

CPU = torch.device("cpu")
ORIENTATIONS = 8


def gabor(size: int, angle: float, phase: float, wavelength: float = 4.0) -> np.ndarray:
    """(size, size) grating under a Gaussian window, without its mean."""
    at = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(at, at, indexing="ij")
    wave = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength + phase)
    window = np.exp(-(x**2 + y**2) / (2 * (size / 4) ** 2))
    return np.asarray((wave - (wave * window).sum() / window.sum()) * window)


def planted(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Kernels of two layers: RGB Gabors, and sums of two Gabors each at places of their own."""
    angles = np.pi * np.arange(ORIENTATIONS) / ORIENTATIONS
    colours = rng.uniform(0.3, 1.0, (ORIENTATIONS, 3)) * rng.choice([-1, 1], (ORIENTATIONS, 3))
    first = np.stack([c[:, None, None] * gabor(7, a, 0.5) for a, c in zip(angles, colours, strict=True)])
    second = np.zeros((4, ORIENTATIONS, 3, 3))
    for unit in range(4):
        second[unit, unit, 0, 0] = 1.0
        second[unit, unit + 4, 2, 2] = 1.0
    return first.astype(np.float32), second.astype(np.float32)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    first, second = planted(np.random.default_rng(5))
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], "one", pads=[3, 3, 3, 3]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w2"], ["b"], "two", strides=[4, 4], dilations=[4, 4]),
    ]
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, ["N", 4, "h", "w"])],
        [numpy_helper.from_array(first, "w1"), numpy_helper.from_array(second, "w2")],
    )
    path = tmp_path_factory.mktemp("planted") / "planted.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return open_network(path, InputOptions(preprocessing=preset("symmetric")))


def climb(network, layer, canvas, objective, units, quality="draft", seed=0, preset="filterscope"):
    recipe = Recipe(PRESETS[preset], QUALITIES[quality])
    return ascend(
        Problem(network, layer, canvas, objective_for(objective, canvas)), units, recipe, seed=seed, device=CPU
    )


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_ascent_finds_planted_gabors(network):
    """The maximiser of a first-layer neuron is the sign of its kernel: known without any search."""
    layer = network.layer("one")
    canvas = canvas_for(network, layer, "neuron")
    found = climb(network, layer, canvas, "neuron", range(ORIENTATIONS), "standard", 0)
    known = np.sign(layer.weight).transpose(0, 2, 3, 1)
    values = Meter(network, layer, canvas, objective_for("neuron", canvas)).activation(
        found.tiles, np.arange(ORIENTATIONS)
    )
    best = np.abs(layer.weight).sum(axis=(1, 2, 3))
    top = layer.field.at(canvas.row, canvas.column)
    tiles = found.tiles[:, top[0] : top[0] + 7, top[1] : top[1] + 7]

    assert min(correlation(tile, picture) for tile, picture in zip(tiles, known, strict=True)) > 0.95
    assert (values >= 0.99 * best).all()
    assert (values <= best * (1 + 1e-5)).all()


def test_ascent_finds_planted_combinations(network):
    """Each second-layer unit wants two Gabors that do not overlap: its maximiser is both, side by side."""
    layer = network.layer("two")
    canvas = canvas_for(network, layer, "neuron")
    first = network.layer("one").weight
    found = climb(network, layer, canvas, "neuron", range(4), "standard", 0)
    top, left = layer.field.at(canvas.row, canvas.column)
    for unit in range(4):
        picture = found.tiles[unit].astype(float)
        here = picture[top : top + 7, left : left + 7]
        there = picture[top + 8 : top + 15, left + 8 : left + 15]
        assert correlation(here, np.sign(first[unit]).transpose(1, 2, 0)) > 0.95
        assert correlation(there, np.sign(first[unit + 4]).transpose(1, 2, 0)) > 0.95
    best = [np.abs(first[unit]).sum() + np.abs(first[unit + 4]).sum() for unit in range(4)]
    values = Meter(network, layer, canvas, objective_for("neuron", canvas)).activation(found.tiles, np.arange(4))

    np.testing.assert_allclose(values, best, rtol=0.02)


def test_the_same_seed_gives_the_same_pictures_in_any_batch(network):
    layer = network.layer("two")
    canvas = canvas_for(network, layer, "channel")
    together = climb(network, layer, canvas, "channel", [0, 1, 2, 3], "draft", 3)
    again = climb(network, layer, canvas, "channel", [0, 1, 2, 3], "draft", 3)
    alone = climb(network, layer, canvas, "channel", [2], "draft", 3)
    meter = Meter(network, layer, canvas, objective_for("channel", canvas))
    values = meter.activation(together.tiles, np.arange(4))

    np.testing.assert_array_equal(together.tiles, again.tiles)
    np.testing.assert_allclose(meter.activation(alone.tiles, np.array([2])), values[2:3], rtol=0.01)


def test_another_seed_gives_another_picture(network):
    layer = network.layer("two")
    canvas = canvas_for(network, layer, "channel")
    pictures = [climb(network, layer, canvas, "channel", [0], "draft", seed).tiles for seed in (0, 1)]

    assert (pictures[0] != pictures[1]).any()


def test_a_converged_unit_leaves_before_the_last_step(network):
    layer = network.layer("one")
    canvas = canvas_for(network, layer, "neuron")
    found = climb(network, layer, canvas, "neuron", [0], "fine", 0)

    assert found.steps[0] < QUALITIES["fine"].steps


def test_a_unit_of_zeros_is_finite_and_not_raised(network):
    """A dead unit has no gradient: its picture is the start, and the meter says that it was not raised."""
    layer = network.layer("two")
    silent = type(layer)(**{f: getattr(layer, f) for f in layer.__slots__} | {"weight": np.zeros_like(layer.weight)})
    canvas = canvas_for(network, layer, "channel")
    found = climb(network, silent, canvas, "channel", [0], "draft", 0)

    assert not found.diverged[0]
    assert abs(found.tiles.astype(int) - 128).max() < 16


def test_a_unit_with_an_infinite_gradient_diverges_alone(network):
    layer = network.layer("two")
    weight = layer.weight.copy()
    weight[1] = np.inf
    broken = type(layer)(**{f: getattr(layer, f) for f in layer.__slots__} | {"weight": weight})
    canvas = canvas_for(network, layer, "channel")
    found = climb(network, broken, canvas, "channel", [0, 1, 2], "draft", 0)

    assert found.diverged.tolist() == [False, True, False]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(
    ("kernel", "stride", "pads"), [(3, 1, (1, 1, 1, 1)), (1, 1, (0, 0, 0, 0)), (3, 2, (0, 1, 2, 0))]
)
def test_the_last_convolution_alone_equals_the_whole_layer(network, groups, kernel, stride, pads):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8, 4 // groups, kernel, kernel)).astype(np.float32)
    bias = rng.normal(size=8).astype(np.float32)
    base = network.layer("two")
    changed = {
        "weight": weight,
        "bias_vector": bias,
        "groups": groups,
        "in_channels": 4,
        "out_channels": 8,
        "kernel": (kernel, kernel),
        "stride": (stride, stride),
        "dilation": (1, 1),
        "pads": pads,
    }
    layer = type(base)(**{f: getattr(base, f) for f in base.__slots__} | changed)
    channels = torch.tensor([0, 3, 7, 7, 4])
    x = torch.tensor(rng.normal(size=(5, 4, 9, 10)).astype(np.float32))
    top, left, bottom, right = pads
    padded = torch.nn.functional.pad(x, (left, right, top, bottom))
    whole = torch.nn.functional.conv2d(padded, torch.tensor(weight), torch.tensor(bias), stride, groups=groups)
    found = Directions.of(layer, np.eye(8, dtype=np.float32)[channels], CPU, torch.float32).maps(x)

    torch.testing.assert_close(found, whole[torch.arange(5), channels], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["unit", "imagenet", "caffe-bgr", "raw255"])
def test_torch_and_onnx_runtime_are_fed_the_same_numbers(network, name):
    spec = open_network(network.model.path, InputOptions(preprocessing=preset(name))).input
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 7, 3), dtype=np.uint8)
    fed = input_map(spec, CPU)(torch.tensor(pixels / 255.0, dtype=torch.float32).permute(0, 3, 1, 2))

    np.testing.assert_allclose(fed.numpy(), spec.to_model(pixels), rtol=1e-5, atol=1e-4)


def test_a_shift_repeats_the_edge():
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 3, 4, 1)

    assert shifted(pixels, 1, 0, (1, 2))[0, :, 0, 0].tolist() == [0, 0, 4]
    assert shifted(pixels, 0, -2, (1, 2))[0, 0, :, 0].tolist() == [2, 3, 3, 3]


def test_jitter_is_four_per_cent_of_the_canvas_and_fixed():
    draws = jitters((100, 50))

    assert draws.shape == (16, 2)
    assert abs(draws[:, 0]).max() <= 4
    assert abs(draws[:, 1]).max() <= 2
    np.testing.assert_array_equal(draws, jitters((100, 50)))


@pytest.mark.parametrize(("size", "pixels"), [((5, 5), 0), ((12, 12), 0), ((12, 13), 1), ((50, 100), 4)])
def test_the_longest_shift_is_in_whole_pixels(size, pixels):
    assert longest_shift(size) == pixels == abs(jitters(size)).max()


def test_a_picture_too_small_to_shift_has_no_number_under_shifts(network):
    """It had its own activation, as if it had been shifted and had lost nothing."""
    layer, units = network.layer("one"), np.arange(2)
    for side, is_measured in ((7, False), (12, False), (13, True)):
        pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
        meter = Meter(network, layer, Canvas(side, side, None, None))

        assert np.isfinite(meter.robust(pixels, units)).tolist() == [is_measured] * 2


def test_a_neurons_canvas_holds_its_field_without_padding(network):
    layer = network.layer("one")
    canvas = canvas_for(network, layer, "neuron")
    top, left = layer.field.at(canvas.row, canvas.column)

    assert canvas == Canvas(7, 7, 3, 3)
    assert (top, left) == (0, 0)
    assert isinstance(layer.field, Field)


def test_a_channels_canvas_has_three_by_three_neurons(network):
    for layer in network.layers:
        canvas = canvas_for(network, layer, "channel")
        maps = network.session([layer.value], canvas.size).run(
            network.input.to_model(np.zeros((1, *canvas.size, 3), np.uint8))
        )[layer.value]
        assert min(maps.shape[2:]) >= 3
        assert max(canvas.size) <= 32


def test_out_of_memory_makes_smaller_batches_and_is_said_once(network, monkeypatch, caplog):
    layer = network.layers[0]
    canvas = canvas_for(network, layer, "channel")
    whole = climb(network, layer, canvas, "channel", [0, 1, 2, 3, 4])
    sizes = []

    def raised(self, pictures, asked, opened=False, real=ObjectiveGradient.evaluate):
        sizes.append(len(pictures))
        if len(pictures) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, pictures, asked, opened)

    monkeypatch.setattr(ObjectiveGradient, "evaluate", raised)
    engine._warn_once.cache_clear()
    parts = climb(network, layer, canvas, "channel", [0, 1, 2, 3, 4])

    assert sorted(set(sizes)) == [1, 2, 5]
    assert sizes.count(5) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "a batch did not fit into the device's memory; smaller batches follow"
    ]
    meter = Meter(network, layer, canvas)
    channels = np.arange(5)
    np.testing.assert_allclose(
        meter.activation(parts.tiles, channels), meter.activation(whole.tiles, channels), rtol=0.01
    )

    monkeypatch.setattr(ObjectiveGradient, "evaluate", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("none")))
    with pytest.raises(SettingsError, match="too little memory for the ascent of one picture"):
        climb(network, layer, canvas, "channel", [0])


def test_an_unknown_quality_is_named():
    with pytest.raises(SettingsError, match="draft, standard, fine"):
        quality_named("best")


def test_a_negative_is_low_where_the_channel_is_high(network):
    layer = network.layer("two")
    canvas = canvas_for(network, layer, "channel")
    meter = Meter(network, layer, canvas, objective_for("negative", canvas))
    units = np.arange(4)
    found = climb(network, layer, canvas, "negative", units.tolist())

    assert (meter.activation(found.tiles, units) < 0.5 * meter.best_of_random(units)).all()


def test_a_direction_is_the_sum_of_its_channels(network):
    """On a layer whose channels are planted, half of two of them wants both."""
    layer = network.layer("one")
    canvas = canvas_for(network, layer, "channel")
    objective = between(1, 6, 3, ORIENTATIONS)
    found = ascend(
        Problem(network, layer, canvas, objective),
        range(3),
        Recipe(PRESETS["filterscope"], QUALITIES["draft"]),
        seed=0,
        device=CPU,
    )
    maps = Meter(network, layer, canvas, Channel())
    of_first, of_second = (maps.activation(found.tiles, np.full(3, unit)) for unit in (1, 6))

    assert of_first[0] > of_first[1] > of_first[2]
    assert of_second[0] < of_second[1] < of_second[2]
    np.testing.assert_allclose(
        Meter(network, layer, canvas, objective).activation(found.tiles, np.arange(3)),
        [1, 0.5, 0] * of_first + [0, 0.5, 1] * of_second,
        rtol=1e-5,
    )


def test_diverse_pictures_of_a_channel_differ_more_than_different_seeds(network):
    layer = network.layer("two")
    canvas = canvas_for(network, layer, "channel")
    recipe = Recipe(PRESETS["filterscope"], QUALITIES["draft"])
    alike, diverse = (
        ascend(Problem(network, layer, canvas, Diversity(3, weight)), [0, 1], recipe, seed=0, device=CPU).tiles
        for weight in (0.0, 2.0)
    )

    def likeness(tiles):
        source = network.session([layer.source], canvas.size).run(network.input.to_model(tiles))[layer.source]
        return Diversity(3, 1.0).penalty(torch.from_numpy(source)).numpy().reshape(2, 3).mean(axis=1)

    assert len(diverse) == 6
    assert (likeness(diverse) < likeness(alike)).all()


def test_all_of_a_layer_is_the_mean_of_squares(network):
    layer = network.layer("one")
    canvas = canvas_for(network, layer, "channel")
    meter = Meter(network, layer, canvas, Layer())
    found = climb(network, layer, canvas, "layer", [0])
    maps = network.session([layer.value], canvas.size).run(network.input.to_model(found.tiles))[layer.value]

    np.testing.assert_allclose(meter.activation(found.tiles, np.array([0])), (maps**2).mean(), rtol=1e-6)
    assert meter.activation(found.tiles, np.array([0])) > meter.best_of_random(np.array([0]))


@pytest.mark.parametrize("preset_name", sorted(PRESETS))
def test_every_preset_climbs(network, preset_name):
    layer = network.layer("two")
    canvas = canvas_for(network, layer, "channel")
    objective = objective_for("channel", canvas)
    reached = []
    for steps in (1, 40):
        recipe = Recipe(replace(PRESETS[preset_name], steps=steps), QUALITIES["draft"])
        found = ascend(Problem(network, layer, canvas, objective), range(4), recipe, seed=0, device=CPU)
        reached.append(Meter(network, layer, canvas, objective).activation(found.tiles, np.arange(4)))

    assert reached[1].sum() > 1.1 * reached[0].sum()


def test_an_ascent_begins_at_given_pictures(network):
    layer = network.layer("two")
    canvas = canvas_for(network, layer, "neuron")
    objective = objective_for("neuron", canvas)
    recipe = Recipe(PRESETS["filterscope"], QUALITIES["draft"])
    first = climb(network, layer, canvas, "neuron", range(4), "standard")
    again = ascend(Problem(network, layer, canvas, objective), range(4), recipe, seed=0, device=CPU, start=first.tiles)
    meter = Meter(network, layer, canvas, objective)
    values = [meter.activation(found.tiles, np.arange(4)) for found in (first, again)]

    assert (values[1] >= 0.99 * values[0]).all()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: Direction(np.zeros(4)), "not all of them 0"),
        (lambda: Direction(np.ones(3)).direction(0, 8), "3 numbers for a layer of 8 channels"),
        (lambda: between(0, 9, 3, 8), "`pair=0,9`: the layer has channels 0 to 7"),
        (lambda: Diversity(1), "give 2 pictures or more"),
        (lambda: Diversity(2, -0.5), "diversity weight -0.5: give 0 or more"),
        (lambda: objective_for("best", Canvas(8, 8, None, None)), "give one of channel, neuron"),
    ],
)
def test_a_wrong_objective_is_named(made, words):
    with pytest.raises(SettingsError, match=words):
        made()


@pytest.mark.parametrize("penalties", [(), (L2(0.01),)])
def test_a_unit_behind_closed_relus_is_woken_alone(tmp_path, penalties):
    """Its only ReLU is closed at the start; the other unit's is open, and it climbs as without the sleeper."""
    first = np.stack([np.full((3, 5, 5), value, np.float32) for value in (0.1, -0.1)])
    constants = {"k": first, "c": np.array([-5, 1], np.float32), "w": np.eye(2, dtype=np.float32)[:, :, None, None]}
    nodes = [("Conv", "x k c", "a"), ("Relu", "a", "r"), ("Conv", "r w", "y")]
    path = tmp_path / "sleeper.onnx"
    onnx.save(build(nodes, constants, shape=("N", 3, 24, 24)), path)
    network = open_network(path, InputOptions(preprocessing=preset("symmetric")))
    layer = network.layers[1]
    canvas = canvas_for(network, layer, "channel", None)
    problem = Problem(network, layer, canvas, Channel())
    own = replace(PRESETS["filterscope"], penalties=penalties)
    recipe = Recipe(own, QUALITIES["draft"])
    both = ascend(problem, [0, 1], recipe, seed=0, device=CPU)
    asleep = ascend(problem, [0], Recipe(replace(own, redirect="never"), QUALITIES["draft"]), seed=0, device=CPU)
    alone = ascend(problem, [1], recipe, seed=0, device=CPU)
    meter = Meter(network, layer, canvas, Channel())
    woken, other = meter.activation(both.tiles, np.array([0, 1]))
    assert woken > 0.5
    assert meter.activation(asleep.tiles, np.array([0]))[0] == 0
    assert other > 0
    np.testing.assert_array_equal(both.tiles[1], alone.tiles[0])


@pytest.mark.parametrize(
    ("objective", "canvas", "runs", "seen"),
    [
        ("channel", Canvas(160, 128, None, None), True, (128, 96)),
        ("channel", Canvas(160, 128, None, None), False, (160, 128)),
        ("channel", Canvas(96, 160, None, None), True, (96, 160)),
        ("neuron", Canvas(160, 128, 3, 4), True, (160, 128)),
    ],
    ids=["window", "one size alone", "small", "neuron"],
)
def test_the_network_sees_windows_of_a_large_picture_alone(network, monkeypatch, objective, canvas, runs, seen):
    """Unless it runs at one size only, or the objective reads one place of the map."""
    sizes, evaluate = set(), ObjectiveGradient.evaluate

    def watched(slope, pictures, *others):
        sizes.add(tuple(pictures.shape[2:]))
        return evaluate(slope, pictures, *others)

    monkeypatch.setattr(ObjectiveGradient, "evaluate", watched)
    if not runs:
        monkeypatch.setattr(ObjectiveGradient, "runs_on", lambda slope, size: False)
    problem = Problem(network, network.layer("two"), canvas, objective_for(objective, canvas))
    climbed = ascend(problem, [0, 1], Recipe.named("strong").with_steps(3), seed=0, device=CPU)

    assert sizes == {seen}
    assert climbed.tiles.shape == (2, *canvas.size, 3)


def test_whether_a_network_runs_at_a_size_is_tried(network):
    canvas = Canvas(32, 32, None, None)
    slope = ObjectiveGradient(Problem(network, network.layer("two"), canvas, objective_for("channel", canvas)), CPU)

    assert slope.runs_on((24, 40))
    assert not slope.runs_on((0, 0))
