"""What is measured beside a map is what NumPy finds in the map."""

import numpy as np
import pytest

from filterscope.converters.errors import ModelError
from filterscope.converters.reductions import MEASURES, MeasuringSession, PoolingSession
from support.networks import answers, build, normal


@pytest.fixture(scope="module")
def model():
    nodes = [
        ("Conv", "x w1 b1", "a", {"pads": [1, 1, 1, 1]}),
        ("Relu", "a", "r"),
        ("Conv", "r w2", "b", {"strides": [2, 1]}),
        ("LeakyRelu", "b", "y"),
    ]
    constants = {"w1": normal(5, 3, 3, 3), "b1": np.float32([0, 1, -100, 100, 0]), "w2": normal(4, 5, 3, 2)}
    return build(nodes, constants, shape=("N", 3, 9, 7))


def test_maps_are_measured_as_numpy_measures_them(model):
    x = normal(6, 3, 9, 7)
    asked = {63: np.array([0, 5, 62]), 24: np.array([7, 1, 1])}
    found = MeasuringSession(model, {"a": (9, 7), "b": (4, 6)}, ["N", 3, 9, 7]).run(x, asked)
    for name, maps in answers(model, x, ["a", "b"]).items():
        flat = maps.reshape(*maps.shape[:2], -1)
        positive = np.maximum(flat, 0)
        expected = {
            "maximum": flat.max(axis=2),
            "minimum": flat.min(axis=2),
            "mean": flat.mean(axis=2),
            "rectified": positive.mean(axis=2),
            "squares": (positive**2).mean(axis=2),
            "active": (flat > 0).mean(axis=2),
        }
        assert list(expected) == list(MEASURES)
        for index, values in enumerate(expected.values()):
            np.testing.assert_allclose(found[name].measures[..., index], values, rtol=1e-5, atol=1e-5)
        assert np.array_equal(found[name].where, flat.argmax(axis=2))
        np.testing.assert_allclose(found[name].samples, flat[..., asked[flat.shape[2]]], rtol=1e-5, atol=1e-5)


def test_of_equal_places_the_first_is_told():
    model = build([("Conv", "x w", "a")], {"w": np.ones((1, 1, 1, 1), np.float32)}, shape=("N", 1, 3, 4))
    x = np.float32([[0, 0, 0, 0], [0, 7, 7, 0], [7, 0, 0, 7]])[None, None]
    found = MeasuringSession(model, {"a": (3, 4)}, ["N", 1, 3, 4]).run(x, {12: np.arange(12)})["a"]
    assert found.where.tolist() == [[5]]


@pytest.mark.parametrize("window", [(1, 1), (2, 3), (9, 7)])
def test_a_smaller_map_holds_the_maxima_of_windows(model, window):
    x = normal(2, 3, 9, 7)
    maps = answers(model, x, ["a"])["a"]
    found = PoolingSession(model, {"a": window}, ["N", 3, 9, 7]).run(x)["a"]
    down, across = window
    expected = [[maps[..., i : i + down, j : j + across].max(axis=(2, 3)) for j in range(0, 7, across)]
                for i in range(0, 9, down)]  # fmt: skip
    np.testing.assert_allclose(found, np.moveaxis(np.array(expected), (0, 1), (2, 3)), rtol=1e-5, atol=1e-5)


def test_a_value_that_is_not_there_is_named(model):
    with pytest.raises(ModelError, match="nowhere: no node of the model writes this value"):
        MeasuringSession(model, {"nowhere": (9, 7)}, ["N", 3, 9, 7])


def test_further_values_are_fetched_as_they_are(model):
    x = normal(2, 3, 9, 7)
    session = MeasuringSession(model, {"a": (9, 7)}, ["N", 3, 9, 7], whole=["y", "a", "y"])
    measured, whole = session.measure(x, {63: np.arange(3)})
    expected = answers(model, x, ["a", "y"])
    assert set(whole) == {"a", "y"}
    for name, values in expected.items():
        np.testing.assert_allclose(whole[name], values, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(measured["a"].measures[..., 0], expected["a"].max(axis=(2, 3)), rtol=1e-5, atol=1e-5)
