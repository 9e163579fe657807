"""Opening a network, from the file to the proof: whatever its layout, its size and its head."""

import numpy as np
import onnx
import pytest
import torch

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.network.network import InputOptions
from filterscope.converters.errors import InputError, ModelError, SettingsError, UnsupportedOperatorError
from support.networks import MODELS, build, needs_data, normal

SAME = {"pads": [1, 1, 1, 1]}
CONSTANTS = {"w": normal(4, 3, 3, 3), "v": normal(5, 4, 3, 3), "k": normal(5, 7), "t": np.array([-1, 5 * 8 * 8])}
BODY = [("Conv", "x w", "c", SAME), ("Relu", "c", "r"), ("Conv", "r v", "d", SAME | {"strides": [2, 2]})]


@pytest.fixture
def opened(tmp_path):
    def open_built(nodes, shape=("N", 3, 16, 16), constants=None, options=None, **rest):
        read = {name for node in nodes for name in node[1].split()}
        kept = {name: array for name, array in (CONSTANTS | (constants or {})).items() if name in read}
        onnx.save_model(build(nodes, kept, shape=shape, **rest), tmp_path / "model.onnx")
        return open_network(tmp_path / "model.onnx", options)

    return open_built


def test_a_network_is_opened_and_proven(opened):
    network = opened([*BODY, ("GlobalAveragePool", "d", "p"), ("Flatten", "p", "f"), ("MatMul", "f k", "y")])
    assert [layer.output_shape for layer in network.layers] == [(4, 16, 16), (5, 8, 8)]
    assert network.macs == 4 * 256 * 27 + 5 * 64 * 36 + 5 * 7
    assert network.parameters == 4 * 27 + 5 * 36 + 5 * 7
    assert network.layer("Conv_2") is network.layers[1]
    parity = network.prove()
    assert parity.nodes.error < 1e-5
    told = network.to_json()
    assert (told["conv_layers"], told["conv_channels"], told["name"]) == (2, 9, "model.onnx")
    assert told["outputs"] == [{"name": "y", "shape": [1, 7]}]


def test_channels_last_is_understood_and_proven(opened):
    nodes = [("Transpose", "x", "f", {"perm": [0, 3, 1, 2]}), ("Conv", "f w", "y", SAME)]
    network = opened(nodes, shape=("N", 20, 24, 3))
    assert (network.input.layout, network.input.height, network.input.width) == ("NHWC", 20, 24)
    assert network.layers[0].output_shape == (4, 20, 24)
    assert network.layers[0].field.size == (3, 3)
    assert network.layers[0].sees_image
    assert network.prove().nodes.error < 1e-5
    cut = network.twin.cut([network.layers[0].value])
    x = normal(2, 20, 24, 3)
    (found,) = cut(torch.from_numpy(x))
    expected = network.session(["y"]).run(x)["y"]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)
    smaller = network.session(["y"], (9, 11)).run(normal(1, 9, 11, 3))["y"]
    assert smaller.shape == (1, 4, 9, 11)


# --- sizes


def test_a_free_size_becomes_one_that_runs(opened):
    nodes = [*BODY, ("Flatten", "d", "f"), ("MatMul", "f full", "y")]
    network = opened(nodes, shape=("N", 3, "H", "W"), constants={"full": normal(5 * 16 * 16, 2)})
    assert (network.input.height, network.input.width) == (32, 32)
    network.prove()


