"""Kernel pictures, similar units and traced inputs, against networks whose answer is known by construction."""

import numpy as np
import pytest

from filterscope import api
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.studies.weights import channel_origins, kernel_pictures, most_alike
from support.networks import build, normal


@pytest.fixture
def network(tmp_path) -> Network:
    """Two branches that are joined, then a sum that a gate scales, and a convolution on it."""
    import onnx

    weights = {
        "wa": normal(4, 3, 3, 3),
        "wb": normal(2, 3, 1, 1, seed=1),
        "wc": normal(6, 6, 1, 1, seed=2),
        "wg": normal(6, 6, 1, 1, seed=3),
        "wd": normal(5, 6, 3, 3, seed=4),
    }
    nodes = [
        ("Conv", "x wa", "a", {"name": "a", "pads": [1, 1, 1, 1]}),
        ("Relu", "a", "ar"),
        ("Conv", "x wb", "b", {"name": "b"}),
        ("Concat", "ar b", "ab", {"axis": 1}),
        ("Conv", "ab wc", "c", {"name": "c"}),
        ("Add", "ab c", "s"),
        ("GlobalAveragePool", "s", "p"),
        ("Conv", "p wg", "g", {"name": "g"}),
        ("Sigmoid", "g", "gs"),
        ("Mul", "s gs", "m"),
        ("Conv", "m wd", "d", {"name": "d"}),
    ]
    onnx.save(build(nodes, weights), tmp_path / "m.onnx")
    return open_network(tmp_path / "m.onnx")


def test_each_input_channel_is_traced_to_the_layer_it_comes_from(network):
    names = {layer.node: layer.name for layer in network.layers}
    origins = channel_origins(network)
    joined = origins[network.layer(names["c"]).source]
    assert joined == [(names["a"], i) for i in range(4)] + [(names["b"], i) for i in range(2)]
    gated = origins[network.layer(names["d"]).source]
    assert gated == [(names["c"], i) for i in range(6)], "of a sum the last layer; a gate is none of them"


def test_a_run_tells_what_each_unit_listens_to(network, tmp_path):
    api.analyze(network, out=tmp_path / "run")
    run = Run(tmp_path / "run")
    assert run.study("weights")["name"] == "weights"
    layer = next(la for la in network.layers if la.node == "d")
    slug = next(la["slug"] for la in run.layers if la["name"] == layer.name)
    weight = np.asarray(layer.weight)
    for row in run.weights(slug).to_pylist():
        norms = np.linalg.norm(weight[row["channel"]].reshape(6, -1), axis=1)
        assert row["inputs"] == list(np.argsort(-norms))
        np.testing.assert_allclose(row["norms"], np.sort(norms)[::-1], rtol=1e-5)
        sums = weight[row["channel"]].sum((1, 2))
        signed = np.where(sums < 0, -norms, norms) / np.linalg.norm(norms)
        np.testing.assert_allclose(row["shares"], signed[row["inputs"]], rtol=1e-5)
        assert row["source_channels"] == row["inputs"]
        assert row["feeds"] == [], "nothing stands behind it"
        kernels = run.tile(row)
        assert kernels.shape == (3, 18, 1)
        largest = np.abs(weight[row["channel"]]).max()
        first = (kernels[:, :3, 0].astype(float) - 128) / 127 * largest
        np.testing.assert_allclose(first, weight[row["channel"], row["inputs"][0]], atol=largest / 250)


def test_units_with_the_same_kernel_up_to_a_factor_are_most_alike():
    kernel = normal(6, 4, 3, 3)
    kernel[5] = 3 * kernel[1]
    kernel[2] = 0
    alike = most_alike(kernel)
    assert alike[1][0] == (5, pytest.approx(1))
    assert alike[5][0] == (1, pytest.approx(1))
    assert alike[2] == []
    assert all(other != 2 for others in alike for other, _ in others)
    flat = kernel[[0, 3]].reshape(2, -1)
    cosine = float(flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1]))
    assert dict(alike[0])[3] == pytest.approx(cosine, abs=1e-6)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_a_kernel_on_the_image_is_shown_in_the_images_colours(order):
    weight = np.zeros((1, 3, 2, 2), np.float32)
    weight[0, 0] = 2
    weight[0, 2] = -1
    picture = kernel_pictures(weight, True, order)[0]
    first, last = (0, 2) if order == "RGB" else (2, 0)
    assert (picture[..., first] == 255).all()
    assert (picture[..., 1] == 128).all()
    assert (picture[..., last] == 64).all()


def test_kernels_too_large_for_a_picture_have_none():
    assert kernel_pictures(np.zeros((2, 3, 40, 40), np.float32), False, "RGB") is None


def test_weights_that_are_no_numbers_are_drawn_and_compared_in_silence():
    """A warning of numpy's is an error here."""
    weight = normal(4, 3, 3, 3)
    weight[0, 0, 0, 0] = np.nan
    weight[1, 0, 0, 0] = -np.inf
    weight[2] = 3e38
    pictures = kernel_pictures(weight, True, "RGB")
    alike = most_alike(weight)

    assert pictures[0, 0, 0, 0] == 128
    assert pictures[1, 0, 0, 0] == 1
    assert pictures[2].min() == 255
    assert [len(others) for others in alike[:2]] == [0, 0]
    assert all(np.isfinite(cosine) for others in alike for _, cosine in others)
