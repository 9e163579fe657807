"""Proven maxima against an exact oracle: every state of every ReLU and pooling, a linear program for each."""

import itertools
import math

import numpy as np
import pytest
import torch

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.certify import encoding
from filterscope.analyzer.certify.certifier import Certifier, certify
from filterscope.analyzer.maximize.engine import ascend
from filterscope.analyzer.maximize.presets import Recipe, preset_named, quality_named
from filterscope.analyzer.maximize.problem import Problem
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import PRESETS, custom
from filterscope.analyzer.units.canvas import Canvas, canvas_for
from filterscope.analyzer.units.objectives import Neuron
from filterscope.converters.errors import SettingsError
from support.networks import MODELS, answers, build, needs_data, normal
from support.opened import INVERTED, opened

SVHN = custom(1, (0.4377, 0.4438, 0.4728), (0.198, 0.201, 0.197))


def scalar(number):
    return np.array(number, np.float32)


# states of one kink or maximum whose inputs are rows of M x + c: (row, constant) that it gives, rows that must be ≥ 0


def relu(rows):
    ((m, c),) = rows
    return [((m, c), [(m, c)]), ((0 * m, 0.0), [(-m, -c)])]


def clipped(ceiling):
    def states(rows):
        ((m, c),) = rows
        inside = [(m, c), (-m, ceiling - c)]
        return [((m, c), inside), ((0 * m, 0.0), [(-m, -c)]), ((0 * m, ceiling), [(m, c - ceiling)])]

    return states


def leaky(slope):
    def states(rows):
        ((m, c),) = rows
        return [((m, c), [(m, c)]), ((slope * m, slope * c), [(-m, -c)])]

    return states


def maximum(rows):
    return [((m, c), [(m - n, c - d) for n, d in rows]) for m, c in rows]


def passed(rows):
    return [(rows[0], [])]


def largest(low, high, layers):
    """The greatest first row after all layers, over low ≤ x ≤ high, by a linear program for each joint state.

    Args:
        layers: (W, b) for an affine map, or a list of (states, rows that it reads).
    """
    optimize = pytest.importorskip("scipy.optimize")
    best = -math.inf

    def search(m, c, needed, layers):
        nonlocal best
        if not layers:
            rows = [-n for n, _ in needed], [d for _, d in needed]
            found = optimize.linprog(
                -m[0], *(rows if needed else (None, None)), bounds=list(zip(low, high, strict=True))
            )
            if found.status == 0:
                best = max(best, c[0] - found.fun)
            return
        layer, rest = layers[0], layers[1:]
        if isinstance(layer, tuple):
            w, b = layer
            search(w @ m, w @ c + b, needed, rest)
            return
        for joint in itertools.product(*(states([(m[row], c[row]) for row in rows]) for states, rows in layer)):
            given = np.array([m_c[0] for m_c, _ in joint]), np.array([m_c[1] for m_c, _ in joint])
            search(*given, [*needed, *itertools.chain(*(must for _, must in joint))], rest)

    search(np.eye(len(low)), np.zeros(len(low)), [], layers)
    return best


def map_of(network, value):
    """W, b of a value that is an affine map of the image, asked of ONNX Runtime: rows in the value's own order."""
    shape = (network.input.channels, network.input.height, network.input.width)
    x = np.concatenate([np.zeros((1, *shape)), np.eye(math.prod(shape)).reshape(-1, *shape)]).astype(np.float32)
    y = network.session([value]).run(x)[value].reshape(len(x), -1).astype(np.float64)
    return (y[1:] - y[0]).T, y[0]


def domain(network):
    places = network.input.height * network.input.width
    return tuple(np.repeat(end, places) for end in network.input.domain())


def each(states, count, first=0):
    return [(states, [first + i]) for i in range(count)]


def one(weight):
    """A 1 × 1 kernel as a matrix."""
    return weight[:, :, 0, 0].astype(np.float64)


FIVE, FOUR = normal(5, 1, 3, 3) / 2, normal(4, 1, 3, 3, seed=3) / 2
BIAS, ENDS = normal(5) / 3, normal(1, 5, 1, 1)
MIX, LAST = normal(3, 4, 1, 1, seed=1), normal(1, 3, 1, 1, seed=7)
PAIR = normal(3, 1, 3, 2, seed=4)  # on a 3 × 3 image: a map of 1 × 2
CLIP = {"low": scalar(0), "high": scalar(0.8)}
POOL = {"kernel_shape": [1, 2]}

