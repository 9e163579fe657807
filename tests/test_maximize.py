"""Gradient ascent: what it must find on networks whose answer is known, and the laws it keeps."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from analyzer.canvas import Canvas, canvas_for
from analyzer.fields import Field
from analyzer.inputs import preset
from analyzer.maximize.engine import ascend, choose_device, input_map
from analyzer.maximize.objectives import Units
from analyzer.maximize.parameters import Fourier, Pixels
from analyzer.maximize.presets import QUALITIES, quality
from analyzer.maximize.transforms import STILL, Strength, transform
from analyzer.measure import Meter, jitters, shifted
from analyzer.network import InputOptions, open_network
from converters.errors import SettingsError

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


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_ascent_finds_planted_gabors(network):
    """The maximiser of a first-layer neuron is the sign of its kernel: known without any search."""
    layer = network.layer("one")
    canvas = canvas_for(network, layer, "neuron")
    found = ascend(network, layer, canvas, "neuron", range(ORIENTATIONS), QUALITIES["standard"], 0, CPU)
    known = np.sign(layer.weight).transpose(0, 2, 3, 1)
    values = Meter(network, layer, canvas).activation(found.tiles, np.arange(ORIENTATIONS))
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
    found = ascend(network, layer, canvas, "neuron", range(4), QUALITIES["standard"], 0, CPU)
    top, left = layer.field.at(canvas.row, canvas.column)
    for unit in range(4):
        picture = found.tiles[unit].astype(float)
        here = picture[top : top + 7, left : left + 7]
        there = picture[top + 8 : top + 15, left + 8 : left + 15]
        assert correlation(here, np.sign(first[unit]).transpose(1, 2, 0)) > 0.95
        assert correlation(there, np.sign(first[unit + 4]).transpose(1, 2, 0)) > 0.95
    best = [np.abs(first[unit]).sum() + np.abs(first[unit + 4]).sum() for unit in range(4)]
    values = Meter(network, layer, canvas).activation(found.tiles, np.arange(4))

    np.testing.assert_allclose(values, best, rtol=0.02)


def test_the_same_seed_gives_the_same_pictures_in_any_batch(network):
    layer = network.layer("two")
    canvas = canvas_for(network, layer, "channel")
    together = ascend(network, layer, canvas, "channel", [0, 1, 2, 3], QUALITIES["draft"], 3, CPU)
    again = ascend(network, layer, canvas, "channel", [0, 1, 2, 3], QUALITIES["draft"], 3, CPU)
    alone = ascend(network, layer, canvas, "channel", [2], QUALITIES["draft"], 3, CPU)
    meter = Meter(network, layer, canvas)
    values = meter.activation(together.tiles, np.arange(4))

    np.testing.assert_array_equal(together.tiles, again.tiles)
    np.testing.assert_allclose(meter.activation(alone.tiles, np.array([2])), values[2:3], rtol=0.01)


def test_another_seed_gives_another_picture(network):
    layer = network.layer("two")
    canvas = canvas_for(network, layer, "channel")
    pictures = [ascend(network, layer, canvas, "channel", [0], QUALITIES["draft"], seed, CPU).tiles for seed in (0, 1)]

    assert (pictures[0] != pictures[1]).any()


def test_a_converged_unit_leaves_before_the_last_step(network):
    layer = network.layer("one")
    canvas = canvas_for(network, layer, "neuron")
    found = ascend(network, layer, canvas, "neuron", [0], QUALITIES["fine"], 0, CPU)

    assert found.steps[0] < QUALITIES["fine"].steps


def test_a_unit_of_zeros_is_finite_and_not_raised(network):
    """A dead unit has no gradient: its picture is the start, and the meter says that it was not raised."""
    layer = network.layer("two")
    silent = type(layer)(**{f: getattr(layer, f) for f in layer.__slots__} | {"weight": np.zeros_like(layer.weight)})
    canvas = canvas_for(network, layer, "channel")
    found = ascend(network, silent, canvas, "channel", [0], QUALITIES["draft"], 0, CPU)

    assert not found.diverged[0]
    assert abs(found.tiles.astype(int) - 128).max() < 16


def test_a_unit_with_an_infinite_gradient_diverges_alone(network):
    layer = network.layer("two")
    weight = layer.weight.copy()
    weight[1] = np.inf
    broken = type(layer)(**{f: getattr(layer, f) for f in layer.__slots__} | {"weight": weight})
    canvas = canvas_for(network, layer, "channel")
    found = ascend(network, broken, canvas, "channel", [0, 1, 2], QUALITIES["draft"], 0, CPU)

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
    found = Units.of(layer, channels, CPU).maps(x)

    torch.testing.assert_close(found, whole[torch.arange(5), channels], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [Fourier, Pixels])
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_pictures_never_leave_the_domain(kind, bands):
    held = kind([[0, 1], [0, 2]], (bands, 13, 20), CPU)
    with torch.no_grad():
        held.values.mul_(1e4)
    held.constrain()
    pictures = held.pictures()

    assert pictures.shape == (2, bands, 13, 20)
    assert float(pictures.detach().min()) >= 0.0
    assert float(pictures.detach().max()) <= 1.0


def test_a_transform_of_no_strength_is_the_identity():
    x = torch.rand(2, 3, 10, 14)

    assert transform(x, STILL, 0, 5) is x
    torch.testing.assert_close(transform(x, Strength(0.0, 0.0, 1e-9), 0, 5), x, rtol=1e-4, atol=1e-4)


def test_a_transform_keeps_pictures_inside_the_domain_and_moves_them():
    x = torch.rand(2, 3, 24, 32)
    moved = transform(x, Strength(0.1, 10.0, 0.1), 0, 1)

    assert float(moved.min()) >= 0.0
    assert float(moved.max()) <= 1.0
    assert (moved != x).any()


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
    assert not jitters((5, 5)).any()


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


def test_an_unknown_quality_or_device_is_named():
    with pytest.raises(SettingsError, match="draft, standard, fine"):
        quality("best")
    with pytest.raises(SettingsError, match="not to be had"):
        choose_device("cuda:7" if not torch.cuda.is_available() else "xpu")
