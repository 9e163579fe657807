"""Linear relaxations against ONNX Runtime: nothing exceeds them, they exceed no interval bound, and some are exact."""

import itertools

import numpy as np
import pytest
import torch

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.bounds.interval_bounds import intervals
from filterscope.analyzer.bounds.linear_envelopes import Envelope, kink_linear_bounds
from filterscope.analyzer.bounds.linear_relaxation import SharedBounds, upper_bounds
from filterscope.analyzer.bounds.piecewise import Affine, Box
from filterscope.analyzer.bounds.subgraph import is_translation_equivariant, subgraph_before
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import PRESETS, custom
from filterscope.analyzer.units.canvas import Canvas, canvas_for
from filterscope.analyzer.units.measure import Meter
from support.networks import MODELS, build, needs_data, normal
from support.opened import INVERTED, opened, pictures

SIZE = (9, 8)
PREFIX = [("Conv", "x kernel_a bias_a", "a", {"pads": [1, 1, 1, 1]}), ("Conv", "x kernel_b", "b")]
KERNELS = {"kernel_a": normal(6, 3, 3, 3) / 4, "bias_a": normal(6), "kernel_b": normal(6, 3, 1, 1)}
LAST = {"last": normal(5, 6, 3, 3) / 3, "last_bias": normal(5)}


def scalar(number):
    return np.array(number, np.float32)