# nodes from image x to neuron y, constants, the first affine value, and the oracle's layers behind it
CASES = {
    "relu": (
        [("Conv", "x k c", "a"), ("Relu", "a", "r"), ("Conv", "r w", "y")],
        {"k": FIVE, "c": BIAS, "w": ENDS},
        [each(relu, 5), (one(ENDS), 0)],
    ),
    "clip": (
        [("Conv", "x k c", "a"), ("Clip", "a low high", "r"), ("Conv", "r w", "y")],
        {"k": FIVE, "c": BIAS, "w": ENDS, **CLIP},
        [each(clipped(0.8), 5), (one(ENDS), 0)],
    ),
    "leaky": (
        [("Conv", "x k c", "a"), ("LeakyRelu", "a", "r", {"alpha": 0.3}), ("Conv", "r w", "y")],
        {"k": FIVE, "c": BIAS, "w": ENDS},
        [each(leaky(0.3), 5), (one(ENDS), 0)],
    ),
    "leaky-one-sided": (  # the first is never below 0, the second never above
        [("Conv", "x k c", "a"), ("LeakyRelu", "a", "r", {"alpha": 0.3}), ("Conv", "r w", "y")],
        {"k": FIVE, "c": np.float32([40, -40, 0.1, 0.2, -0.1]), "w": ENDS},
        [each(leaky(0.3), 5), (one(ENDS), 0)],
    ),
    "steep": (
        [("Conv", "x k c", "a"), ("LeakyRelu", "a", "r", {"alpha": 1.5}), ("Conv", "r w", "y")],
        {"k": FIVE, "c": BIAS, "w": ENDS},
        [each(leaky(1.5), 5), (one(ENDS), 0)],
    ),
    "turned": (
        [("Conv", "x k c", "a"), ("LeakyRelu", "a", "r", {"alpha": -0.5}), ("Conv", "r w", "y")],
        {"k": FIVE, "c": BIAS, "w": ENDS},
        [each(leaky(-0.5), 5), (one(ENDS), 0)],
    ),
    "two": (
        [("Conv", "x k", "a"), ("Relu", "a", "r"), ("Conv", "r m", "b"), ("Relu", "b", "s"), ("Conv", "s w", "y")],
        {"k": FOUR, "m": MIX, "w": LAST},
        [each(relu, 4), (one(MIX), 0), each(relu, 3), (one(LAST), 0)],
    ),
    "residual": (
        [
            *(("Conv", "x k", "a"), ("Relu", "a", "r"), ("Conv", "r m", "b"), ("Conv", "a n", "d")),
            *(("Add", "b d", "e"), ("Relu", "e", "s"), ("Conv", "s w", "y")),
        ],
        {"k": FOUR, "m": MIX, "n": MIX[:, ::-1].copy(), "w": LAST},
        [
            [*each(relu, 4), *each(passed, 4)],
            (np.hstack([one(MIX), one(MIX[:, ::-1])]), 0),
            each(relu, 3),
            (one(LAST), 0),
        ],
    ),
    "concat": (
        [("Conv", "x k", "a"), ("Relu", "a", "r"), ("Concat", "r a", "j", {"axis": 1}), ("Conv", "j w", "y")],
        {"k": FOUR, "w": normal(1, 8, 1, 1)},
        [[*each(relu, 4), *each(passed, 4)], (one(normal(1, 8, 1, 1)), 0)],
    ),
    "max-pool": (
        [("Conv", "x k", "a"), ("Relu", "a", "r"), ("MaxPool", "r", "p", POOL), ("Conv", "p w", "y")],
        {"k": PAIR, "w": LAST},
        [each(relu, 6), [(maximum, [2 * i, 2 * i + 1]) for i in range(3)], (one(LAST), 0)],
    ),
    "max-pool-one-sided": (  # of the first window one place is always the largest, of the second neither exceeds 0
        [
            *(("Conv", "x k", "q"), ("Add", "q m", "a"), ("Relu", "a", "r")),
            *(("MaxPool", "r", "p", POOL), ("Conv", "p w", "y")),
        ],
        {"k": PAIR, "m": np.float32([[[[40, -40]], [[-40, -40]], [[0, 0]]]]), "w": LAST},
        [each(relu, 6), [(maximum, [2 * i, 2 * i + 1]) for i in range(3)], (one(LAST), 0)],
    ),
    "max-pool-alone": (
        [("Conv", "x k", "a"), ("MaxPool", "a", "p", POOL), ("Conv", "p w", "y")],
        {"k": PAIR, "w": LAST},
        [[(maximum, [2 * i, 2 * i + 1]) for i in range(3)], (one(LAST), 0)],
    ),
    "max-pool-clip": (
        [("Conv", "x k", "a"), ("Clip", "a low high", "r"), ("MaxPool", "r", "p", POOL), ("Conv", "p w", "y")],
        {"k": PAIR[:2], "w": LAST[:, :2], **CLIP},
        [each(clipped(0.8), 4), [(maximum, [0, 1]), (maximum, [2, 3])], (one(LAST[:, :2]), 0)],
    ),
    "average-pool": (
        [("Conv", "x k", "a"), ("Relu", "a", "r"), ("AveragePool", "r", "p", POOL), ("Conv", "p w", "y")],
        {"k": PAIR, "w": LAST},
        [each(relu, 6), (np.kron(one(LAST), [[0.5, 0.5]]), 0)],
    ),
}


