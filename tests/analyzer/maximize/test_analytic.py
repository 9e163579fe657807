"""Closed-form maximisers against brute force over vertices and against ONNX Runtime."""

import itertools
import math

import numpy as np
import onnx
import pytest

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.bounds.interval_bounds import Interval, intervals
from filterscope.analyzer.maximize.analytic import AnalyticUnits, image_maximisers, input_maximisers
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import PRESETS, custom
from filterscope.analyzer.units.canvas import canvas_for
from filterscope.converters.errors import SettingsError
from support.networks import MODELS, build, needs_data, normal

INVERTED = custom(255, (10, -20, 100), (-60, 40, 90), "BGR")
SIDE = 24


def gabor(count, side, bands=3):
    """(count, bands, side, side): gratings under a bell, turned by equal steps, each band with a sign of its own."""
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    turned = [columns * math.cos(a) + rows * math.sin(a) for a in np.arange(count) * math.pi / count]
    bell = np.exp(-(rows**2 + columns**2) / side)
    gratings = np.stack([bell * np.cos(2 * math.pi * t / 4 + 0.3) for t in turned])
    weights = np.array([1, -0.7, 0.4, 0.9, -0.2])[:bands]
    return (gratings[:, None] * weights[None, :, None, None]).astype(np.float32)


def opened(folder, nodes, constants, preprocessing=PRESETS["unit"], shape=("N", 3, SIDE, SIDE), **options):
    path = folder / "model.onnx"
    onnx.save(build(nodes, constants, shape=shape), path)
    size = tuple(side for side in shape[1:] if side not in (1, 3, 5))[:2]
    return open_network(path, InputOptions(size=size, preprocessing=preprocessing, **options))


def planted(folder, attributes, preprocessing=PRESETS["imagenet"], side=5):
    """Gabor filters on the image, and a second convolution that combines them."""
    nodes = [("Conv", "x k c", "a", attributes), ("Relu", "a", "r"), ("Conv", "r l", "y")]
    constants = {"k": gabor(6, side), "c": normal(6), "l": normal(4, 6, 1, 1)}
    return opened(folder, nodes, constants, preprocessing)


def neurons(network, layer, pixels):
    """What ONNX Runtime gives for the neuron looked at: (pictures, units)."""
    canvas = canvas_for(network, layer, "neuron")
    assert pixels.shape[1:3] == canvas.size
    maps = network.session([layer.value], canvas.size).run(network.input.to_model(pixels))[layer.value]
    return maps[:, :, canvas.row, canvas.column].astype(np.float64)


def check(network, layer, units=None):
    """Every value is what ONNX Runtime measures on its own picture, and no random vertex is better."""
    units = range(layer.out_channels) if units is None else units
    found = image_maximisers(network, layer, units)
    assert found.space == "image"
    chosen = np.arange(len(units))
    own = neurons(network, layer, found.tiles)[chosen, list(units)]
    np.testing.assert_allclose(own, found.values, rtol=1e-5, atol=1e-5 * np.abs(found.values).max())
    size = found.tiles.shape[1:3]
    vertices = np.where(network.random_pixels(64, size, 3) > 127, 255, 0).astype(np.uint8)
    others = neurons(network, layer, np.concatenate([vertices, 255 - found.tiles, network.random_pixels(16, size, 4)]))
    assert np.all(others[:, list(units)].max(axis=0) <= found.values + 1e-4 * np.abs(found.values))
    return found


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pads": [2, 2, 2, 2]},
        {"strides": [2, 2], "pads": [2, 2, 2, 2]},
        {"strides": [3, 2], "pads": [1, 2, 0, 1]},
        {"dilations": [2, 3]},
        {"dilations": [2, 2], "strides": [2, 2], "pads": [4, 4, 4, 4]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [3, 3]},  # pads a small canvas otherwise than the whole input
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID"},
    ],
    ids=str,
)
@pytest.mark.parametrize("preprocessing", [PRESETS["imagenet"], PRESETS["caffe-bgr"], INVERTED], ids=lambda p: p.name)
def test_planted_filters_are_found_and_their_values_measured(attributes, preprocessing, tmp_path):
    network = planted(tmp_path, attributes, preprocessing)
    check(network, network.layers[0])


