"""The vertex jump: exact where one jump is, never below where it starts, and true to preprocessing and batches."""

import threading

import numpy as np
import pytest
import torch

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.maximize.analytic import image_maximisers
from filterscope.analyzer.maximize.problem import Problem
from filterscope.analyzer.maximize.vertex_jump import JUMPS, jump
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import PRESETS, custom
from filterscope.analyzer.units.canvas import canvas_for
from filterscope.analyzer.units.measure import Meter
from filterscope.analyzer.units.objectives import Neuron, objective_for
from support.networks import MODELS, build, needs_data, normal
from support.opened import INVERTED, opened

CPU = torch.device("cpu")
SVHN = custom(1, (0.4377, 0.4438, 0.4728), (0.198, 0.201, 0.197))
TWO_LAYERS = [
    ("Conv", "x k c", "a", {"pads": [1, 1, 1, 1]}),
    ("Relu", "a", "r"),
    ("Conv", "r w", "y", {"pads": [1, 1, 1, 1]}),
]
KERNELS = {"k": normal(8, 3, 3, 3) / 3, "c": normal(8) / 3, "w": normal(5, 8, 3, 3) / 8}


def grey(network, size):
    return np.full((1, *size, network.input.channels), 128, np.uint8)


@pytest.mark.parametrize("preprocessing", [PRESETS["imagenet"], INVERTED], ids=["imagenet", "inverted"])
def test_on_the_image_itself_one_jump_is_the_closed_form(preprocessing, tmp_path):
    network = opened(tmp_path, build(TWO_LAYERS, KERNELS), preprocessing, (16, 16))
    layer = network.layers[0]
    canvas = canvas_for(network, layer, "neuron")
    found = jump(Problem(network, layer, canvas, Neuron.on(canvas)), range(8), CPU)
    np.testing.assert_array_equal(found.tiles, image_maximisers(network, layer, range(8)).tiles)
    assert (found.steps == 2).all()  # mid grey, and the vertex, from which no jump leads on


@pytest.mark.parametrize("objective", ["neuron", "channel"])
@pytest.mark.parametrize("preprocessing", [PRESETS["imagenet"], INVERTED], ids=["imagenet", "inverted"])
def test_a_jump_ends_no_lower_than_its_first_two_pictures(objective, preprocessing, tmp_path):
    """Mid grey, and the vertex that its gradient shows, found here by ONNX Runtime's finite differences."""
    network = opened(tmp_path, build(TWO_LAYERS, KERNELS), preprocessing, (16, 16))
    layer = network.layers[1]
    canvas = canvas_for(network, layer, objective)
    meter, units = Meter(network, layer, canvas), np.arange(5)
    found = jump(Problem(network, layer, canvas, objective_for(objective, canvas)), units.tolist(), CPU)
    values = meter.activation(found.tiles, units)
    start = grey(network, canvas.size)
    places = start.size
    raised = np.repeat(start, places, axis=0).reshape(places, places)
    raised[np.arange(places), np.arange(places)] += 1
    slopes = meter.all_units(raised.reshape(places, *start.shape[1:])) - meter.all_units(start)
    vertices = np.where(slopes > 0, 255, 0).astype(np.uint8).T.reshape(5, *start.shape[1:])
    at_vertex = meter.activation(vertices, units)
    at_start = meter.all_units(start)[0]
    assert (values >= np.maximum(at_start, at_vertex) - 0.01 * abs(at_vertex)).all()
    if objective == "neuron":  # the mean of a map may fall at each vertex
        assert (values > meter.best_of_random()).all()
    assert (found.steps >= 2).all()
    assert not found.diverged.any()


def test_units_of_a_batch_do_not_see_each_other(tmp_path):
    network = opened(tmp_path, build(TWO_LAYERS, KERNELS), PRESETS["imagenet"], (16, 16))
    layer = network.layers[1]
    canvas = canvas_for(network, layer, "neuron")
    together = jump(Problem(network, layer, canvas, Neuron.on(canvas)), [4, 0, 2], CPU)
    alone = jump(Problem(network, layer, canvas, Neuron.on(canvas)), [2], CPU)
    np.testing.assert_array_equal(together.tiles[2], alone.tiles[0])
    assert together.steps[2] == alone.steps[0]


def test_a_unit_that_sleeps_at_mid_grey_is_woken(tmp_path):
    """Its only ReLU is closed there: the gradient is nothing, and the open gate shows the way."""
    pattern = np.sign(normal(1, 1, 3, 3))
    constants = {"k": pattern, "c": np.array([-2], np.float32), "w": np.ones((1, 1, 1, 1), np.float32)}
    nodes = [("Conv", "x k c", "a"), ("Relu", "a", "r"), ("Conv", "r w", "y")]
    network = opened(tmp_path, build(nodes, constants, shape=("N", 1, 3, 3)), PRESETS["symmetric"], (3, 3))
    layer = network.layers[1]
    canvas = canvas_for(network, layer, "neuron")
    found = jump(Problem(network, layer, canvas, Neuron.on(canvas)), [0], CPU)
    np.testing.assert_array_equal(found.tiles[0, :, :, 0], np.where(pattern[0, 0] > 0, 255, 0))


def test_between_two_vertices_the_better_middle_is_found(tmp_path):
    """A tent over one pixel, highest at 0.75 of the way to white: no vertex is as good."""
    constants = {
        "k": np.array([1, 1], np.float32).reshape(2, 1, 1, 1),
        "c": np.array([1, -0.5], np.float32),
        "w": np.array([1, -3], np.float32).reshape(1, 2, 1, 1),
    }
    nodes = [("Conv", "x k c", "a"), ("Relu", "a", "r"), ("Conv", "r w", "y")]
    network = opened(tmp_path, build(nodes, constants, shape=("N", 1, 1, 1)), PRESETS["symmetric"], (1, 1))
    layer = network.layers[1]
    canvas = canvas_for(network, layer, "neuron")
    found = jump(Problem(network, layer, canvas, Neuron.on(canvas)), [0], CPU)
    assert found.tiles.item() == pytest.approx(0.75 * 255, abs=1)


def test_a_stop_is_heard(tmp_path):
    network = opened(tmp_path, build(TWO_LAYERS, KERNELS), PRESETS["imagenet"], (16, 16))
    layer = network.layers[1]
    canvas = canvas_for(network, layer, "neuron")
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedError, match=layer.name):
        jump(Problem(network, layer, canvas, Neuron.on(canvas)), [0], CPU, stop)


@needs_data
def test_on_a_real_second_layer_few_jumps_reach_most_of_the_maximum():
    network = open_network(MODELS / "svhn_cnn6.onnx", InputOptions(preprocessing=SVHN))
    layer = network.layers[1]
    canvas = canvas_for(network, layer, "neuron")
    found = jump(Problem(network, layer, canvas, Neuron.on(canvas)), [0, 3, 6], CPU)
    values = Meter(network, layer, canvas).activation(found.tiles, np.array([0, 3, 6]))
    proven = np.array([14.800, 25.730, 23.699])  # docs/certified.md
    assert (values >= 0.97 * proven).all()
    assert (values <= proven).all()
    assert (found.steps <= JUMPS + 4).all()
