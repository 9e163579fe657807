"""Right and wrong answers, counted in parts, against counts over everything at once."""

import numpy as np
import pytest

from filterscope.analyzer.studies.examples import class_answers
from filterscope.analyzer.studies.examples.class_answers import BINS, ClassAnswers
from filterscope.analyzer.studies.examples.class_tables import mistakes


def probabilities(images, classes, seed=0):
    raised = np.exp(3 * np.random.default_rng(seed).normal(size=(images, classes)))
    return raised / raised.sum(axis=1, keepdims=True)


def counted(labels, shares, parts=4, images=None):
    answers = ClassAnswers(shares.shape[1], images or len(labels))
    for part in np.array_split(np.arange(len(labels)), parts):
        answers.add(part, labels[part], np.log(shares[part]), shares[part])
    return answers


def test_counts_are_those_of_all_images_at_once():
    labels = np.random.default_rng(1).integers(-1, 8, 500)
    shares = probabilities(500, 8)
    answers = counted(labels, shares)
    known, best = labels >= 0, shares.argmax(axis=1)
    assert answers.unlabelled == (~known).sum()
    for one in range(8):
        own = labels == one
        assert answers.images[one] == own.sum()
        assert answers.right[one] == (own & (best == one)).sum()
        ranks = (shares > shares[:, [one]]).sum(axis=1)
        assert answers.right_of_five[one] == (own & (ranks < 5)).sum()
        assert answers.predicted[one] == (known & (best == one)).sum()
        assert answers.probability[one] == pytest.approx(shares[own, one].sum())
        for other in range(8):
            assert answers.pairs[one, other] == (own & (best == other)).sum()
    highest = shares.max(axis=1)
    for number in range(BINS):
        inside = known & (highest > number / BINS) & (highest <= (number + 1) / BINS)
        assert answers.bin_images[number] == inside.sum()
        assert answers.bin_right[number] == (inside & (best == labels)).sum()
        assert answers.bin_confidence[number] == pytest.approx(highest[inside].sum())
    assert answers.labels.tolist() == labels.tolist()
    assert np.array_equal(answers.best, np.argsort(-shares, axis=1)[:, :5])


def test_parts_that_are_joined_or_restored_are_the_whole():
    labels, shares = np.random.default_rng(1).integers(-1, 8, 90), probabilities(90, 8)
    whole = counted(labels, shares)
    first, second = ClassAnswers(8, 90), ClassAnswers(8, 90)
    for answers, part in ((first, np.arange(40)), (second, np.arange(40, 90))):
        answers.add(part, labels[part], shares[part], shares[part])
    resumed = ClassAnswers(8, 90)
    resumed.restore(first.state())
    rest = np.arange(40, 90)
    resumed.add(rest, labels[rest], shares[rest], shares[rest])
    first.join(second)
    for answers in (first, resumed):
        assert answers.pairs == whole.pairs
        for name in (*class_answers.SUMS, *class_answers.ROWS):
            np.testing.assert_allclose(getattr(answers, name), getattr(whole, name), rtol=1e-12, err_msg=name)


def test_a_probability_of_one_is_in_the_last_bin():
    shares = np.array([[1.0, 0.0], [0.5, 0.5]])
    answers = ClassAnswers(2, 2)
    answers.add(np.arange(2), np.array([0, 1]), shares, shares)
    assert answers.bin_images[BINS - 1] == 1
    assert answers.bin_images.sum() == 2


def test_answers_that_are_not_finite_are_counted_as_broken():
    shares = probabilities(4, 3)
    shares[2] = np.nan
    answers = counted(np.array([0, 1, 2, 0]), shares)
    assert (answers.broken, answers.images.sum()) == (1, 3)
    assert answers.labels.tolist() == [0, 1, class_answers.NOT_ANSWERED, 0]


def test_rows_end_at_their_limit_and_counts_go_on(monkeypatch):
    monkeypatch.setattr(class_answers, "ANSWER_ROWS", 10)
    labels, shares = np.zeros(30, np.int64), probabilities(30, 3)
    answers = counted(labels, shares)
    assert len(answers.labels) == 10
    assert answers.images.sum() == 30
    assert set(mistakes(answers, 50)) == {number for number in range(10) if shares[number].argmax()}


def test_the_most_confident_mistakes_come_first():
    labels, shares = np.random.default_rng(1).integers(-1, 4, 60), probabilities(60, 4)
    wrong = [n for n in range(60) if labels[n] >= 0 and shares[n].argmax() != labels[n]]
    expected = sorted(wrong, key=lambda n: -shares[n].max())[:7]
    assert mistakes(counted(labels, shares), 7).tolist() == expected