@pytest.mark.parametrize("preprocessing", [PRESETS["symmetric"], custom(255, (10,), (-60,))], ids=["plain", "inverted"])
@pytest.mark.parametrize("case", CASES)
def test_the_proven_maximum_is_that_of_all_states_together(case, preprocessing, tmp_path):
    nodes, constants, layers = CASES[case]
    network = opened(tmp_path, build(nodes, constants, shape=("N", 1, 3, 3)), preprocessing, (3, 3))
    exact = largest(*domain(network), [map_of(network, "a"), *layers])
    found = certify(network, network.layers[-1], 0, None, 30)
    assert found.bound >= exact
    assert found.bound == pytest.approx(exact, rel=2e-4, abs=2e-4)
    assert found.value <= found.bound
    assert found.value == pytest.approx(exact, rel=0.02, abs=0.02)  # 8 bits
    assert found.gap == pytest.approx((found.bound - found.value) / abs(found.bound))


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 1)])
def test_a_neuron_at_a_padded_border_is_itself(place, tmp_path):
    first, second = normal(2, 1, 3, 3) / 2, normal(1, 2, 3, 3)
    nodes = [
        ("Conv", "x k c", "a", {"pads": [1, 1, 1, 1]}),
        ("Relu", "a", "r"),
        ("Conv", "r w", "y", {"pads": [1, 1, 1, 1]}),
    ]
    constants = {"k": first, "c": normal(2), "w": second}
    network = opened(tmp_path, build(nodes, constants, shape=("N", 1, 2, 2)), PRESETS["symmetric"], (2, 2))
    behind = build([nodes[-1]], {"w": second}, shape=("N", 2, 2, 2))
    behind.graph.node[0].input[0] = "x"
    weights = answers(behind, np.eye(8, dtype=np.float32).reshape(8, 2, 2, 2))["y"][:, 0, *place][None]
    exact = largest(*domain(network), [map_of(network, "a"), each(relu, 8), (weights.astype(np.float64), 0)])
    found = Certifier(network, network.layers[-1], Canvas(2, 2, *place)).certify(0)
    assert exact <= found.bound <= exact * (1 + 1e-4) + 1e-4
    assert found.proven == (found.gap <= 1e-3)


