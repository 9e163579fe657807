"""Class scores: what stands before softmax, and classes by number and name."""

import numpy as np
import pytest

from filterscope.analyzer.network.preprocessing import PRESETS
from filterscope.analyzer.network.scores import NAME, class_index, class_output, class_probabilities, scores
from filterscope.converters.errors import SettingsError
from support.networks import build, normal
from support.opened import opened

BODY = [
    ("Conv", "x k", "a"),
    ("Relu", "a", "r"),
    ("GlobalAveragePool", "r", "p"),
    ("Flatten", "p", "f"),
    ("MatMul", "f m", "scores"),
]
CONSTANTS = {"k": normal(4, 3, 3, 3), "m": normal(4, 5), "t": np.array([0, 5, 1, 1]), "u": np.array([0, 5])}
CONSTANTS |= {"last": np.array([0, 1, 1, 5]), "between": np.array([1, 2])}
ENDS = {  # what stands behind the scores
    "nothing": [],
    "softmax": [("Softmax", "scores", "y", {"axis": 1})],
    "log-softmax": [("LogSoftmax", "scores", "y", {"axis": 1})],
    "sigmoid": [("Sigmoid", "scores", "y")],
    "softmax and flatten": [("Softmax", "scores", "s", {"axis": 1}), ("Flatten", "s", "y")],
    "softmax over channels that stand last": [
        ("Reshape", "scores t", "s"),
        ("Transpose", "s", "l", {"perm": [0, 2, 3, 1]}),
        ("Softmax", "l", "e", {"axis": 3}),
        ("Reshape", "e u", "y"),
    ],
    "scores along the last axis alone": [
        ("Reshape", "scores last", "s"),
        ("Softmax", "s", "e", {"axis": -1}),
        ("Squeeze", "e between", "y"),
    ],
    "reshape and softmax": [("Reshape", "scores t", "s"), ("Softmax", "s", "e", {"axis": 1}), ("Reshape", "e u", "y")],
}
LABELS = ["Cat", "Dog", "Golden Retriever", "Sail", "Snail"]


def network_of(tmp_path, nodes):
    return opened(tmp_path, build(nodes, CONSTANTS, shape=("N", 3, 8, 8)), PRESETS["unit"], (8, 8))


@pytest.mark.parametrize("end", ENDS)
def test_scores_stand_before_what_squashes_them(end, tmp_path):
    network = network_of(tmp_path, BODY + ENDS[end])
    found = scores(network)
    x = network.input.to_model(network.random_pixels(2, (8, 8), 0))
    pooled = network.session(["r"], (8, 8)).run(x)["r"].mean(axis=(2, 3))
    answer = network.session([found.value], (8, 8)).run(x)[found.value]

    assert (found.name, found.op, found.out_channels, found.is_global) == (NAME, "Scores", 5, True)
    np.testing.assert_allclose(answer.reshape(2, 5), pooled @ CONSTANTS["m"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("end", ENDS)
def test_probabilities_are_those_of_the_scores_whatever_stands_behind_them(end, tmp_path):
    network = network_of(tmp_path, BODY + ENDS[end])
    found = class_output(network)
    values = network.session(["scores", found.output, found.scores], (8, 8)).run(
        network.input.to_model(network.random_pixels(3, (8, 8), 0))
    )
    raised = np.exp(values["scores"].astype(np.float64))
    shares = class_probabilities(values[found.output].reshape(3, 5), values[found.scores].reshape(3, 5))
    assert found.count == 5
    np.testing.assert_allclose(shares, raised / raised.sum(axis=1, keepdims=True), rtol=1e-4)


def test_probabilities_of_scores_that_are_not_finite_are_none():
    scores_of_two = np.array([[1.0, np.nan], [0.0, 0.0]])
    assert np.isnan(class_probabilities(scores_of_two, scores_of_two)[0]).all()
    assert class_probabilities(scores_of_two, scores_of_two)[1].tolist() == [0.5, 0.5]


def test_numbers_in_another_order_are_no_scores_of_the_same_classes(tmp_path):
    """Two by three, turned: class 1 of the output is number 3 of what stands before."""
    turned = [
        ("Reshape", "six pairs", "p2"),
        ("Transpose", "p2", "t2", {"perm": [0, 2, 1]}),
        ("Reshape", "t2 flat", "y"),
    ]
    body = [*BODY[:4], ("MatMul", "f m6", "six"), *turned]
    constants = CONSTANTS | {"m6": normal(4, 6), "pairs": np.array([0, 2, 3]), "flat": np.array([0, 6])}
    network = opened(tmp_path, build(body, constants, shape=("N", 3, 8, 8)), PRESETS["unit"], (8, 8))
    assert scores(network).value == "y"


@pytest.mark.parametrize("nodes", [BODY[:2], [*BODY[:3], ("ReduceMean", "p", "y")]], ids=["maps", "one number"])
def test_a_network_without_scores_is_refused(nodes, tmp_path):
    with pytest.raises(SettingsError, match=r"^`class`: the network is no classifier, its outputs are \w+ \["):
        scores(network_of(tmp_path, nodes))


@pytest.mark.parametrize(
    ("wanted", "labels", "expected"),
    [("0", [], 0), ("4", LABELS, 4), ("Dog", LABELS, 1), ("golden_retriever", LABELS, 2), ("SNAIL", LABELS, 4)],
)
def test_a_class_is_its_number_or_its_label(wanted, labels, expected):
    assert class_index(wanted, labels, 5) == expected


@pytest.mark.parametrize(
    ("wanted", "labels", "words"),
    [
        ("5", LABELS, "`class=5`: the network has classes 0 to 4"),
        ("Snale", LABELS, "did you mean Snail, Sail?"),
        ("CRANE", ["crane", "b", "Crane", "d", "e"], "several classes are called that; give the number of one"),
        ("zebra", LABELS, "`class=zebra`: no label is called that$"),
        ("Dog", [], "`class=Dog`: give a number from 0 to 4, or names with `labels=FILE` or `labels=imagenet`"),
        ("-1", [], "give a number from 0 to 4"),
        ("Dog", LABELS[:3], "`labels`: 3 names for a network of 5 classes"),
    ],
)
def test_a_class_that_is_not_there_is_told_and_near_ones_named(wanted, labels, words):
    with pytest.raises(SettingsError, match=words.replace("?", r"\?")):
        class_index(wanted, labels, 5)