# What stands between two convolutions of the image, a and b, (N, 6, 9, 8) each, and the last one, which reads r
CASES = {
    "relu": ([("Relu", "a", "r")], {}),
    "clip": ([("Clip", "a low high", "r")], {"low": scalar(-0.5), "high": scalar(1.5)}),
    "clip-above": ([("Clip", "a _ high", "r")], {"high": scalar(0.7)}),
    "relu6": (
        [("Mul", "a ten", "t"), ("Clip", "t low high", "r")],
        {"ten": scalar(10), "low": scalar(0), "high": scalar(6)},
    ),
    "leaky": ([("LeakyRelu", "a", "r", {"alpha": 0.2})], {}),
    "steep": ([("LeakyRelu", "a", "r", {"alpha": 1.7})], {}),
    "turned": ([("LeakyRelu", "a", "r", {"alpha": -0.6})], {}),
    "prelu": ([("PRelu", "a s", "r")], {"s": normal(6, 1, 1)}),
    "max-pool": ([("Relu", "a", "q"), ("MaxPool", "q", "r", {"kernel_shape": [2, 2], "strides": [2, 2]})], {}),
    "max-pool-padded": (
        [("MaxPool", "a", "r", {"kernel_shape": [3, 2], "pads": [1, 1, 1, 0], "dilations": [1, 2]})],
        {},
    ),
    "max-pool-ceil": ([("MaxPool", "a", "r", {"kernel_shape": [2, 3], "strides": [2, 3], "ceil_mode": 1})], {}),
    "max-pool-global": ([("GlobalMaxPool", "a", "g"), ("Relu", "b", "q"), ("Add", "q g", "r")], {}),
    "average-pool": (
        [("Relu", "a", "q"), ("AveragePool", "q", "r", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})],
        {},
    ),
    "average-pool-counted": (
        [
            ("Relu", "a", "q"),
            (
                "AveragePool",
                "q",
                "r",
                {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1], "strides": [1, 2], "count_include_pad": 1},
            ),
        ],
        {},
    ),
    "global-average": ([("Relu", "a", "q"), ("GlobalAveragePool", "q", "g"), ("Sub", "q g", "r")], {}),
    "reduce-mean": (
        [("Relu", "a", "q"), ("ReduceMean", "q axes", "g"), ("Add", "q g", "r")],
        {"axes": np.array([2, 3])},
    ),
    "residual": ([("Conv", "a w", "c"), ("Add", "c a", "s"), ("Relu", "s", "r")], {"w": normal(6, 6, 1, 1)}),
    "branches": ([("Relu", "a", "p"), ("Sub", "p b", "d"), ("Relu", "d", "q"), ("Sum", "q a b", "r")], {}),
    "constants": (
        [("Sub", "c a", "s"), ("Div", "s d", "t"), ("Relu", "t", "q"), ("Mul", "d q", "u"), ("Neg", "u", "r")],
        {"c": normal(1, 6, 1, 1), "d": normal(6, 1, 1) + 3},
    ),
    "maps": (
        [("Add", "a c", "s"), ("Relu", "s", "q"), ("Mul", "q d", "r")],
        {"c": normal(6, 9, 8), "d": normal(1, 1, 9, 8)},
    ),
    "concat": (
        [("Relu", "a", "p"), ("Concat", "p b c", "j", {"axis": 1}), ("Conv", "j w", "r")],
        {"c": normal(1, 2, 9, 8), "w": normal(6, 14, 1, 1)},
    ),
    "pad": ([("Relu", "a", "q"), ("Pad", "q p v", "r")], {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1]), "v": scalar(2)}),
    "norm": (
        [("Relu", "a", "q"), ("Add", "q b", "s"), ("BatchNormalization", "s g c m v", "n"), ("Relu", "n", "r")],
        {"g": normal(6), "c": normal(6, seed=1), "m": normal(6, seed=2), "v": np.abs(normal(6)) + np.float32(0.3)},
    ),
    "grouped": (
        [
            ("Relu", "a", "q"),
            ("Conv", "q w", "r", {"group": 3, "strides": [2, 1], "dilations": [1, 2], "pads": [0, 1, 2, 1]}),
        ],
        {"w": normal(6, 2, 2, 3)},
    ),
    "same": (
        [("Relu", "a", "q"), ("Conv", "q w", "r", {"auto_pad": "SAME_LOWER", "strides": [2, 2]})],
        {"w": normal(6, 6, 2, 3)},
    ),
    "transposed": (
        [
            ("Relu", "a", "q"),
            ("ConvTranspose", "q w c", "r", {"strides": [3, 2], "group": 2, "pads": [1, 0, 0, 1], "dilations": [2, 1]}),
        ],
        {"w": normal(6, 3, 3, 4), "c": normal(6)},
    ),
    "moves": (
        [
            ("Relu", "a", "q"),
            ("Transpose", "q", "t", {"perm": [0, 3, 1, 2]}),
            ("Reshape", "t s", "u"),
            ("Identity", "u", "i"),
            ("Reshape", "i back", "v"),
            ("Transpose", "v", "r", {"perm": [0, 2, 3, 1]}),
        ],
        {"s": np.array([0, 6, 72]), "back": np.array([0, 8, 6, 9])},
    ),
    "sigmoid": ([("Sigmoid", "a", "s"), ("Relu", "b", "q"), ("Mul", "q s", "r")], {}),
    "silu": ([("Sigmoid", "a", "s"), ("Mul", "a s", "r")], {}),
    "squeeze-excite": (
        [
            ("Relu", "a", "q"),
            ("GlobalAveragePool", "q", "g"),
            ("Conv", "g w", "h"),
            ("HardSigmoid", "h", "s"),
            ("Mul", "q s", "r"),
        ],
        {"w": normal(6, 6, 1, 1)},
    ),
    "no-rule": (
        [("Relu", "a", "q"), ("CumSum", "q axis", "u"), ("Clip", "u low high", "r")],
        {"axis": np.array(2), "low": scalar(-1), "high": scalar(4)},
    ),
}
BOXES = {"sigmoid", "silu", "squeeze-excite", "no-rule"}  # what has no rule there is concretised
DEEP = [
    ("Relu", "a", "p"),
    ("Conv", "p w1", "c", {"pads": [1, 1, 1, 1]}),
    ("Relu", "c", "q"),
    ("MaxPool", "q", "m", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("Conv", "m w2", "d", {"pads": [1, 1, 1, 1]}),
    ("Add", "d m", "e"),
    ("Relu", "e", "r"),
]
CASES["deep"] = (DEEP, {"w1": normal(6, 6, 3, 3) / 4, "w2": normal(6, 6, 3, 3) / 4})


def followed(folder, nodes, constants, preprocessing):
    """A network whose last convolution, named "y", reads r."""
    nodes = [*PREFIX, *nodes, ("Conv", "r last last_bias", "y", {"pads": [1, 1, 1, 1]})]
    return opened(folder, build(nodes, KERNELS | constants | LAST, shape=("N", 3, *SIZE), outputs=["y"]), preprocessing)


def objectives(network, layer):
    """Neurons in a corner and in the middle, and the mean of the map, on the network's own size."""
    rows, columns = layer.output_shape[1:]
    full = (network.input.height, network.input.width)
    places = [(0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1), (None, None)]
    return [(Canvas(*full, *place), "channel" if place[0] is None else "neuron") for place in places]


def steepest(network, layer, canvas, count=3):
    """8-bit pictures from a few steps of sign ascent in ONNX Runtime's own finite differences: greedy, by blocks."""
    rng = np.random.default_rng(0)
    meter = Meter(network, layer, canvas)
    channels = np.arange(layer.out_channels)
    best = network.random_pixels(len(channels), canvas.size, 9)
    values = meter.activation(best, channels)
    for _ in range(60 * count):
        tried = best.copy()
        row, column = (rng.integers(side) for side in canvas.size)
        tried[:, row, column, rng.integers(best.shape[3])] = rng.choice((0, 255))
        found = meter.activation(tried, channels)
        better = found > values
        best[better], values[better] = tried[better], found[better]
    return best


@pytest.mark.parametrize("preprocessing", [PRESETS["imagenet"], INVERTED], ids=["imagenet", "inverted"])
@pytest.mark.parametrize("case", CASES)
def test_nothing_exceeds_a_relaxation_and_it_never_exceeds_the_interval(case, preprocessing, tmp_path):
    network = followed(tmp_path, *CASES[case], preprocessing)
    layer = network.layers[-1]
    known, shared = intervals(network), SharedBounds(network)
    pieces = subgraph_before(network, layer, SIZE).pieces
    assert any(isinstance(piece, Box) for piece in pieces.values()) == (case in BOXES)
    channels = [3, 0, 4]
    for canvas, objective in objectives(network, layer):
        found = upper_bounds(network, layer, canvas, objective, channels, shared)
        shown = pictures(network)
        if case == "concat":  # a constant of batch 1 fits one image at a time
            values = np.concatenate([Meter(network, layer, canvas).all_units(one[None]) for one in shown])
        else:
            shown = np.concatenate([shown, steepest(network, layer, canvas)])
            values = Meter(network, layer, canvas).all_units(shown)
        assert np.all(values[:, channels] <= found), objective
        assert np.all(found <= known[layer.value].high[channels]), objective
        assert np.isfinite(found).all()


@pytest.mark.parametrize("case", [case for case in CASES if case not in BOXES])
def test_pieces_compute_what_onnxruntime_does(case, tmp_path):
    """On one random picture, piece by piece in float64, and J's transpose against J."""
    network = followed(tmp_path, *CASES[case], PRESETS["unit"])
    layer = network.layers[-1]
    part = subgraph_before(network, layer, SIZE)
    x = network.input.to_model(network.random_pixels(1, SIZE, 3))
    names = list(part.pieces)
    expected = network.session(names).run(x) | {network.input.name: x}
    given = {name: torch.from_numpy(np.asarray(value, np.float64)) for name, value in expected.items()}
    rng = torch.Generator().manual_seed(0)
    for name, piece in part.pieces.items():
        if isinstance(piece, Affine):
            sources = [given[source] for source in piece.sources]
            found = piece.linear(sources) + piece.constant
            c = torch.randn(given[name].shape, generator=rng, dtype=torch.float64)
            sides = sum((part * s).sum() for part, s in zip(piece.back(c), sources, strict=True))
            np.testing.assert_allclose(sides, (c * piece.linear(sources)).sum(), rtol=1e-9, atol=1e-9)
        else:
            found = piece.at(given[piece.source])
        np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


# Forms of operators whose interval is all that is known: nodes between a, b and r, and constants
BOXED = {
    "conv-computed-kernel": ([("Conv", "a b", "q"), ("Clip", "q zero one", "g"), ("Add", "a g", "r")], {}),
    "transposed-computed-kernel": (
        [("ReduceMean", "b axes", "k"), ("ConvTranspose", "k b", "q"), ("Clip", "q zero one", "r")],
        {"axes": np.array([1])},
    ),
    "norm-computed": (
        [
            ("ReduceMean", "a axes", "q"),
            ("ReduceMax", "b all", "g", {"keepdims": 0}),
            ("Reshape", "g flat", "h"),
            ("BatchNormalization", "q h c m v", "n"),
            ("Clip", "n zero one", "p"),
            ("Mul", "p f", "r"),
        ],
        {
            **{"axes": np.array([1]), "all": np.array([0, 1, 2, 3]), "flat": np.array([1]), "f": normal(6, 1, 1)},
            **{"c": normal(1), "m": normal(1), "v": np.ones(1, np.float32)},
        },
    ),
    "sum-of-ranks": ([("ReduceMax", "b axes", "g", {"keepdims": 0}), ("Add", "a g", "r")], {"axes": np.array([1])}),
    "product-of-ranks": (
        [("ReduceMax", "b axes", "g", {"keepdims": 0}), ("Mul", "g f", "r")],
        {"axes": np.array([1]), "f": np.abs(normal(1, 6, 9, 8))},
    ),
    "average-pool-counted-ceil": (
        [
            (
                "AveragePool",
                "a",
                "r",
                {
                    "kernel_shape": [2, 3],
                    "strides": [2, 3],
                    "pads": [0, 1, 1, 1],
                    "ceil_mode": 1,
                    "count_include_pad": 1,
                },
            )
        ],
        {},
    ),
    "average-pool-1d": (
        [
            ("Reshape", "a s", "l"),
            ("AveragePool", "l", "p", {"kernel_shape": [3], "pads": [1, 1]}),
            ("Reshape", "p back", "r"),
        ],
        {"s": np.array([0, 6, 72]), "back": np.array([0, 6, 9, 8])},
    ),
    "reduce-everything": ([("ReduceMean", "a", "g"), ("Add", "b g", "r")], {}),
    "pad-reflect": ([("Pad", "a p", "r", {"mode": "reflect"})], {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1])}),
    "pad-cut": ([("Pad", "a p", "r")], {"p": np.array([0, 0, -1, 2, 0, 0, 0, 1])}),
    "clip-computed": (
        [("ReduceMax", "b axes", "m", {"keepdims": 0}), ("Clip", "a zero m", "r")],
        {"axes": np.array([0, 1, 2, 3])},
    ),
    "prelu-computed": ([("Sigmoid", "b", "s"), ("PRelu", "a s", "r")], {}),
}