def test_the_size_that_is_asked_for_is_taken(opened):
    network = opened(BODY, shape=("N", 3, "H", "W"), options=InputOptions(size=(40, 24)))
    assert (network.input.height, network.input.width) == (40, 24)
    assert network.layers[1].output_shape == (5, 20, 12)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (InputOptions(size=(17, 9)), InputError, "`input_size=17x9`: the network does not run at this size"),
        (InputOptions(channels=1), SettingsError, "`input_channels=1`: input 'x' has 3"),
        (InputOptions(layout="NHWC"), SettingsError, "`layout=NHWC`: the first convolution takes axis 1"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(opened, options, error, words):
    with pytest.raises(error, match=words):
        opened([*BODY, ("Reshape", "d t", "y")], shape=("N", 3, "H", "W"), options=options)


def test_a_network_that_runs_at_no_size_tried_asks_for_one(opened):
    nodes = [*BODY, ("Reshape", "d odd", "y")]
    constants = {"odd": np.array([5 * 7 * 7 * 4 - 3, 1])}
    with pytest.raises(InputError, match=r"runs at none of the sizes tried .*; give `input_size=HEIGHTxWIDTH`"):
        opened(nodes, shape=("N", 3, "H", "W"), constants=constants)


# --- structures that importers stumble over

SPLIT = ("Split", "d two_three", "a b", {"axis": 1})
STRUCTURES = {  # nodes after "d" (N, 5, 8, 8), outputs
    "a convolution is the output": ([], ["d"]),
    "two convolutions are outputs, and the first is read on": ([], ["c", "d"]),
    "an activation and its convolution are outputs": ([("Relu", "d", "y")], ["d", "y"]),
    "a Split, each part read": ([SPLIT, ("Concat", "b a b", "y", {"axis": 1})], None),
    "a Split, one part read": ([SPLIT, ("Relu", "b", "y")], None),
    "a Split, one part read twice": ([SPLIT, ("Relu", "b", "q"), ("Sigmoid", "b", "s"), ("Mul", "q s", "y")], None),
    "a Split whose parts are outputs": ([SPLIT], ["b", "a"]),
    "two Splits of one value": ([SPLIT, ("Split", "d three_two", "e f", {"axis": 1}), ("Add", "b e", "y")], None),
    "an output that nobody wants": ([("Dropout", "d", "e mask"), ("Relu", "e", "y")], None),
    "indices of a pool, not read": ([("MaxPool", "d", "p i", {"kernel_shape": [2, 2]}), ("Relu", "p", "y")], None),
    "an absent input": ([("Clip", "d _ six", "y")], None),
    "one value twice": ([("Add", "d d", "y")], None),
    "the image again": ([("Resize", "d _ twice", "u"), ("Concat", "u x", "y", {"axis": 1})], None),
    "shapes computed at run time": (
        [("Shape", "d", "s"), ("Slice", "s one_ four_", "hw"), ("Resize", "x _ _ hw", "y", {"axes": [1, 2, 3]})],
        None,
    ),
}
FURTHER = {
    "two_three": np.array([2, 3]),
    "three_two": np.array([3, 2]),
    "six": np.float32(6),
    "twice": np.array([1, 1, 2, 2], np.float32),
    "one_": np.array([1]),
    "four_": np.array([4]),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_structure_is_opened_proven_and_cut_at_every_layer(opened, name):
    nodes, outputs = STRUCTURES[name]
    network = opened([*BODY, *nodes], constants=FURTHER, outputs=outputs)
    parity = network.prove()
    assert parity.nodes.error < 1e-5
    assert parity.end_to_end.error < 1e-4
    assert set(parity.layers) == {layer.node for layer in network.layers}
    names = [layer.value for layer in network.layers]
    x = normal(2, 3, 16, 16)
    cut = network.twin.cut(names)(torch.from_numpy(x))
    expected = network.session(names).run(x)
    for value, found in zip(names, cut, strict=True):
        np.testing.assert_allclose(found.numpy(), expected[value], rtol=1e-4, atol=1e-4)


# --- heads that torch cannot have

HEADS = {  # operators that the importer has no converter for, behind the last convolution
    "Inverse": [("Inverse", "d", "y", {"domain": "com.microsoft"})],
    "a recurrent layer of which the second output is wanted": [
        ("ReduceMean", "d second", "m", {"keepdims": 0}),
        ("GRU", "m wz rz", "_ state", {"hidden_size": 3}),
    ],
    "Inverse, read on": [
        ("Inverse", "d", "u", {"domain": "com.microsoft"}),
        ("TopK", "u one", "y i"),
        ("Mul", "y y", "z"),
    ],
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_cannot_be_imported_does_not_stop_its_network(opened, name):
    constants = {"one": np.array([1]), "second": np.array([2]), "wz": normal(1, 9, 8), "rz": normal(1, 9, 3)}
    network = opened([*BODY, *HEADS[name]], constants=constants)
    assert [layer.name for layer in network.layers] == ["Conv_0", "Conv_2"]
    parity = network.prove()
    assert parity.nodes.error < 1e-5
    assert set(parity.layers) == {"Conv_0", "Conv_2"}
    assert "d" in network.twin.values


def test_an_operator_before_the_last_convolution_that_cannot_be_imported_is_named(opened):
    nodes = [
        ("Conv", "x w", "c", SAME),
        ("Inverse", "c", "i", {"name": "inversion", "domain": "com.microsoft"}),
        ("Conv", "i v", "y"),
    ]
    network = opened(nodes)
    assert len(network.layers) == 2
    words = r"^inversion: operator Inverse of com.microsoft \(version 1\) has no converter into torch"
    with pytest.raises(UnsupportedOperatorError, match=words):
        network.prove()


IMPOSSIBLE = {  # a file that the checker lets pass and nobody can run
    "channels that do not fit": [("Conv", "x seven", "y")],
    "a kernel larger than the image": [("Conv", "x large", "y")],
    "a kernel of another size": [("Conv", "x w", "y", {"kernel_shape": [5, 5]})],
    "padding beyond memory": [("Conv", "x w", "y", {"pads": [1 << 30] * 4})],
    "a Resize beyond memory": [("Resize", "x _ million", "r"), ("Conv", "r w", "y")],
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_run_is_refused_in_one_line(opened, name):
    constants = {
        "seven": normal(4, 7, 3, 3),
        "large": normal(4, 3, 33, 33),
        "million": np.array([1, 1, 1e6, 1e6], np.float32),
    }
    words = (
        r"model.onnx: (does not run on an input of shape \[1, 3, 16, 16\]: |ONNX Runtime refuses the model|"
        "Conv 'y': its pads 1073741824 is wider|value 'y' is declared .* more than any memory holds)"
    )
    with pytest.raises(ModelError, match=words) as refusal:
        opened(IMPOSSIBLE[name], constants=constants).prove()
    assert "\n" not in str(refusal.value)


def test_an_operator_that_onnx_runtime_has_not_stops_no_layer_before_it(opened):
    network = opened([*BODY, ("Detect", "d", "y", {"domain": "nobody.knows"})])
    assert len(network.layers) == 2
    assert any("a Detect of nobody.knows, which ONNX Runtime does not know" in note for note in network.model.notes)
    assert network.prove().warnings == ()


@needs_data
def test_the_users_first_image_is_part_of_the_proof():
    network = open_network(MODELS / "mnist_cntk.onnx")
    black = np.zeros((28, 28, 1), np.uint8)
    assert network.prove(black).nodes.error < 1e-4
    assert network.prove(black) != network.prove()


@needs_data
@pytest.mark.parametrize(("size", "words"), [((30, 30), "`input_size=30x30`: the file fixes input 'Input3' to 28x28")])
def test_a_size_that_the_file_fixes_stays(size, words):
    with pytest.raises(SettingsError, match=words):
        open_network(MODELS / "mnist_cntk.onnx", InputOptions(size=size))


FIXED = (1, 3, 16, 16)


def test_a_network_of_a_fixed_size_that_runs_at_another_does(opened):
    network = opened(BODY, shape=FIXED, options=InputOptions(size=(24, 40)))
    assert network.layers[1].output_shape == (5, 12, 20)
    note = "The file declares its input as 16x16; it runs at 24x40 too, as `input_size` asks."
    assert note in network.model.notes
    assert note not in opened(BODY, shape=FIXED, options=InputOptions(size=(16, 16))).model.notes


@pytest.mark.parametrize(
    ("size", "nodes", "reason"),
    [
        ((24, 24), [*BODY, ("Flatten", "d", "f"), ("MatMul", "f large", "y")], ".*dimension mismatch.*"),
        ((32, 32), [*BODY, ("Reshape", "d t", "y")], r"output 'y' is \[1, 320\] there and \[4, 320\] here"),
    ],
)
def test_a_network_that_does_not_run_at_another_size_says_why(opened, size, nodes, reason):
    text = f"{size[0]}x{size[1]}"
    words = (
        rf"^`input_size={text}`: the file fixes input 'x' to 16x16, and .* run at another \({reason}\); leave it out$"
    )
    with pytest.raises(SettingsError, match=words):
        opened(nodes, shape=FIXED, constants={"large": normal(320, 2)}, options=InputOptions(size=size))


@needs_data
def test_random_pixels_are_the_same_each_time():
    network = open_network(MODELS / "mnist_cntk.onnx")
    first, again = (network.random_pixels(4, (28, 28), 7) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.dtype == np.uint8
    assert first.shape == (4, 28, 28, 1)
    assert (first != network.random_pixels(4, (28, 28), 8)).any()
