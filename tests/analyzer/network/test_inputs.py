"""The network's input as understood: numbers for pixels, and what graph and metadata give away."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterscope.analyzer.data import images
from filterscope.analyzer.network.inputs import (
    DeclaredInput,
    InputSpec,
    guess_preprocessing,
    image_input,
    input_spec,
    layout_of,
    size_of,
)
from filterscope.analyzer.network.preprocessing import PRESETS, custom, preset
from filterscope.converters.errors import InputError, SettingsError
from support.graphs import KERNEL, graph_of
from support.paths import DATA

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real models and images are not beside the project")

SVHN = custom(1, (0.4377, 0.4438, 0.4728), (0.198, 0.201, 0.197))


def spec(preprocessing=PRESETS["unit"], channels=3, layout="NCHW", height=4, width=5):
    return InputSpec("x", layout, channels, height, width, preprocessing, "From a test.", True, True)


# --- pixels to numbers and back


def by_hand(name, pixels):
    """The formulas of the presets as their users write them down, RGB and channels last."""
    if name == "caffe-bgr":
        return pixels[..., ::-1].astype(float) - [104, 117, 123]
    mean, std = {"imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), "symmetric": (0.5, 0.5)}.get(name, (0, 1))
    return pixels.astype(float) if name == "raw255" else (pixels / 255 - mean) / std


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_gives_the_numbers_of_its_formula_and_returns_the_pixels(name, layout):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    expected = by_hand(name, pixels)
    if layout == "NCHW":
        expected = expected.transpose(0, 3, 1, 2)
    x = spec(preset(name), layout=layout).to_model(pixels)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(spec(preset(name), layout=layout).to_pixels(x), pixels)


@given(
    high=st.sampled_from([1.0, 255.0]),
    mean=st.lists(st.floats(-200, 200), min_size=3, max_size=3),
    std=st.lists(st.floats(0.01, 300), min_size=3, max_size=3),
    signs=st.lists(st.sampled_from([-1, 1]), min_size=3, max_size=3),
    order=st.sampled_from(["RGB", "BGR"]),
)
def test_black_and_white_are_the_ends_of_the_domain_and_nothing_lies_outside(high, mean, std, signs, order):
    made = spec(custom(high, mean, [s * sign for s, sign in zip(std, signs, strict=True)], order))
    every = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 16, 16, 3)
    x = made.to_model(every)[0].reshape(3, -1)
    low, high_end = made.domain()
    np.testing.assert_allclose(x.min(1), low, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(x.max(1), high_end, rtol=1e-6, atol=1e-6)
    scale, offset = made.affine()
    np.testing.assert_allclose(x[:, [0, -1]], np.stack([offset, scale + offset], 1), rtol=1e-6, atol=1e-6)


def test_what_lies_outside_the_domain_is_clipped_when_it_becomes_pixels():
    x = np.array([-5.0, 0.5, 7.0]).reshape(1, 1, 1, 3)
    np.testing.assert_array_equal(spec(channels=1).to_pixels(x).ravel(), [0, 128, 255])


@pytest.mark.parametrize(("channels", "bands"), [(1, "grey"), (3, "rgb"), (4, "multi"), (13, "multi")])
def test_bands_say_how_a_picture_is_shown(channels, bands):
    assert spec(channels=channels).bands == bands


def test_order_concerns_three_channels_only():
    pixels = np.arange(4, dtype=np.uint8).reshape(1, 1, 1, 4)
    raw_bgr = custom(255, [0], [1], "BGR", 4)
    np.testing.assert_array_equal(spec(raw_bgr, channels=4).to_model(pixels).ravel(), [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: preset("imagnet"), "did you mean imagenet"),
        (lambda: preset("zzz"), "presets are unit, imagenet"),
        (lambda: custom(1, [0, 0], [1]), "2 values for 3 channels"),
        (lambda: custom(1, [0], [1, 0, 1]), "has a zero"),
        (lambda: custom(1, [float("nan")], [1]), "finite"),
        (lambda: custom(0, [0], [1]), "must be above 0"),
        (lambda: custom(1, [0], [1], "GBR"), "give RGB or BGR"),
        (lambda: spec(PRESETS["imagenet"], channels=1), "is for 3 channels, input 'x' has 1"),
        (lambda: spec(layout="CHWN"), "give `layout=NCHW` or"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(call, words):
    with pytest.raises(SettingsError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_pixels_of_another_kind_are_refused():
    with pytest.raises(InputError, match=r"pixels are \(N, H, W, 3\) uint8"):
        spec().to_model(np.zeros((1, 2, 2, 3), np.float32))


# --- layout and channels

CONV = ("Conv", "x w", "y")
LAYOUT_CASES = [  # what, nodes, constants, shape, expected
    ("conv at the input", [CONV], {"w": KERNEL}, ("N", 3, 32, 32), ("NCHW", 3)),
    ("channels from the kernel", [CONV], {"w": KERNEL}, ("N", None, "h", "w"), ("NCHW", 3)),
    ("grouped conv", [("Conv", "x w", "y", {"group": 4})], {"w": KERNEL}, (1, None, 8, 8), ("NCHW", 12)),
    ("transposed conv", [("ConvTranspose", "x w", "y")], {"w": KERNEL}, (1, None, 8, 8), ("NCHW", 8)),
    (
        "quantised conv",
        [("QLinearConv", "x s z w s z s z", "y")],
        {"w": KERNEL, "s": 1, "z": 0},
        (1, None, 8, 8),
        ("NCHW", 3),
    ),
    (
        "Keras: channels last, then a Transpose",
        [("Cast", "x", "c"), ("Transpose", "c", "t", {"perm": [0, 3, 1, 2]}), ("Conv", "t w", "y")],
        {"w": KERNEL},
        ("N", 3, 3, None),
        ("NHWC", 3),
    ),
    (
        "two Transposes that undo each other",
        [
            ("Transpose", "x", "t", {"perm": [0, 2, 3, 1]}),
            ("Transpose", "t", "u", {"perm": [0, 3, 1, 2]}),
            ("Conv", "u w", "y"),
        ],
        {"w": KERNEL},
        ("N", None, 8, 8),
        ("NCHW", 3),
    ),
    (
        "space to depth: slices stacked before the conv",
        [("Slice", "x", "a"), ("Slice", "x", "b"), ("Concat", "a b", "c"), ("Conv", "c w", "y")],
        {"w": np.zeros((8, 6, 3, 3))},
        ("N", 3, 32, 32),
        ("NCHW", 3),
    ),
    (
        "a Reshape hides the way, the sides tell",
        [("Reshape", "x s", "r"), ("Conv", "r w", "y")],
        {"s": [1], "w": KERNEL[:, :1]},
        ("N", 64, 64, 1),
        ("NHWC", 1),
    ),
]


@pytest.mark.parametrize(
    ("nodes", "constants", "shape", "expected"), [c[1:] for c in LAYOUT_CASES], ids=[c[0] for c in LAYOUT_CASES]
)
def test_layout_and_channels_are_those_the_first_convolution_shows(nodes, constants, shape, expected):
    assert layout_of(graph_of(nodes, constants, shape), "x") == expected


def test_options_fill_what_the_graph_does_not_show():
    unknown = graph_of([("Reshape", "x s", "y")], {"s": [1]}, ("N", None, None, None))
    assert layout_of(unknown, "x", "NHWC", 5) == ("NHWC", 5)


@pytest.mark.parametrize(
    ("nodes", "shape", "options", "error", "words"),
    [
        (
            [("Reshape", "x s", "y")],
            ("N", None, None, None),
            (),
            InputError,
            "unknown number of input channels: give `layout`",
        ),
        (
            [("Concat", "x x", "a"), ("Conv", "a w", "y")],
            ("N", None, 8, 8),
            (),
            InputError,
            r"Nx\?x8x8: unknown number",
        ),
        (
            [("Transpose", "x", "t", {"perm": [0, 2, 1, 3]}), ("Conv", "t w", "y")],  # channels in the middle
            ("N", 8, 3, 8),
            (),
            InputError,
            "Nx8x3x8: unknown number",
        ),
        ([CONV], ("N", 3, 8, 8), ("NHWC",), SettingsError, "first convolution takes axis 1"),
        ([CONV], ("N", 3, 8, 8), (None, 4), SettingsError, "`input_channels=4`: input 'x' has 3"),
        ([CONV], ("N", 3, 8, 8), ("HWC",), SettingsError, "give NCHW or NHWC"),
    ],
)
def test_unknown_channels_and_contradictions_name_the_option(nodes, shape, options, error, words):
    with pytest.raises(error, match=words):
        layout_of(graph_of(nodes, {"s": [1], "w": KERNEL}, shape), "x", *options)


def test_a_model_without_an_image_input_is_named_with_its_shapes():
    with pytest.raises(InputError, match=r"four axes.*x \['N', 128\]"):
        image_input(graph_of([("Relu", "x", "y")], shape=("N", 128)))


# --- size


def test_a_size_fixed_by_the_file_is_taken_and_not_overruled():
    assert size_of(DeclaredInput("x", (1, 3, 240, 320), "NCHW", 3)) == (240, 320, True)
    assert size_of(DeclaredInput("x", (1, 240, 320, 3), "NHWC", 3), (240, 320)) == (240, 320, True)
    with pytest.raises(SettingsError, match="fixes input 'x' to 240x320"):
        size_of(DeclaredInput("x", (1, 3, 240, 320), "NCHW", 3), (224, 224))


@pytest.mark.parametrize(
    ("shape", "layout", "good", "expected"),
    [
        (("N", 3, "h", "w"), "NCHW", lambda s: True, (224, 224, False)),
        (("N", 3, "h", "w"), "NCHW", lambda s: s == (1, 3, 28, 28), (28, 28, False)),
        (("N", None, None, 3), "NHWC", lambda s: s == (1, 299, 299, 3), (299, 299, False)),
        ((None, 3, 48, None), "NCHW", lambda s: s[3] == 192, (48, 192, False)),
    ],
)
def test_where_the_file_leaves_the_size_open_the_first_that_runs_is_taken(shape, layout, good, expected):
    assert size_of(DeclaredInput("x", shape, layout, 3), None, good) == expected


@pytest.mark.parametrize(
    ("wanted", "words"), [(None, "give `input_size=HEIGHTxWIDTH`"), ((7, 9), "7x9`: the network does not run")]
)
def test_no_size_that_runs_names_the_option(wanted, words):
    with pytest.raises(InputError, match=words):
        size_of(DeclaredInput("x", ("N", 3, None, None), "NCHW", 3), wanted, lambda shape: False)


# --- preprocessing

PIXEL_MEAN, UNIT_MEAN, UNIT_STD = [123.7, 116.8, 103.9], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def column(values):
    return np.reshape(values, (-1, 1, 1)).astype(np.float32)


GUESS_CASES = [  # what, nodes before the conv on "y", constants, expected high and order, words
    ("x / 255", [("Div", "x a", "y")], {"a": 255.0}, 255, "RGB", "Div at node 'n0' divides by 255"),
    ("x / 256", [("Mul", "x a", "y")], {"a": np.float16(1 / 256)}, 255, "RGB", "multiplies by 0.003906"),
    ("x − 127", [("Sub", "x a", "y")], {"a": 127.0}, 255, "RGB", "'n0' subtracts 127, so the graph expects 0..255"),
    ("x + (−127)", [("Add", "a x", "y")], {"a": -127.0}, 255, "RGB", "adds -127"),
    ("127 − x", [("Sub", "a x", "y")], {"a": 127.0}, 255, "RGB", "0..255"),
    (
        "x / 127.5 − 1",
        [("Mul", "x a", "t"), ("Add", "t b", "y")],
        {"a": 1 / 127.5, "b": -1.0},
        255,
        "RGB",
        "adds -1, so",
    ),
    ("raw RGB means", [("Sub", "x a", "y")], {"a": column(PIXEL_MEAN)}, 255, "RGB", "123.7, 116.8, 103.9"),
    ("raw BGR means", [("Sub", "x a", "y")], {"a": column(PIXEL_MEAN[::-1])}, 255, "BGR", "0..255 in BGR order"),
    ("a mean image", [("Sub", "x a", "y")], {"a": np.full((3, 32, 32), 120.0)}, 255, "RGB", "subtracts 120"),
    (
        "Keras: rescale, normalise, then Transpose",
        [
            ("Mul", "x a", "t"),
            ("Sub", "t m", "u"),
            ("Div", "u s", "v"),
            ("Transpose", "v", "y", {"perm": [0, 3, 1, 2]}),
        ],
        {"a": 1 / 255, "m": np.float32(UNIT_MEAN), "s": np.float32(UNIT_STD)},
        255,
        "RGB",
        "divides by 0.229, 0.224, 0.225, so the graph expects 0..255",
    ),
    (
        "torchvision's Normalize inside",
        [("Cast", "x", "c"), ("Sub", "c m", "u"), ("Div", "u s", "y")],
        {"m": column(UNIT_MEAN), "s": column(UNIT_STD)},
        1,
        "RGB",
        "expects 0..1",
    ),
    ("x − 0.5", [("Sub", "x a", "y")], {"a": 0.5}, 1, "RGB", "expects 0..1"),
    ("2x − 1", [("Mul", "x a", "t"), ("Sub", "t b", "y")], {"a": 2.0, "b": 1.0}, 1, "RGB", "expects 0..1"),
    ("0..1 to 0..255", [("Mul", "x a", "y")], {"a": 255.0}, 1, "RGB", "expects 0..1"),
    (
        "0..1 to Caffe's",
        [("Mul", "x a", "t"), ("Sub", "t m", "y")],
        {"a": 255.0, "m": column(PIXEL_MEAN[::-1])},
        1,
        "BGR",
        "BGR",
    ),
    (
        "statistics of 0..255",
        [("BatchNormalization", "x g b m v", "y")],
        {"g": [1.0] * 3, "b": [0.0] * 3, "m": PIXEL_MEAN, "v": [3400.0] * 3},
        255,
        "RGB",
        "running mean of 123.7",
    ),
    (
        "statistics of 0..1",
        [("BatchNormalization", "x g b m v", "y")],
        {"g": [1.0] * 3, "b": [0.0] * 3, "m": UNIT_MEAN, "v": [0.05] * 3},
        1,
        "RGB",
        "running mean of 0.485",
    ),
]


@pytest.mark.parametrize(
    ("nodes", "constants", "high", "order", "words"), [c[1:] for c in GUESS_CASES], ids=[c[0] for c in GUESS_CASES]
)
def test_arithmetic_at_the_input_shows_the_range(nodes, constants, high, order, words):
    shape = ("N", 32, 32, 3) if nodes[-1][0] == "Transpose" else ("N", 3, 32, 32)
    graph = graph_of([*nodes, ("Conv", "y w", "z")], {**constants, "w": KERNEL}, shape)
    found, why, certain = guess_preprocessing(graph, {}, 3, 1000)
    assert (found.high, found.order, certain) == (high, order, True)
    assert (set(found.mean), set(found.std)) == ({0.0}, {1.0})
    assert words in why


@pytest.mark.parametrize("name", ["imagenet", "symmetric", "unit", "raw255", "caffe-bgr"])
def test_the_range_of_an_8_bit_input_shows_the_preset(name):
    low, high = spec(preset(name)).domain()
    step = (high.max() - low.min()) / 255
    constants = {"s": np.float32(step), "z": np.array(round(-low.min() / step), np.uint8), "w": KERNEL}
    graph = graph_of(
        [("QuantizeLinear", "x s z", "q"), ("DequantizeLinear", "q s z", "y"), ("Conv", "y w", "c")], constants
    )
    found, why, certain = guess_preprocessing(graph, {}, 3, 10)
    assert (found, certain) == (PRESETS[name], True)
    assert f"preset {name}" in why


BLANK = [  # first nodes that tell nothing
    [],
    [("Mul", "x one", "y")],
    [("Add", "x one", "y")],
    [("Div", "one x", "y")],
    [("Div", "x zero", "y")],
    [("Mul", "x zero", "y")],
    [("Mul", "x inf", "y")],
    [("Mul", "x x", "y")],
    [("Relu", "x", "y")],
    [("BatchNormalization", "x ones zeros zeros ones", "y")],  # data of mean 0 and deviation 1
    [("Sub", "x half", "y"), ("Relu", "x", "other")],  # two ways lead from the input
    [("QuantizeLinear", "x three middle8", "y")],  # −384..381: no preset's range
]


@pytest.mark.parametrize("nodes", BLANK)
@pytest.mark.parametrize(
    ("channels", "classes", "expected"),
    [(3, 1000, "imagenet"), (3, 1001, "imagenet"), (3, 10, "unit"), (1, 1000, "unit"), (3, None, "unit")],
)
def test_where_the_graph_shows_nothing_an_assumption_is_called_one(nodes, channels, classes, expected):
    constants = {
        "one": 1.0,
        "zero": 0.0,
        "half": 0.5,
        "inf": np.inf,
        "ones": [1.0] * channels,
        "zeros": [0.0] * channels,
    }
    constants |= {"three": 3.0, "middle8": np.uint8(128), "w": KERNEL[:, :channels]}
    graph = graph_of([*nodes, ("Conv", "y w" if nodes else "x w", "z")], constants, ("N", channels, 8, 8))
    found, why, certain = guess_preprocessing(graph, {}, channels, classes)
    assert (found.name, certain) == (expected, False)
    assert why.startswith("Assumed:")
    assert "`preprocess` sets another" in why


METADATA_CASES = [  # metadata, domain of the first channel, order, certain
    ({"Image.NominalPixelRange": "NominalRange_0_255", "Image.BitmapPixelFormat": "Bgr8"}, (0, 255), "BGR", True),
    ({"Image.NominalPixelRange": "NominalRange_0_255", "Image.BitmapPixelFormat": "Gray8"}, (0, 255), "RGB", True),
    ({"Image.NominalPixelRange": "Normalized_0_1", "Image.BitmapPixelFormat": "Rgb8"}, (0, 1), "RGB", True),
    ({"Image.NominalPixelRange": "Normalized_1_1"}, (-1, 1), "RGB", True),
    ({"Image.NominalPixelRange": "NominalRange_16_235"}, (16, 235), "RGB", True),
    ({"Image.NominalPixelRange": "of no known kind"}, (-0.485 / 0.229, 0.515 / 0.229), "RGB", False),
    ({"Image.BitmapPixelFormat": "Bgr8"}, (-0.406 / 0.225, 0.594 / 0.225), "BGR", False),  # blue comes first
]


@pytest.mark.parametrize(("metadata", "domain", "order", "certain"), METADATA_CASES)
def test_metadata_state_range_and_order(metadata, domain, order, certain):
    graph = graph_of([CONV], {"w": KERNEL})
    found, why, sure = guess_preprocessing(graph, metadata, 3, 1000)
    low, high = spec(found).domain()
    assert (low[0], high[0]) == pytest.approx(domain)
    assert (found.order, sure) == (order, certain)
    assert ("metadata: Image.NominalPixelRange" in why) == certain


def test_an_input_is_understood_from_graph_and_options_together():
    graph = graph_of(
        [("Transpose", "x", "t", {"perm": [0, 3, 1, 2]}), ("Conv", "t w", "y")], {"w": KERNEL}, ("N", None, None, None)
    )
    made = input_spec(graph, {}, 10, runs=lambda shape: shape == (1, 96, 96, 3))
    assert (made.name, made.layout, made.channels, made.height, made.width) == ("x", "NHWC", 3, 96, 96)
    assert (made.preprocessing, made.certain, made.fixed_size) == (PRESETS["unit"], False, False)
    given_by_user = input_spec(graph, {}, 10, size=(40, 50), preprocessing=SVHN)
    assert (given_by_user.preprocessing, given_by_user.certain, given_by_user.height) == (SVHN, True, 40)
    assert given_by_user.why == "As the options say."


# --- real networks


def real_graph(name):
    onnx = pytest.importorskip("onnx")
    from filterscope.converters.normal_form import canonical

    proto = onnx.load(DATA / "models" / "onnx" / name)
    return canonical.graph_of(proto), {entry.key: entry.value for entry in proto.metadata_props}


@needs_data
@pytest.mark.parametrize(
    ("name", "classes", "expected", "certain"),
    [
        ("mnist_cntk.onnx", 10, ("NCHW", 1, 28, "raw255"), True),
        ("svhn_cnn6.onnx", 10, ("NCHW", 3, 32, "unit"), False),
        ("mobilenetv2_fp32_dequant.onnx", 1000, ("NCHW", 3, 224, "imagenet"), False),
        ("mobilenetv2_int8_qlinear.onnx", 1000, ("NCHW", 3, 224, "imagenet"), True),  # its 8-bit range shows it
    ],
)
def test_real_files_are_understood(name, classes, expected, certain):
    made = input_spec(*real_graph(name), classes)
    assert (made.layout, made.channels, made.height, made.preprocessing.name) == expected
    assert (made.certain, made.fixed_size) == (certain, True)


@needs_data
@pytest.mark.parametrize(
    ("model", "preprocessing", "source", "count", "right", "within"),
    [
        ("mobilenetv2_fp32_dequant.onnx", PRESETS["imagenet"], "images/imagenet_mini_100", 100, 83, 2),
        ("svhn_cnn6.onnx", SVHN, "svhn", 4, 4, 0),
        ("mnist_cntk.onnx", PRESETS["raw255"], "mnist/mnist_12000_2000.npz", 2000, 1968, 0),
    ],
)
def test_real_networks_recognise_as_many_images_as_with_their_own_recipe(
    model, preprocessing, source, count, right, within
):
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(DATA / "models" / "onnx" / model, options, providers=["CPUExecutionProvider"])
    made = input_spec(*real_graph(model), None, preprocessing=preprocessing)
    hits, seen = 0, 0
    for info, pixels in images.load(images.find([DATA / source]), made):
        digits = [int(part) for part in info.name.removesuffix(".png").split("_") if part.isdigit()]
        label = info.label if info.label is not None else digits[0]
        (scores,) = session.run(None, {made.name: made.to_model(pixels[None])})
        hits, seen = hits + (int(np.argmax(scores)) == label), seen + 1
    assert seen == count
    assert abs(hits - right) <= within
