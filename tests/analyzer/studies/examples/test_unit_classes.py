"""What units answer to classes, against pairs counted one by one and means of NumPy."""

import numpy as np
import pytest

from filterscope.analyzer.studies.examples import unit_classes
from filterscope.analyzer.studies.examples.unit_classes import Sample, UnitClasses, class_aucs, hashes


def auc_by_pairs(of_class, others):
    higher = (of_class[:, None] > others).mean()
    return higher + 0.5 * (of_class[:, None] == others).mean()


@pytest.mark.parametrize("ties", [False, True])
def test_aucs_are_those_of_all_pairs(ties):
    rng = np.random.default_rng(0)
    counts = np.array([1, 4, 7, 3])
    values = rng.normal(size=(6, counts.sum())).astype(np.float32)
    if ties:
        values = np.round(values)
        values[2] = 5
    starts = np.cumsum([0, *counts[:-1]])
    aucs = class_aucs(values, starts, counts)
    for unit, row in enumerate(values):
        for number, (start, count) in enumerate(zip(starts, counts, strict=True)):
            own = np.zeros(len(row), bool)
            own[start : start + count] = True
            assert aucs[unit, number] == pytest.approx(auc_by_pairs(row[own], row[~own]), abs=1e-12)


def test_one_class_alone_is_told_from_nothing():
    assert class_aucs(np.float32([[1, 2, 3]]), np.array([0]), np.array([3])).tolist() == [[0.5]]


def batch(rng, numbers, channels):
    pairs = [(rng.normal(size=(len(numbers), c)).astype(np.float32),) * 2 for c in channels]
    return [(maxima, np.maximum(rectified, 0)) for maxima, rectified in pairs]


def test_a_sample_is_the_smallest_hashes_in_whatever_order_and_parts():
    numbers = np.arange(1000)
    expected = set(numbers[np.argsort(hashes(numbers))[:64]].tolist())
    for seed, parts in ((0, 1), (1, 7), (2, 300)):
        order = np.random.default_rng(seed).permutation(numbers)
        samples = Sample(64, 2), Sample(64, 2)
        for index, part in enumerate(np.array_split(order, parts)):
            samples[index % 2].add(part, part % 10, np.stack([part, -part], axis=1).astype(np.float32))
        whole, other = samples
        there = other.count
        whole.add(other.numbers[:there], other.labels[:there], other.values[:there])
        assert set(whole.numbers[: whole.count].tolist()) == expected
        assert np.array_equal(whole.labels, whole.numbers % 10)
        assert np.array_equal(whole.values, np.stack([whole.numbers, -whole.numbers], axis=1))


def test_a_sample_with_room_is_everything():
    sample = Sample(5, 1)
    for number in (3, 9, 4):
        sample.add(np.array([number]), np.array([0]), np.float32([[number]]))
    assert sorted(sample.numbers[: sample.count]) == [3, 4, 9]


@pytest.fixture
def answered():
    """Labels and numbers of 3 classes and one image of a fourth, over 2 layers."""
    rng = np.random.default_rng(5)
    labels = np.array([7, 2, 2, 7, 40, 2, 7, 40, 40, 2, 40, 11])
    maxima = rng.normal(size=(12, 5)).astype(np.float32)
    maxima[labels == 7, 0] += 10  # a unit that tells class 7
    maxima[:, 4] = -1  # a constant one
    return labels, maxima, np.maximum(maxima - 0.2, 0)


def filled(labels, maxima, rectified, parts=3, channels=(2, 3)):
    units = UnitClasses(channels, len(labels))
    ends = np.cumsum(channels)[:-1]
    for part in np.array_split(np.arange(len(labels)), parts):
        pairs = zip(np.split(maxima[part], ends, 1), np.split(rectified[part], ends, 1), strict=True)
        units.add(part, labels[part], list(pairs))
    return units


def test_units_name_the_classes_they_tell_best(answered):
    labels, maxima, rectified = answered
    units = filled(labels, maxima, rectified)
    for layer, own in ((0, maxima[:, :2]), (1, maxima[:, 2:])):
        best = units.preferred(layer)
        seen = list(zip(best.units, best.ranks, best.classes, best.aucs, best.means, best.images, strict=True))
        expected = []
        for unit in range(own.shape[1]):
            aucs = {c: auc_by_pairs(own[labels == c, unit], own[labels != c, unit]) for c in (2, 7, 40)}  # 11: too few
            ranked = sorted((c for c in aucs if aucs[c] > 0.5), key=lambda c: -aucs[c])
            expected += [
                (unit, rank, c, aucs[c], own[labels == c, unit].mean(), (labels == c).sum())
                for rank, c in enumerate(ranked)
            ]
        assert [row[:3] for row in seen] == [row[:3] for row in expected]
        np.testing.assert_allclose([row[3:] for row in seen], [row[3:] for row in expected], rtol=1e-5)
    first = units.preferred(0)
    assert (first.classes[0], first.aucs[0]) == (7, 1.0)
    assert 2 not in units.preferred(1).units, "a constant unit tells nothing"


