"""Padding, surroundings and paths: exact where they can be counted by hand."""

import sys

import numpy as np
import pytest

from support.paths import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

from naturalness import Axis, activation_in_the_middle, middle_of, paths, placed, share_from_padding

PADDED = Axis(start=-1, jump=1, size=3)  # of a 3 × 3 convolution with padding 1


def test_neurons_at_the_border_see_padding_and_the_others_do_not():
    assert PADDED.inside(5, 5).tolist() == [False, True, True, True, False]
    assert not Axis(start=-4, jump=2, size=9).inside(3, 5).any()


def test_share_from_padding_counts_what_is_above_zero():
    values = -np.ones((5, 5))
    values[2, 2], values[0, 0] = 3, 1
    assert share_from_padding(values, (PADDED, PADDED), (5, 5)) == pytest.approx(0.25)
    assert np.isnan(share_from_padding(-np.ones((5, 5)), (PADDED, PADDED), (5, 5)))


def test_where_all_neurons_see_padding_the_share_is_whole():
    axis = Axis(start=-4, jump=2, size=9)
    assert share_from_padding(np.ones((3, 3)), (axis, axis), (5, 5)) == 1.0


def test_the_middle_is_the_same_neurons_whatever_the_picture_and_at_least_one():
    values = np.arange(49, dtype=float).reshape(1, 7, 7)
    whole = Axis(start=-16, jump=32, size=64)  # middles at 16, 48, …, 208: three lie within 112 ± 32
    assert activation_in_the_middle(values, (whole, whole), (224, 224)) == pytest.approx([24.0])
    assert whole.middle(7, 224).tolist() == [False, False, True, True, True, False, False]
    assert Axis(start=0, jump=200, size=10).middle(2, 224).tolist() == [False, True]


def test_pictures_stand_in_the_middle_and_larger_ones_are_cut_there():
    pictures = np.full((2, 2, 2, 3), 9, np.uint8)
    canvases = placed(pictures, np.zeros((6, 6, 3), np.uint8))
    assert canvases.shape == (2, 6, 6, 3)
    assert canvases[:, 2:4, 2:4].min() == 9
    assert canvases.sum() == pictures.sum()
    assert np.array_equal(middle_of(canvases, 2), pictures)
    assert np.array_equal(middle_of(pictures, 5), pictures)


def test_a_picture_that_is_a_natural_image_takes_the_natural_path():
    natural, other = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 1.0]])
    one = paths(natural[:1], natural, other)
    assert (one.picture, one.natural, one.chance) == (1.0, 1.0, 0.0)