def test_the_picture_is_the_sign_of_the_filter(tmp_path):
    """RGB and no scaling: what the 2018 rule says, read off the weights."""
    network = planted(tmp_path, {"pads": [2, 2, 2, 2]}, PRESETS["unit"])
    tiles = image_maximisers(network, network.layers[0], [4, 1]).tiles
    signs = np.where(gabor(6, 5)[[4, 1]] > 0, 255, 0).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(tiles, signs)


def test_a_bgr_network_with_a_negative_scale_turns_bands_and_signs(tmp_path):
    network = planted(tmp_path, {}, INVERTED)
    tiles = image_maximisers(network, network.layers[0], [2]).tiles
    kernel = gabor(6, 5)[2]
    blue, green, red = kernel * np.array([-1, 1, 1])[:, None, None]  # the network's first channel is blue, std −60
    np.testing.assert_array_equal(tiles[0], np.where(np.stack([red, green, blue], axis=-1) > 0, 255, 0))


def test_what_has_no_effect_is_the_mean_of_the_domain(tmp_path):
    kernel = gabor(2, 3)
    kernel[:, 1, 0] = 0
    network = opened(tmp_path, [("Conv", "x k", "y", {"dilations": [2, 1]})], {"k": kernel})
    tiles = check(network, network.layers[0]).tiles
    assert tiles.shape == (2, 5, 3, 3)
    assert np.all(tiles[:, 1::2] == 128)  # rows that the dilation skips
    assert np.all(tiles[:, 0, :, 1] == 128)  # weights of zero
    assert np.all(np.isin(tiles[:, 2::2], (0, 255)))