@pytest.mark.parametrize("case", BOXED)
def test_a_form_without_a_rule_is_bounded_by_its_interval(case, tmp_path):
    nodes, constants = BOXED[case]
    limits = {
        name: scalar(number)
        for name, number in (("zero", 0), ("one", 1))
        if any(name in node[1].split() for node in nodes)
    }
    network = followed(tmp_path, nodes, constants | limits, PRESETS["imagenet"])
    layer = network.layers[-1]
    assert any(isinstance(piece, Box) for piece in subgraph_before(network, layer, SIZE).pieces.values())
    for canvas, objective in objectives(network, layer):
        found = upper_bounds(network, layer, canvas, objective, [3, 0, 4])
        for pixels in pictures(network, 4):  # one at a time: a kernel or a bias is made from each
            assert np.all(Meter(network, layer, canvas).all_units(pixels[None])[0, [3, 0, 4]] <= found), objective


def test_a_layer_that_sees_the_image_gets_its_exact_maximum(tmp_path):
    network = followed(tmp_path, *CASES["relu"], PRESETS["imagenet"])
    layer = network.layers[0]
    canvas = canvas_for(network, layer, "neuron")
    found = upper_bounds(network, layer, canvas, "neuron", range(6))
    weight = layer.weight.astype(np.float64)
    low, high = (end[:, None, None] for end in network.input.domain())
    exact = np.maximum(weight * low, weight * high).sum(axis=(1, 2, 3)) + layer.bias_vector
    np.testing.assert_allclose(found, exact, rtol=1e-4)
    assert np.all(found >= exact)