def test_selectivity_is_that_of_morcos(answered):
    labels, maxima, rectified = answered
    units = filled(labels, maxima, rectified)
    means = np.stack([rectified[labels == c].mean(axis=0) for c in (2, 7, 40)])
    highest, rest = means.max(axis=0), (means.sum(axis=0) - means.max(axis=0)) / 2
    with np.errstate(invalid="ignore"):
        expected = (highest - rest) / (highest + rest)
    np.testing.assert_allclose(np.concatenate([units.selectivity(0), units.selectivity(1)]), expected, rtol=1e-5)
    assert np.isnan(units.selectivity(1)[2]), "no class excites the constant unit"


def test_parts_that_are_joined_are_the_whole(answered):
    labels, maxima, rectified = answered
    whole, first, second = filled(labels, maxima, rectified), *(UnitClasses((2, 3), 12) for _ in range(2))
    for units, part in ((first, np.arange(0, 12, 2)), (second, np.arange(1, 12, 2))):
        units.add(
            part, labels[part], [(maxima[part, :2], rectified[part, :2]), (maxima[part, 2:], rectified[part, 2:])]
        )
    first.join(second)
    for layer in (0, 1):
        ours, theirs = first.preferred(layer), whole.preferred(layer)
        for name in ("units", "ranks", "classes", "images"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))
        np.testing.assert_allclose(ours.aucs, theirs.aucs, rtol=1e-12)
        np.testing.assert_allclose(ours.means, theirs.means, rtol=1e-5)
        np.testing.assert_allclose(first.selectivity(layer), whole.selectivity(layer), rtol=1e-5)


def test_a_state_that_is_restored_goes_on(answered):
    labels, maxima, rectified = answered
    half = filled(labels[:6], maxima[:6], rectified[:6])
    resumed = UnitClasses((2, 3), 12)
    resumed.restore({name: array.copy() for name, array in half.state().items()})
    rest = np.arange(6, 12)
    resumed.add(rest, labels[rest], [(maxima[rest, :2], rectified[rest, :2]), (maxima[rest, 2:], rectified[rest, 2:])])
    whole = filled(labels, maxima, rectified, parts=2)
    for name, array in whole.state().items():
        assert np.array_equal(array, resumed.state()[name]), name


def test_answers_that_are_not_finite_are_left_out_of_their_layer_alone(answered):
    labels, maxima, rectified = answered
    broken = maxima.copy()
    broken[0, 3] = np.inf  # an image of class 7, in the second layer
    units, without = filled(labels, broken, rectified), filled(labels[1:], maxima[1:], rectified[1:])
    assert units.preferred(0).images.tolist() == filled(labels, maxima, rectified).preferred(0).images.tolist()
    np.testing.assert_allclose(units.preferred(1).aucs, without.preferred(1).aucs)
    np.testing.assert_allclose(units.preferred(1).means, without.preferred(1).means, rtol=1e-5)
    np.testing.assert_allclose(units.selectivity(1), without.selectivity(1), rtol=1e-5)


def test_classes_beyond_the_room_have_means_of_the_sample(answered, monkeypatch):
    labels, maxima, rectified = answered
    whole = filled(labels, maxima, rectified).preferred(0)
    monkeypatch.setattr(unit_classes, "CLASS_BYTES", 8 * 5 * 2)
    units = filled(labels, maxima, rectified)
    assert units.summed == 2
    np.testing.assert_allclose(units.preferred(0).means, whole.means, rtol=1e-5)
    assert units.preferred(0).images.tolist() == whole.images.tolist()


def test_blocks_of_units_are_ranked_one_by_one(answered, monkeypatch):
    labels, maxima, rectified = answered
    whole = filled(labels, maxima, rectified, channels=(5,)).preferred(0)
    monkeypatch.setattr(unit_classes, "BLOCK", 24)  # two units
    parts = filled(labels, maxima, rectified, channels=(5,)).preferred(0)
    for name in ("units", "ranks", "classes", "aucs", "means", "images"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize("labels", [[3, 3, 3, 3], [3, 3, 4, 4]])
def test_one_class_or_few_images_say_nothing(labels):
    values = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    units = filled(np.array(labels), values, np.maximum(values, 0), parts=1, channels=(3,))
    assert not len(units.preferred(0).units)
    assert np.isnan(units.selectivity(0)).all()