@pytest.mark.parametrize("seed", range(5))
def test_no_vertex_of_all_is_better(seed, tmp_path):
    """2 × 2 pixels of three bands: 4,096 vertices, each measured in ONNX Runtime."""
    constants = {"k": normal(6, 3, 2, 2, seed=seed), "c": normal(6, seed=seed)}
    network = opened(tmp_path, [("Conv", "x k c", "y")], constants, INVERTED, ("N", 3, 8, 8))
    bits = np.array(list(itertools.product((0, 255), repeat=12)), np.uint8).reshape(-1, 2, 2, 3)
    values = neurons(network, network.layers[0], bits)
    found = image_maximisers(network, network.layers[0], range(6))
    np.testing.assert_allclose(found.values, values.max(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(found.tiles, bits[values.argmax(axis=0)])


@pytest.mark.parametrize("bands", [1, 5])
def test_grey_and_multi_band_inputs_have_pictures_too(bands, tmp_path):
    network = opened(
        tmp_path, [("Conv", "x k", "y")], {"k": gabor(4, 5, bands)}, PRESETS["unit"], ("N", bands, SIDE, SIDE)
    )
    assert check(network, network.layers[0]).tiles.shape == (4, 5, 5, bands)


def test_grouped_filters_see_their_own_bands(tmp_path):
    network = opened(tmp_path, [("Conv", "x k", "y", {"group": 3})], {"k": normal(6, 1, 3, 3)}, PRESETS["caffe-bgr"])
    tiles = check(network, network.layers[0]).tiles
    for unit, tile in enumerate(tiles):
        own = 2 - unit // 2  # BGR network, RGB picture
        assert np.all(np.isin(tile[..., own], (0, 255)))
        assert np.all(np.delete(tile, own, axis=-1) == 128)


def test_an_affine_map_before_the_filters_is_followed(tmp_path):
    """NHWC, a negative scale a channel, and a grey image that a mean of three channels makes three."""
    nodes = [("Sub", "x mean", "s"), ("Mul", "s f", "m"), ("Transpose", "m", "t", {"perm": [0, 3, 1, 2]})]
    constants = {"mean": np.array([90, 100, 110], np.float32), "f": np.array([0.1, -0.2, 0.3], np.float32)}
    constants |= {"k": gabor(6, 5), "c": normal(6)}
    network = opened(tmp_path, [*nodes, ("Conv", "t k c", "y")], constants, PRESETS["raw255"], ("N", SIDE, SIDE, 3))
    check(network, network.layers[0])


def test_a_grey_image_that_becomes_three_channels_is_followed(tmp_path):
    constants = {"mean": np.array([0.1, 0.2, 0.3], np.float32).reshape(3, 1, 1), "k": gabor(6, 5)}
    nodes = [("Sub", "x mean", "s"), ("Conv", "s k", "y")]
    network = opened(tmp_path, nodes, constants, PRESETS["unit"], ("N", 1, SIDE, SIDE), channels=1)
    assert check(network, network.layers[0]).tiles.shape == (6, 5, 5, 1)


def test_a_mean_image_is_taken_at_the_place_that_is_measured(tmp_path):
    nodes = [("Sub", "x mean", "s"), ("Mul", "s f", "m"), ("Conv", "m k", "y")]
    constants = {"mean": normal(1, 3, SIDE, SIDE), "f": normal(1, 1, SIDE, SIDE), "k": gabor(6, 5)}
    network = opened(tmp_path, nodes, constants)
    tiles = check(network, network.layers[0]).tiles
    assert tiles.shape == (6, SIDE, SIDE, 3)  # a mean image fits no smaller canvas
    assert np.mean(tiles != 128) == pytest.approx(25 / SIDE**2)


def test_an_input_smaller_than_the_field_leaves_some_taps_on_padding(tmp_path):
    network = opened(tmp_path, [("Conv", "x k", "y", {"pads": [4, 4, 4, 4]})], {"k": gabor(6, 9)}, shape=("N", 3, 6, 7))
    assert check(network, network.layers[0]).tiles.shape == (6, 6, 7, 3)


def test_channels_may_be_some_in_any_order(tmp_path):
    network = planted(tmp_path, {})
    everything = image_maximisers(network, network.layers[0], range(6))
    some = check(network, network.layers[0], [5, 0, 3])
    np.testing.assert_array_equal(some.tiles, everything.tiles[[5, 0, 3]])
    np.testing.assert_array_equal(some.values, everything.values[[5, 0, 3]])


def test_a_deeper_layer_has_no_picture_in_closed_form(tmp_path):
    network = planted(tmp_path, {})
    with pytest.raises(SettingsError, match="is not a Conv directly on the image"):
        image_maximisers(network, network.layers[1], [0])


def test_a_kernel_computed_at_run_time_has_no_closed_form(tmp_path):
    nodes = [("ReduceMean", "x axes", "k"), ("Conv", "x k", "y", {"auto_pad": "VALID"})]
    network = opened(tmp_path, nodes, {"axes": np.array([0])}, shape=(1, 3, SIDE, SIDE), layout="NCHW", channels=3)
    with pytest.raises(SettingsError, match="constant weights"):
        input_maximisers(network, network.layers[0], [0], None)


# --- in the space of the layer's own input


def patches_of(tile, count, kernel):
    """The first patches of a mosaic, and what is left of it."""
    columns = math.ceil(math.sqrt(count))
    cells = tile[..., 0].reshape(-1, kernel[0], columns, kernel[1]).swapaxes(1, 2).reshape(-1, *kernel)
    return cells[:count], cells[count:]


@pytest.mark.parametrize(
    ("op", "shape", "attributes"),
    [
        ("Conv", (5, 6, 3, 3), {}),
        ("Conv", (5, 6, 1, 1), {}),
        ("Conv", (6, 1, 3, 2), {"group": 6}),
        ("Conv", (4, 3, 2, 3), {"group": 2, "dilations": [2, 2]}),
        ("ConvTranspose", (6, 4, 2, 2), {"strides": [2, 2]}),
        ("ConvTranspose", (6, 2, 3, 2), {"group": 3}),
    ],
    ids=str,
)
def test_a_pattern_is_the_sign_of_every_weight_of_its_group(op, shape, attributes, tmp_path):
    weight = normal(*shape)
    weight.reshape(-1)[::5] = 0
    nodes = [("Conv", "x k", "a"), (op, "a w", "y", attributes)]
    network = opened(tmp_path, nodes, {"k": gabor(6, 3), "w": weight})
    layer = network.layers[1]
    found = input_maximisers(network, layer, range(layer.out_channels), None)
    assert found.space == "input"
    assert np.isnan(found.values).all()
    groups = attributes.get("group", 1)
    own = 6 // groups
    for unit in range(layer.out_channels):
        group, within = divmod(unit, layer.out_channels // groups)
        wanted = weight[unit] if op == "Conv" else weight[group * own : (group + 1) * own, within]
        shown, rest = patches_of(found.tiles[unit], own, shape[2:])
        np.testing.assert_array_equal(shown, np.where(wanted > 0, 255, np.where(wanted < 0, 0, 128)))
        assert np.all(rest == 128)


def test_pointwise_patterns_over_960_channels_are_31_pixels_square(tmp_path):
    nodes = [("Conv", "x k", "a"), ("Conv", "a w", "y")]
    network = opened(tmp_path, nodes, {"k": normal(960, 3, 1, 1), "w": normal(2, 960, 1, 1)}, shape=("N", 3, 8, 8))
    assert input_maximisers(network, network.layers[1], [1], None).tiles.shape == (1, 31, 31, 1)


@pytest.mark.parametrize("group", [1, 2])
def test_the_value_of_a_pattern_is_the_best_over_all_vertices_of_the_ranges(group, tmp_path):
    weight, bias = normal(4, 4 // group, 2, 1), normal(4)
    nodes = [("Conv", "x k", "a"), ("Conv", "a w c", "y", {"group": group})]
    network = opened(tmp_path, nodes, {"k": normal(4, 3, 1, 1), "w": weight, "c": bias}, shape=("N", 3, 8, 8))
    ranges = Interval(np.array([-1.0, 0.5, -3.0, 2.0]), np.array([2.0, 4.0, -1.0, 2.5]))
    found = input_maximisers(network, network.layers[1], range(4), ranges)
    for unit in range(4):
        own = np.arange(4).reshape(group, -1)[unit // (4 // group)]
        ends = [(ranges.low[channel], ranges.high[channel]) for channel in np.repeat(own, 2)]
        best = max(float(np.dot(weight[unit].reshape(-1), vertex)) for vertex in itertools.product(*ends))
        assert found.values[unit] == pytest.approx(bias[unit] + best, rel=1e-6)


def test_an_unbounded_channel_leaves_no_value_but_to_units_that_ignore_it(tmp_path):
    weight = normal(3, 2, 1, 1)
    weight[1, 0] = 0
    network = opened(tmp_path, [("Conv", "x k", "a"), ("Conv", "a w", "y")], {"k": normal(2, 3, 1, 1), "w": weight})
    ranges = Interval(np.array([-np.inf, 0.0]), np.array([np.inf, 1.0]))
    values = input_maximisers(network, network.layers[1], range(3), ranges).values
    assert np.isnan(values).tolist() == [True, False, True]


def test_a_first_layer_says_the_same_of_its_input_as_of_the_image(tmp_path):
    network = planted(tmp_path, {}, INVERTED)
    layer = network.layers[0]
    by_input = input_maximisers(network, layer, range(6), intervals(network)[layer.source])
    np.testing.assert_allclose(by_input.values, image_maximisers(network, layer, range(6)).values, rtol=1e-5)


def test_units_check_themselves():
    with pytest.raises(ValueError, match="do not fit"):
        AnalyticUnits(np.zeros((2, 3, 3, 1), np.uint8), np.zeros(3), "image")


REAL = ["svhn_cnn6.onnx", "mnist_cntk.onnx", "ppocr_v4_det.onnx", "ultraface_rfb_320.onnx"]


@needs_data
@pytest.mark.parametrize("file", [*REAL, "mobilenetv2_fp32_dequant.onnx"])
def test_every_layer_of_a_real_network_has_patterns_below_its_bounds(file):
    network = open_network(MODELS / file)
    found = intervals(network)
    check(network, network.layers[0])
    for layer in network.layers:
        units = input_maximisers(network, layer, range(layer.out_channels), found[layer.source])
        own = layer.in_channels // layer.groups
        columns = math.ceil(math.sqrt(own))
        height, width = math.ceil(own / columns) * layer.kernel[0], columns * layer.kernel[1]
        assert units.tiles.shape == (layer.out_channels, height, width, 1)
        assert np.isfinite(units.values).all()
        if layer.op == "Conv" and not any(layer.pads):
            source = max(abs(found[layer.source].low).max(), abs(found[layer.source].high).max())
            reach = abs(layer.weight).sum(axis=(1, 2, 3)) * source + abs(layer.bias_vector)  # of all terms together
            assert np.all(found[layer.value].high - units.values <= 1e-3 * reach), layer.name
        if layer.op == "Conv":
            assert np.all(units.values <= found[layer.value].high), layer.name