def test_two_neurons_that_exclude_each_other_are_not_both_counted(tmp_path):
    """relu(x) and relu(−x) of one pixel: intervals give 1 + 1, the relaxation knows that it is at most 1."""
    nodes = [("Conv", "x k", "a"), ("Relu", "a", "r"), ("Conv", "r w", "y")]
    constants = {"k": np.array([1, -1], np.float32).reshape(2, 1, 1, 1), "w": np.ones((1, 2, 1, 1), np.float32)}
    network = opened(tmp_path, build(nodes, constants, shape=("N", 1, 1, 1)), PRESETS["symmetric"], (1, 1))
    found = upper_bounds(network, network.layers[-1], Canvas(1, 1, 0, 0), "neuron", [0])
    np.testing.assert_allclose(intervals(network)["y"].high, 2, rtol=1e-4)
    np.testing.assert_allclose(found, 1, rtol=1e-4)


def test_a_bound_counts_only_the_positions_it_is_of(tmp_path):
    """A constant map that differs from place to place: the bound of a neuron is its own."""
    nodes = [("Add", "x c", "s"), ("Conv", "s k", "y")]
    constants = {"c": np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2), "k": np.ones((1, 1, 1, 1), np.float32)}
    network = opened(tmp_path, build(nodes, constants, shape=("N", 1, 2, 2)), PRESETS["unit"], (2, 2))
    layer = network.layers[0]
    found = [
        upper_bounds(network, layer, Canvas(2, 2, row, column), "neuron", [0])[0] for row, column in np.ndindex(2, 2)
    ]
    np.testing.assert_allclose(found, [1, 2, 3, 4], rtol=1e-4)


