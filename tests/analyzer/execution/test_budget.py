"""Time budgets: how steps are shared out, and that a run keeps to what it was given."""

import numpy as np
import pytest

from filterscope.analyzer.execution.budget import FEWEST, MEASURING, MOST, seconds_of, share_out
from filterscope.converters.errors import SettingsError

COSTS = {"cheap": 1e-4, "middle": 1e-3, "dear": 1e-2}
PICTURES = {"cheap": 100, "middle": 200, "dear": 50}


def spent(steps):
    return sum((steps[name] + MEASURING) * COSTS[name] * PICTURES[name] for name in COSTS)


@pytest.mark.parametrize("seconds", [30.0, 60.0, 120.0, 300.0])
def test_the_budget_is_spent_and_not_exceeded(seconds):
    steps = share_out(COSTS, PICTURES, seconds)

    assert 0.93 * seconds <= spent(steps) <= seconds


def test_steps_are_in_inverse_proportion_to_their_cost_within_limits():
    steps = share_out({"a": 1e-3, "b": 2e-3, "c": 4e-3}, {"a": 10, "b": 10, "c": 10}, 12.0)

    assert steps["a"] == pytest.approx(2 * steps["b"], abs=2)
    assert steps["b"] == pytest.approx(2 * steps["c"], abs=2)


def test_no_layer_gets_less_than_the_fewest_or_more_than_the_most():
    assert set(share_out(COSTS, PICTURES, 0.001).values()) == {FEWEST}
    assert set(share_out(COSTS, PICTURES, 1e6).values()) == {MOST}


def test_no_other_sharing_of_the_same_time_gains_more():
    """A picture gains as the logarithm of its steps: no exchange between two layers may do better."""
    steps = share_out(COSTS, PICTURES, 120.0)
    free = [name for name in COSTS if FEWEST + 20 < steps[name] < MOST - 20]
    gain = {name: 1 / (steps[name] * COSTS[name]) for name in free}  # for each picture's next second

    np.testing.assert_allclose(list(gain.values()), gain[free[0]], rtol=0.05)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("2min", 120)])
def test_times_are_read_as_people_write_them(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-3m", "ten", "1e9", "5 days"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(SettingsError, match=r"give a time such as 90s, 10m or 1\.5h"):
        seconds_of(text)