def test_a_planted_maximum_is_found_and_proven(tmp_path):
    """Two patterns on pixels of their own: the best picture shows both, and its value is the sum of all weights."""
    kernels = np.sign(normal(2, 3, 3, 3)) * np.abs(normal(2, 3, 3, 3, seed=1)).round(2)
    wanted = np.zeros((1, 2, 2, 1), np.float32)
    wanted[0, 0, 0], wanted[0, 1, 1] = 1, 2
    nodes = [("Conv", "x k", "a"), ("Relu", "a", "r"), ("Conv", "r w", "y", {"dilations": [3, 1]})]
    model = build(nodes, {"k": kernels, "w": wanted}, shape=("N", 3, 6, 3))
    network = opened(tmp_path, model, PRESETS["symmetric"], (6, 3))
    found = certify(network, network.layers[-1], 0, None, 30)
    known = np.where(np.concatenate([kernels[0], kernels[1]], axis=1) > 0, 255, 0).transpose(1, 2, 0)
    total = np.abs(kernels[0]).sum() + 2 * np.abs(kernels[1]).sum()
    np.testing.assert_array_equal(found.image, known)
    assert found.proven
    assert found.value == pytest.approx(total, rel=1e-5)
    assert total <= found.bound <= total * (1 + 1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_found_by_any_method_exceeds_a_proof(seed, tmp_path):
    """Random networks with a residual block and a pooling, their inputs inverted and in BGR order."""
    nodes = [
        ("Conv", "x k c", "a", {"pads": [1, 1, 1, 1]}),
        ("Relu", "a", "r"),
        ("Conv", "r m", "b", {"pads": [1, 1, 1, 1]}),
        ("Add", "b r", "s"),
        ("Relu", "s", "t"),
        ("MaxPool", "t", "p", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Conv", "p w", "y"),
    ]
    constants = {
        **{"k": normal(4, 3, 3, 3, seed=seed) / 4, "c": normal(4, seed=seed)},
        **{"m": normal(4, 4, 3, 3, seed=seed) / 4, "w": normal(3, 4, 2, 2, seed=seed)},
    }
    network = opened(tmp_path, build(nodes, constants, shape=("N", 3, 4, 4)), INVERTED, (4, 4))
    layer = network.layers[-1]
    canvas = canvas_for(network, layer, "neuron")
    certifier = Certifier(network, layer, canvas)
    climbed = ascend(
        Problem(network, layer, canvas, Neuron.on(canvas)),
        range(3),
        Recipe(preset_named("filterscope"), quality_named("standard")),
        seed=seed,
        device=torch.device("cpu"),
    )
    noise = network.random_pixels(200, canvas.size, seed)
    shown = np.concatenate([climbed.tiles, noise, np.where(noise > 127, 255, 0).astype(np.uint8)])
    values = certifier.meter.all_units(shown)
    relaxed = certifier.relaxation.upper("neuron", range(3))
    for channel in range(2):
        found = certifier.certify(channel, climbed.tiles[channel], 1)
        assert values[:, channel].max() <= found.bound <= relaxed[channel]
        assert found.value >= values[channel, channel]
        again = certifier.meter.activation(found.image[None], np.array([channel]))
        assert found.value == again[0]


def test_a_layer_that_sees_the_image_needs_no_search(tmp_path):
    network = opened(
        tmp_path, build([("Conv", "x k", "y")], {"k": normal(2, 3, 3, 3)}, shape=("N", 3, 3, 3)), INVERTED, (3, 3)
    )
    layer = network.layers[0]
    low, high = (end[:, None, None] for end in network.input.domain())
    weight = layer.weight.astype(np.float64)
    exact = np.maximum(weight * low, weight * high).sum(axis=(1, 2, 3)) + layer.bias_vector
    for channel in range(2):
        found = certify(network, layer, channel, None, 10)
        assert found.binaries == 0
        assert found.proven
        assert found.value == pytest.approx(exact[channel], rel=1e-5)
        assert exact[channel] <= found.bound


def test_an_operator_that_no_program_knows_is_named(tmp_path):
    nodes = [("Conv", "x k", "a"), ("Sigmoid", "a", "r"), ("Conv", "r w", "y")]
    network = opened(tmp_path, build(nodes, {"k": FIVE, "w": ENDS}, shape=("N", 1, 3, 3)), PRESETS["unit"], (3, 3))
    with pytest.raises(SettingsError, match=r"Sigmoid .* leads to its neurons"):
        certify(network, network.layers[-1], 0, None, 1)


def test_a_field_too_large_is_told(tmp_path, monkeypatch):
    nodes, constants, _ = CASES["relu"]
    network = opened(tmp_path, build(nodes, constants, shape=("N", 1, 3, 3)), PRESETS["unit"], (3, 3))
    monkeypatch.setattr(encoding, "LARGEST", 4)
    with pytest.raises(SettingsError, match="choose an earlier layer"):
        certify(network, network.layers[-1], 0, None, 1)


def test_a_proof_is_of_a_neuron(tmp_path):
    nodes, constants, _ = CASES["relu"]
    network = opened(tmp_path, build(nodes, constants, shape=("N", 1, 3, 3)), PRESETS["unit"], (3, 3))
    with pytest.raises(SettingsError, match="a canvas with a position"):
        Certifier(network, network.layers[-1], Canvas(3, 3, None, None))


def test_the_solver_says_nothing_on_standard_output(tmp_path, capfd):
    nodes, constants, _ = CASES["two"]
    network = opened(tmp_path, build(nodes, constants, shape=("N", 1, 3, 3)), PRESETS["unit"], (3, 3))
    certify(network, network.layers[-1], 0, None, 5)
    assert capfd.readouterr().out == ""


@needs_data
def test_where_time_runs_out_the_bound_still_holds():
    network = open_network(MODELS / "svhn_cnn6.onnx", InputOptions(preprocessing=SVHN))
    layer = network.layers[1]
    canvas = canvas_for(network, layer, "neuron")
    climbed = ascend(
        Problem(network, layer, canvas, Neuron.on(canvas)),
        [5],
        Recipe(preset_named("filterscope"), quality_named("draft")),
        seed=0,
        device=torch.device("cpu"),
    )
    found = Certifier(network, layer, canvas).certify(5, climbed.tiles[0], 0.5)
    assert not found.proven
    assert 0 < found.value <= found.bound < math.inf
    assert found.gap > 1e-3
