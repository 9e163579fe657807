"""The randomisation test: its measures against others' code, its weights, and what it tells of methods."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity as theirs

from filterscope.analyzer.attribution import methods, sanity
from filterscope.analyzer.attribution.explain import Explainer
from filterscope.analyzer.attribution.sanity import TrainedExplanation, randomisation_test, stages, weighted_nodes
from filterscope.analyzer.attribution.similarity import rank_correlation, structural_similarity
from filterscope.analyzer.network.preprocessing import PRESETS
from support.networks import build, normal
from support.opened import opened

SIDE = 16


@pytest.mark.parametrize("shape", [(12, 12), (7, 9), (30, 8), (5, 6)])
def test_similarities_are_those_of_scipy_and_scikit_image(shape):
    one, other = np.abs(normal(*shape)), np.abs(normal(*shape, seed=1))
    other = np.where(other > 1, 0.5 * one, other.round(1))  # related, with ties
    side = min(7, *(length - 1 + length % 2 for length in shape))
    expected = theirs(one / one.max(), other / other.max(), win_size=side, data_range=1.0)
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one.ravel(), other.ravel()).statistic)
    assert structural_similarity(one, other) == pytest.approx(expected, rel=1e-5)
    assert rank_correlation(one, 3 * one) == pytest.approx(1)
    # By hand: ranks 1 2 3 4 and 1 2.5 2.5 4, covariance 4.5, squares 5 and 4.5.
    assert rank_correlation(np.arange(4.0), np.array([0, 7, 7, 9])) == pytest.approx(4.5 / np.sqrt(5 * 4.5))
    assert structural_similarity(one, 3 * one) == pytest.approx(1)


def test_a_blank_map_resembles_nothing():
    assert rank_correlation(np.zeros((8, 8)), normal(8, 8)) == 0
    assert structural_similarity(np.zeros((8, 8)), np.abs(normal(8, 8))) < 0.5


@pytest.fixture(scope="module")
def explainer(tmp_path_factory):
    nodes = [
        ("Conv", "x k b", "a", {"name": "first", "pads": [1, 1, 1, 1]}),
        ("Relu", "a", "r"),
        ("Conv", "r w", "c", {"name": "second"}),
        ("Relu", "c", "s"),
        ("GlobalAveragePool", "s", "p"),
        ("Flatten", "p", "f"),
        ("MatMul", "f m", "d", {"name": "dense"}),
        ("Add", "d e", "y"),
    ]
    constants = {"k": normal(8, 3, 3, 3), "b": normal(8), "w": normal(8, 8, 3, 3), "m": normal(8, 6), "e": normal(6)}
    model = build(nodes, constants, shape=("N", 3, SIDE, SIDE))
    return Explainer(opened(tmp_path_factory.mktemp("sanity"), model, PRESETS["unit"], (SIDE, SIDE)))


def asked_of(explainer, names, count=2):
    found = []
    for pixels in explainer.network.random_pixels(count, (SIDE, SIDE), 2):
        target = explainer.target(pixels)
        found.append(
            TrainedExplanation(
                pixels, target, {name: explainer.explain(pixels, target, name).strength for name in names}
            )
        )
    return found


def test_layers_are_randomised_from_the_output_down_and_maps_lose_their_likeness(explainer):
    asked = asked_of(explainer, ("saliency", "grad-cam", "occlusion"))
    rows = randomisation_test(explainer, asked)
    assert [row["layer"] for row in rows] == [name for name in ("dense", "second", "first") for _ in range(3)]
    assert [row["depth"] for row in rows[::3]] == [2, 1, 0]
    assert {row["images"] for row in rows} == {2}
    for row in rows:
        assert -1 <= row["similarity"] < 0.95
        assert -1 <= row["ssim"] < 0.95
    saliency = [row["similarity"] for row in rows if row["method"] == "saliency"]
    assert abs(saliency[-1]) < 0.3, "nothing is left of the trained network"
    assert randomisation_test(explainer, asked) == rows, "the same seed, the same numbers"
    assert randomisation_test(explainer, asked, seed=1) != rows


def test_a_method_that_ignores_the_network_is_found_out(explainer, monkeypatch):
    """An edge detector: what Adebayo et al. hold against some methods."""

    def edges(question):
        grey = question.picture.mean(1)
        return torch.diff(grey, dim=2, prepend=grey[:, :, :1])[:, None]

    monkeypatch.setitem(methods.METHODS, "edges", methods.Method("Edges", edges))
    rows = randomisation_test(explainer, asked_of(explainer, ("edges",)))
    for row in rows:
        assert row["similarity"] == pytest.approx(1)
        assert row["ssim"] == pytest.approx(1)


def test_the_trained_network_stays_as_it_was_and_the_shuffled_one_has_its_numbers(explainer):
    network = explainer.network
    twin = network.twin.module
    before = {name: tensor.clone() for name, tensor in twin.state_dict().items()}
    pixels = network.random_pixels(1, (SIDE, SIDE), 2)[0]
    kept = {}

    class Watching(sanity.Backpropagation):
        def __init__(self, *given):
            super().__init__(*given)
            kept["last"] = {name: tensor.clone() for name, tensor in given[2].state_dict().items()}

    target = explainer.target(pixels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sanity, "Backpropagation", Watching)
        randomisation_test(explainer, [TrainedExplanation(pixels, target, {"saliency": np.ones((SIDE, SIDE))})])
    changed = 0
    for name, tensor in twin.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
        shuffled = kept["last"][name]
        torch.testing.assert_close(shuffled.flatten().sort().values, tensor.flatten().sort().values, rtol=0, atol=0)
        changed += int(not torch.equal(shuffled, tensor))
    assert changed == 4, "two kernels, a bias and the dense layer"


def test_only_layers_before_the_target_are_randomised(explainer):
    pixels = explainer.network.random_pixels(1, (SIDE, SIDE), 2)[0]
    target = explainer.target(pixels, "second:1")
    assert [node.name for node in weighted_nodes(explainer.network, [target.value], explainer.backpropagation)] == [
        "first",
        "second",
    ]


def test_of_many_layers_some_are_compared():
    assert stages(0) == []
    assert stages(1) == [0]
    assert stages(3) == [0, 1, 2]
    assert len(stages(53)) == sanity.STAGES
    assert (stages(53)[0], stages(53)[-1]) == (0, 52)
