"""Whether pictures of a unit are one: constructed ones, and those that ascent finds for the bundled network."""

import itertools

import numpy as np
import pytest
import torch

from filterscope import demo
from filterscope.analyzer.maximize.engine import Problem, ascend
from filterscope.analyzer.maximize.presets import Recipe
from filterscope.analyzer.units.canvas import canvas_for
from filterscope.analyzer.units.objectives import Diversity
from filterscope.reports.page.diversity import NOISE, ONE, are_one, likeness
from support.synthetic_run import gabor


def flat(*colour):
    return np.tile(np.array(colour, np.uint8), (40, 40, 1))


def noisy(picture, deviation, seed=0):
    noise = np.random.default_rng(seed).normal(0, deviation, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def oracle(one, other):
    """The concordance correlation as its source writes it, of one band: 1 − E(a − b)² ÷ (σa² + σb² + (µa − µb)²).

    Below, the noise of pictures is added.
    """
    a, b = one.astype(float).ravel(), other.astype(float).ravel()
    return 1 - np.mean((a - b) ** 2) / (a.var() + b.var() + (a.mean() - b.mean()) ** 2 + NOISE)


PICTURE = gabor(1, 1, (64, 64), 3)
CASES = [  # pictures, whether they are one
    ([PICTURE] * 4, True),
    ([noisy(PICTURE, 12, seed) for seed in range(4)], True),
    ([PICTURE, PICTURE, PICTURE, gabor(1, 2, (64, 64), 3)], False),  # one that differs is enough
    ([PICTURE, 255 - PICTURE], False),
    ([PICTURE, PICTURE[:, :, ::-1]], False),  # the same form in other colours
    ([gabor(seed, 1, (64, 64), 3) for seed in range(4)], False),
    ([flat(200, 40, 40), flat(202, 41, 40)], True),
    ([flat(200, 40, 40), flat(40, 40, 200)], False),
    ([noisy(flat(90), 1, seed) for seed in range(4)], True),  # what no eye tells apart
    ([PICTURE], True),
]


@pytest.mark.parametrize(("pictures", "expected"), CASES)
def test_pictures_are_one_where_each_two_agree_in_form_and_colour(pictures, expected):
    assert are_one(pictures) is expected


def test_likeness_is_the_concordance_correlation():
    for one, other in itertools.combinations([gabor(seed, 0, (24, 32), 1) for seed in range(5)], 2):
        assert likeness(one, other) == pytest.approx(oracle(one, other))
        assert likeness(one, other) == likeness(other, one)
    assert likeness(PICTURE, PICTURE) == 1


REAL = [("conv1", 0, True), ("conv1", 12, True), ("conv4", 24, False), ("conv4", 32, False)]


@pytest.fixture(scope="module")
def network():
    return demo.network()


@pytest.mark.parametrize(("name", "channel", "expected"), REAL)
def test_ascents_for_a_colour_come_to_one_picture_and_those_of_a_deep_unit_do_not(network, name, channel, expected):
    layer = next(layer for layer in network.layers if layer.name == name)
    canvas = canvas_for(network, layer, "channel", None)
    problem = Problem(network, layer, canvas, Diversity(4))
    tiles = ascend(problem, [channel], Recipe.named(quality="draft"), seed=0, device=torch.device("cpu")).tiles
    assert are_one(list(tiles)) is expected
    least = min(likeness(a, b) for a, b in itertools.combinations(tiles, 2))
    assert least > 0.95 if expected else least < ONE / 2  # far from the limit