def test_what_is_unbounded_has_no_bound(tmp_path):
    nodes = [("CumSum", "a axis", "u"), ("Conv", "u w", "y")]
    constants = KERNELS | {"axis": np.array(2), "w": normal(4, 6, 1, 1)}
    network = opened(tmp_path, build([PREFIX[0], *nodes], constants, shape=("N", 3, *SIZE)), PRESETS["unit"])
    found = upper_bounds(network, network.layers[-1], Canvas(*SIZE, 0, 0), "neuron", [0, 2])
    assert np.isposinf(found).all()


@pytest.mark.parametrize("seed", range(20))
def test_the_envelope_of_a_maximum_is_the_concave_envelope(seed):
    """At a random point, the least of its faces is the largest mean of the maximum over vertices with that mean."""
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(seed)
    low, width = rng.normal(size=4), rng.uniform(0, 2, 4)
    high = low + width
    x = low + width * rng.uniform(size=4)
    vertices = np.array(list(itertools.product(*zip(low, high, strict=True))))
    rows = np.vstack([vertices.T, np.ones(len(vertices))])
    best = -optimize.linprog(-vertices.max(axis=1), A_eq=rows, b_eq=[*x, 1]).fun
    ends = (torch.from_numpy(end).reshape(1, 1, 1, 4) for end in (low, high))
    inside = torch.ones(1, 4, dtype=torch.bool)
    envelope = Envelope(
        *ends,
        inside,
        torch.tensor([[[low.max()]]]),
        torch.tensor([[[high.max()]]]),
        torch.zeros(1, 1, 1, 4, dtype=torch.float64),
    )
    faces = []
    for m in (low.max(), *high, *rng.uniform(low.max(), high.max(), 5)):
        weights, offset = envelope.above(torch.full((1, 1, 1), m, dtype=torch.float64))
        faces.append(weights.numpy().ravel() @ x + offset.item())
        assert np.all(vertices @ weights.numpy().ravel() + offset.item() >= vertices.max(axis=1))
    assert min(faces) == pytest.approx(best, abs=1e-8)


