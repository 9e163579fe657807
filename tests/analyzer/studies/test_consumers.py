"""What a unit feeds, against weights that are known by construction."""

import numpy as np
import onnx
import pytest

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.studies.consumers import consumers, signed_shares
from filterscope.analyzer.studies.weights import channel_origins
from support.networks import build, normal


def test_a_share_is_of_the_whole_kernel_and_signed_by_the_sum():
    weight = np.zeros((3, 2, 1, 2), np.float32)
    weight[0] = [[[3, 0]], [[-4, 0]]]
    weight[1, 0] = [[1, -2]]
    shares = signed_shares(weight)
    np.testing.assert_allclose(shares, [[0.6, -0.8], [-1, 0], [0, 0]])
    weight[2, 0, 0, 0] = np.nan
    assert (signed_shares(weight)[2] == 0).all()


@pytest.fixture
def network(tmp_path):
    """Four channels, each through a kernel of its own, then three units on them."""
    mixed = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, -3, 0, 4]], np.float32)
    weights = {"wa": normal(4, 3, 1, 1), "wb": -np.ones((4, 1, 3, 3), np.float32), "wc": mixed[:, :, None, None]}
    nodes = [
        ("Conv", "x wa", "a", {"name": "a"}),
        ("Relu", "a", "ar"),
        ("Conv", "ar wb", "b", {"name": "b", "group": 4}),
        ("Relu", "b", "br"),
        ("Conv", "br wc", "c", {"name": "c"}),
    ]
    onnx.save(build(nodes, weights), tmp_path / "m.onnx")
    return open_network(tmp_path / "m.onnx")


def test_a_unit_feeds_those_of_whose_kernel_it_is_most(network):
    a, b, c = (layer.name for layer in network.layers)
    into = consumers(network.layers, channel_origins(network), most=2)
    feeds = {unit: [(one.layer, one.channel, pytest.approx(one.share)) for one in ones] for unit, ones in into.items()}
    assert feeds == {
        **{(a, channel): [(b, channel, -1)] for channel in range(4)},
        (b, 0): [(c, 0, 1), (c, 1, 0.5**0.5)],
        (b, 1): [(c, 1, 0.5**0.5), (c, 2, -0.6)],
        (b, 3): [(c, 2, 0.8)],
    }
