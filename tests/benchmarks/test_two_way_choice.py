"""The two-way choice: exact where it can be counted by hand."""

import sys

import numpy as np
import pytest

from support.paths import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

from two_way_choice import STRONG, WEAK, accuracy, choices, features, interval


def test_exemplars_and_choices_are_of_different_photos_and_no_photo_stands_twice():
    rng = np.random.default_rng(0)
    photos = np.repeat(np.arange(40), 5)
    activations = rng.normal(size=200)
    task = choices(activations, photos)
    assert set(photos[task.exemplars] % 2) == {0}
    assert set(photos[task.strong] % 2) == set(photos[task.weak] % 2) == {1}
    for side in (task.exemplars, task.strong, task.weak):
        assert len(set(photos[side])) == len(side)
    best = [activations[(photos == photo)].max() for photo in range(1, 40, 2)]
    assert activations[task.strong] == pytest.approx(sorted(best, reverse=True)[:STRONG])
    worst = [activations[(photos == photo)].min() for photo in range(1, 40, 2)]
    assert activations[task.weak] == pytest.approx(sorted(worst)[:WEAK])


def test_an_observer_that_sees_the_unit_is_right_and_one_that_sees_nothing_draws():
    photos = np.arange(60)
    activations = np.linspace(-1, 1, 60)
    task = choices(activations, photos)
    crops = np.stack([np.cos(activations), np.sin(activations)], axis=1)
    assert accuracy(crops[task.exemplars], crops, task) == 1.0
    assert accuracy(-crops[task.exemplars], crops, task) == 0.0
    assert accuracy(np.array([[1.0, 0.0]]), np.ones((60, 2)), task) == 0.5


def test_every_level_counts_alike_and_features_have_length_1():
    rng = np.random.default_rng(1)
    levels = [rng.normal(size=(30, 4)), 1000 + 100 * rng.normal(size=(30, 6))]
    seen = features(levels, levels)
    assert np.linalg.norm(seen, axis=1) == pytest.approx(1.0)
    assert np.linalg.norm(seen[:, :4], axis=1) == pytest.approx(np.linalg.norm(seen[:, 4:], axis=1))


def test_the_interval_holds_the_mean_and_narrows_with_more_units():
    rng = np.random.default_rng(2)
    few, many = rng.random(20), rng.random(2000)
    for scores in (few, many):
        low, high = interval(scores)
        assert low < scores.mean() < high
    assert np.diff(interval(many)) < np.diff(interval(few)) / 5
