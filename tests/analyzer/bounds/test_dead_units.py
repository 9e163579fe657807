"""Dead units: what is proven dead never wakes, and the relaxation proves what intervals cannot."""

import numpy as np
import pytest

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.bounds import dead_units
from filterscope.analyzer.bounds.dead_units import never_positive
from filterscope.analyzer.bounds.interval_bounds import intervals
from filterscope.analyzer.bounds.linear_relaxation import SharedBounds
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import PRESETS, custom
from support.networks import MODELS, build, needs_data, normal
from support.opened import opened, pictures

SIGNS = np.array([1, -1], np.float32).reshape(2, 1, 1, 1)


def excluding(folder, bias, pads):
    """Units relu(x) + relu(−x) + bias over 1 × 3 windows: 3 at most before the bias, 2 beside the border."""
    nodes = [("Conv", "x k", "a"), ("Relu", "a", "r"), ("Conv", "r w c", "y", {"pads": [0, pads, 0, pads]})]
    window = np.ones((len(bias), 2, 1, 3), np.float32)
    constants = {"k": SIGNS, "w": window, "c": np.array(bias, np.float32)}
    return opened(folder, build(nodes, constants, shape=("N", 1, 4, 5)), PRESETS["symmetric"], (4, 5))


def test_units_are_proven_dead_that_intervals_leave_open(tmp_path):
    network = excluding(tmp_path, [-3.1, -2.9, -7], 1)
    layer = network.layers[-1]
    assert (intervals(network)["y"].high <= 0).tolist() == [False, False, True]
    assert never_positive(network, layer).tolist() == [True, False, True]


def test_a_unit_that_wakes_at_the_padded_border_alone_is_not_dead(tmp_path):
    """With weights below 0 and a bright picture, padding is what lifts a neuron."""
    nodes = [("Conv", "x w c", "y", {"pads": [0, 1, 0, 1]})]
    constants = {"w": np.full((2, 1, 1, 3), -1, np.float32), "c": np.array([2.5, 1.5], np.float32)}
    bright = custom(255, (-255,), (255,))  # pixels are 1 to 2
    network = opened(tmp_path, build(nodes, constants, shape=("N", 1, 1, 5)), bright, (1, 5))
    assert never_positive(network, network.layers[0]).tolist() == [False, True]
    maps = network.session(["y"]).run(network.input.to_model(np.zeros((1, 1, 5, 1), np.uint8)))["y"]
    assert (maps[0, 0, 0] > 0).tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_dead_never_wakes(seed, tmp_path):
    nodes = [
        ("Conv", "x k c", "a", {"pads": [1, 1, 1, 1]}),
        ("Relu", "a", "r"),
        ("Conv", "r w d", "y", {"pads": [1, 1, 1, 1]}),
    ]
    constants = {
        **{"k": normal(4, 3, 3, 3, seed=seed) / 4, "c": normal(4, seed=seed)},
        **{"w": normal(24, 4, 3, 3, seed=seed) / 4, "d": np.linspace(-90, 2, 24, dtype=np.float32)},
    }
    network = opened(tmp_path, build(nodes, constants, shape=("N", 3, 6, 5)), PRESETS["imagenet"], (6, 5))
    found = never_positive(network, network.layers[-1])
    maps = network.session(["y"]).run(network.input.to_model(pictures(network, 200)))["y"]
    assert maps[:, found].max(initial=-1) <= 0
    assert found.sum() > (intervals(network)["y"].high <= 0).sum()


def test_where_work_is_short_intervals_decide(tmp_path, monkeypatch):
    network = excluding(tmp_path, [-3.1, -7], 1)
    monkeypatch.setattr(dead_units, "WORK", 0)
    assert never_positive(network, network.layers[-1]).tolist() == [False, True]


@needs_data
def test_a_real_network_has_no_unit_that_is_dead_and_fires():
    svhn = custom(1, (0.4377, 0.4438, 0.4728), (0.198, 0.201, 0.197))
    network = open_network(MODELS / "svhn_cnn6.onnx", InputOptions(preprocessing=svhn))
    shared = SharedBounds(network)
    x = network.input.to_model(pictures(network, 10))
    for layer in network.layers[:3]:
        maps = network.session([layer.value]).run(x)[layer.value]
        assert maps[:, never_positive(network, layer, shared)].max(initial=-1) <= 0
