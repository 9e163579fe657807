"""What is kept of a stream equals what NumPy finds in all of it at once."""

import math

import numpy as np
import pytest

from filterscope.analyzer.studies.examples.running_statistics import (
    Covariance,
    Histograms,
    LayerStatistics,
    Top,
    treves_rolls,
)
from filterscope.converters.reductions import Measured
from support.networks import normal


def measured(maps, places):
    """What a session tells of maps (N, C, P)."""
    positive = np.maximum(maps, 0)
    parts = [
        *(maps.max(axis=2), maps.min(axis=2), maps.mean(axis=2)),
        *(positive.mean(axis=2), (positive**2).mean(axis=2), (maps > 0).mean(axis=2)),
    ]
    return Measured(np.stack(parts, axis=2).astype(np.float32), maps.argmax(axis=2), maps[..., places])


def test_the_strongest_of_a_stream_are_the_strongest_of_all_and_of_equals_the_first():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 40, (100, 6)).astype(np.float32)  # many are equal
    where = rng.integers(0, 9, (100, 6))
    top = Top(6, 7)
    numbers = np.arange(100) * 3
    for first in range(0, 100, 8):
        part = slice(first, first + 8)
        top.add(numbers[part], values[part], where[part])
    order = np.argsort(-values, axis=0, kind="stable")[:7].T
    assert np.array_equal(top.images, numbers[order])
    assert np.array_equal(top.values, np.take_along_axis(values.T, order, 1))
    assert np.array_equal(top.places, np.take_along_axis(where.T, order, 1))


def test_fewer_images_than_are_kept_leave_empty_ranks():
    top = Top(2, 5)
    top.add(np.array([4, 9]), np.float32([[1, 5], [2, 4]]), np.zeros((2, 2), int))
    assert top.images.tolist() == [[9, 4, -1, -1, -1], [4, 9, -1, -1, -1]]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_histogram_that_grows_counts_as_one_that_knew_its_range(scale):
    rng = np.random.default_rng(1)
    data = rng.normal(size=(4, 3000)) * scale * np.linspace(1, 60, 3000) + np.array([[0], [5], [-900], [0]]) * scale
    data[3] = 3 * scale  # always the same number
    parts = np.array_split(data, 30, axis=1)
    histograms = Histograms(parts[0].min(axis=1), parts[0].max(axis=1))
    for part in parts:
        histograms.widen(part.min(axis=1), part.max(axis=1))
        histograms.add(part)
    counts, low, high = histograms.within(data.min(axis=1), data.max(axis=1))
    for channel, row in enumerate(counts[:3]):
        edges = np.linspace(low[channel], high[channel], len(row) + 1)
        expected, _ = np.histogram(data[channel], edges)
        assert 32 <= len(row) <= 64
        assert np.abs(row - expected).sum() <= 4  # numbers on an edge
    assert [int(row.sum()) for row in counts] == [3000] * 4
    assert np.all(low <= data.min(axis=1))
    assert np.all(high >= data.max(axis=1))


def test_correlations_of_a_stream_are_those_of_all_places():
    rng = np.random.default_rng(2)
    base = rng.normal(size=(500, 5, 6)).astype(np.float32)
    base[:, 1] = 3 * base[:, 0] + 0.1 * base[:, 1] + 1000
    base[:, 2] = 7.0  # constant
    covariance = Covariance(5)
    for first in range(0, 500, 37):
        covariance.add(base[first : first + 37])
    near, how = covariance.nearest()
    varying = [0, 1, 3, 4]
    expected = np.corrcoef(np.moveaxis(base, 1, 0).reshape(5, -1)[varying].astype(np.float64))
    np.fill_diagonal(expected, -2)
    assert near[varying].tolist() == [varying[i] for i in expected.argmax(axis=1)]
    np.testing.assert_allclose(how[varying], expected.max(axis=1), atol=1e-4)
    assert how[0] > 0.99
    assert near[2] == -1
    assert np.isnan(how[2])


def test_sparsity_is_0_where_all_fire_alike_and_1_where_none_does():
    maps = np.zeros((4, 2, 8), np.float32)
    maps[0] = 5.0
    maps[1, 1, 3] = 2.0  # one place of sixteen
    maps[2] = -3.0
    maps[3, 0] = 1.0  # one unit of two
    positive = np.maximum(maps, 0)
    found = treves_rolls(positive.mean(axis=2), (positive**2).mean(axis=2))
    np.testing.assert_allclose(found, [0, 15 / 16, 1, 1 / 2], atol=1e-7)


def test_an_image_without_a_finite_answer_is_left_out_and_counted():
    maps = normal(9, 3, 10)
    spoilt = maps.copy()
    spoilt[4, 1, 2] = np.nan
    spoilt[6, 0, 0] = np.inf
    good = np.array([0, 1, 2, 3, 5, 7, 8])
    tally, clean = LayerStatistics(3, 10, 4, True), LayerStatistics(3, 10, 4, True)
    with np.errstate(invalid="ignore"):
        fired = tally.add(np.arange(9), measured(spoilt, np.arange(10)))
    clean.add(good, measured(maps[good], np.arange(10)))
    assert (tally.images, tally.broken) == (7, 2)
    assert np.array_equal(fired.channels[good], maps[good].mean(axis=2).argmax(axis=1))
    assert fired.channels[[4, 6]].tolist() == [-1, -1]
    for name, array in clean.state().items():
        if name != "numbers":
            assert np.array_equal(tally.state()[name], array), name


def test_a_batch_tells_its_strongest_unit_once():
    tally = LayerStatistics(3, 10, 4, False)
    maps = normal(8, 3, 10)
    tally.add(np.arange(4), measured(maps[:4], np.arange(10)))
    tally.add(np.arange(4, 8), measured(maps[4:], np.arange(10)))
    images, channel, mean = tally.end_batch()
    means = maps.mean(axis=(0, 2))
    assert (images, channel) == (8, means.argmax())
    assert mean == pytest.approx(means.max(), rel=1e-5)
    assert tally.end_batch() is None


def test_units_are_alike_where_what_a_relu_passes_on_is_alike():
    """Both are far below 0 at the same places, which a ReLU does not let through; above 0 they are independent."""
    maps = normal(40, 3, 50)
    low = normal(40, 50) > 1
    maps[:, :2][np.repeat(low[:, None], 2, axis=1)] = -40
    maps[:, 2] = 2 * np.maximum(maps[:, 0], 0)
    raw, behind = LayerStatistics(3, 50, 4, True), LayerStatistics(3, 50, 4, True, passed=(0, math.inf))
    for tally in (raw, behind):
        tally.add(np.arange(40), measured(maps, np.arange(50)))
    near, how = raw.covariance.nearest()
    assert near[0] == 1
    assert how[0] > 0.99
    near, how = behind.covariance.nearest()
    assert near[0] == 2
    assert how[0] == pytest.approx(1)
    assert how[1] < 0.5


def test_units_that_are_0_but_for_a_few_places_are_like_none():
    maps = -np.abs(normal(40, 3, 50)) - 1
    maps[3, :2, 7] = 9
    maps[:, 2] = normal(40, 50)
    tally = LayerStatistics(3, 50, 4, True, passed=(0, 6))
    tally.add(np.arange(40), measured(maps, np.arange(50)))
    assert tally.covariance.nearest()[0].tolist() == [-1, -1, -1]