@pytest.mark.parametrize("case", ["relu", "clip", "clip-above", "leaky", "steep", "turned"])
def test_the_faces_of_a_kink_hold_it_between_them(case, tmp_path):
    network = followed(tmp_path, *CASES[case], PRESETS["unit"])
    piece = subgraph_before(network, network.layers[-1], SIZE).pieces["r"]
    rng = np.random.default_rng(0)
    low = torch.from_numpy(rng.normal(size=(500, 1)) * 2)
    high = low + torch.from_numpy(rng.uniform(0, 3, (500, 1)))
    x = low + (high - low) * torch.linspace(0, 1, 40)
    above, below = kink_linear_bounds(piece, low, high)
    for t in (0.0, 0.4, 1.0):
        up, over = above.between(torch.tensor(t))
        down, under = below.between(torch.tensor(t))
        assert (up * x + over >= piece.at(x)).all()
        assert (down * x + under <= piece.at(x)).all()


@needs_data
@pytest.mark.parametrize("objective", ["neuron", "channel"])
def test_a_real_network_keeps_its_bounds_and_gains_a_quarter_on_intervals(objective):
    svhn = custom(1, (0.4377, 0.4438, 0.4728), (0.198, 0.201, 0.197))
    network = open_network(MODELS / "svhn_cnn6.onnx", InputOptions(preprocessing=svhn))
    known, shared = intervals(network), SharedBounds(network)
    for layer in network.layers[:4]:
        canvas = canvas_for(network, layer, objective)
        channels = np.arange(0, layer.out_channels, 4)
        found = upper_bounds(network, layer, canvas, objective, channels, shared)
        shown = network.random_pixels(64, canvas.size, 4)
        shown = np.concatenate([shown, np.where(shown > 127, 255, 0).astype(np.uint8)])
        values = Meter(network, layer, canvas).all_units(shown)[:, channels]
        assert np.all(values <= found)
        assert np.all(found <= known[layer.value].high[channels])
        if layer is network.layers[1]:
            assert np.mean(found / known[layer.value].high[channels]) < 0.75


@needs_data
def test_intervals_of_inner_layers_make_closer_bounds_where_no_padding_is_seen(monkeypatch):
    svhn = custom(1, (0.4377, 0.4438, 0.4728), (0.198, 0.201, 0.197))
    network = open_network(MODELS / "svhn_cnn6.onnx", InputOptions(preprocessing=svhn))
    layer = network.layers[2]
    canvas = canvas_for(network, layer, "neuron")
    close = upper_bounds(network, layer, canvas, "neuron", range(0, 64, 8))
    shared = SharedBounds(network)
    found = shared.element_bounds(network.layers[1].value, canvas.size, (1, 32, *canvas.size))
    assert torch.isfinite(found[0][..., 2:8, 2:8]).all()
    assert torch.isinf(found[1][..., :2, :]).all()
    assert torch.isinf(found[1][..., 8:]).all()
    monkeypatch.setattr("filterscope.analyzer.bounds.linear_relaxation.MOST_SHARED", 0)
    plain = upper_bounds(network, layer, canvas, "neuron", range(0, 64, 8))
    assert np.all(close <= plain)
    assert np.mean(close / plain) < 0.9


@pytest.mark.parametrize("case", ["same", "maps", "moves", "silu", "global-average", "pad"])
def test_what_differs_from_place_to_place_is_not_carried_from_one_place_to_all(case, tmp_path):
    network = followed(tmp_path, *CASES[case], PRESETS["unit"])
    assert not is_translation_equivariant(subgraph_before(network, network.layers[-1], SIZE))


def test_what_is_translation_equivariant_is(tmp_path):
    for case in (
        "relu",
        "clip",
        "prelu",
        "max-pool-padded",
        "average-pool",
        "residual",
        "constants",
        "norm",
        "grouped",
    ):
        network = followed(tmp_path, *CASES[case], PRESETS["unit"])
        assert is_translation_equivariant(subgraph_before(network, network.layers[-1], SIZE)), case
