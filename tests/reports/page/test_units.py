"""Which pictures stand for a layer."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from filterscope.reports.page.units import leading
from filterscope.reports.site import likeness

KIND = SimpleNamespace(position=0)


def unit(channel: int, lift: float, status: str = "ok") -> SimpleNamespace:
    row = SimpleNamespace(channel=channel, status=status)
    return SimpleNamespace(pictures=[SimpleNamespace(sheet=0, row=row, lift=lift, kind=KIND)])


UNITS = [unit(0, 9.0), unit(1, 2.0), unit(2, 3.0), unit(3, 8.0), unit(4, 7.0, "unraised")]


@pytest.mark.parametrize(
    ("last", "most", "expected"),
    [
        ((), 9, [0, 3, 2, 1]),
        ({(0, 0), (0, 3)}, 9, [2, 1, 0, 3]),
        ({(0, 0), (0, 3)}, 2, [2, 1]),
        ({(1, 0)}, 9, [0, 3, 2, 1]),  # of another kind
        ({(0, channel) for channel in range(4)}, 2, [0, 3]),
    ],
)
def test_pictures_that_tell_little_stand_behind_the_others(last, most, expected):
    lead = leading([KIND], UNITS, most, last)
    assert [picture.row.channel for picture in lead] == expected


def test_a_picture_is_plain_where_it_is_one_colour_nearly_all_over():
    black, noisy = np.zeros((32, 32, 3), np.uint8), np.random.default_rng(0).integers(0, 9, (32, 32, 3), np.uint8)
    half = black.copy()
    half[:, 16:, 0] = 90
    assert likeness.is_plain(black)
    assert likeness.is_plain(noisy + 200)
    assert not likeness.is_plain(half)
    assert not likeness.is_plain(np.arange(256, dtype=np.uint8).reshape(16, 16, 1))
