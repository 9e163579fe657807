"""Maps over photos: the colours against matplotlib's, and the scales against the numbers that they must show."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from filterscope.reports.page import heat
from support.paths import ROOT


def test_the_colours_are_matplotlibs_viridis():
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib, which some development tools bring along")
    expected = np.array(matplotlib.colormaps["viridis"].colors) * 255
    steps = np.linspace(0, 255, len(heat.VIRIDIS))
    drawn = np.stack([np.interp(np.arange(256), steps, heat.VIRIDIS[:, band]) for band in range(3)], 1)
    assert np.abs(drawn - expected).max() < 1.8


def test_lightness_rises_evenly_so_that_grey_prints_say_the_same():
    linear = (heat.VIRIDIS / 255) ** 2.2
    lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16  # CIE L*
    steps = np.diff(lightness)
    assert steps.min() > 0.5 * steps.mean()
    assert steps.max() < 1.5 * steps.mean()


def test_the_colour_bar_has_the_colours_of_the_maps():
    css = (ROOT / "reports/static/site.css").read_text(encoding="utf-8")
    bar = re.search(r"\.heat-bar \{[^}]*linear-gradient\(90deg, ([^)]*)\)", css)
    assert bar
    assert bar[1].split(", ") == ["#" + bytes(step).hex() for step in heat.VIRIDIS[::4]]


def test_the_filter_has_a_value_a_step():
    for band in range(3):
        values = np.array(heat.table(band).split(), float)
        np.testing.assert_allclose(values * 255, heat.VIRIDIS[:, band], atol=0.2)
    assert len(heat.veil().split()) == 20


@pytest.mark.parametrize(
    ("ends", "is_rectified", "expected"),
    [
        ([(-2.0, 3.0), (-1.0, 8.0)], False, (-2.0, 8.0)),
        ([(-2.0, 3.0), (-1.0, 8.0)], True, (0.0, 8.0)),
        ([(-2.0, -1.0)], True, (0.0, 1.0)),  # nothing is lit
        ([(-2.0, math.nan), (1.0, 2.0)], False, (1.0, 2.0)),
        ([(math.nan, math.nan)], False, None),
        ([(3.0, 3.0)], False, None),
        ([], True, None),
    ],
)
def test_maps_share_the_range_of_them_all_and_begin_at_0_before_a_relu(ends, is_rectified, expected):
    assert heat.shared_scale(ends, is_rectified=is_rectified) == expected


def filtered(grey: np.ndarray, functions: str) -> np.ndarray:
    """What CSS filter functions make of grey values, each cut off at 0 and 1."""
    for name, value in re.findall(r"(\w+)\(([\d.e+-]+)\)", functions):
        grey = (grey * float(value) if name == "brightness" else (grey - 0.5) * float(value) + 0.5).clip(0, 1)
    return grey


CASES = [  # (lowest, highest) of the map, the scale
    ((0.0, 4.0), (0.0, 4.0)),
    ((1.0, 2.0), (0.0, 4.0)),
    ((-3.0, 2.0), (0.0, 4.0)),
    ((-3.0, -1.0), (0.0, 4.0)),  # unlit
    ((-300.0, 4.0), (0.0, 4.0)),
    ((-3.0, 2.0), (-5.0, 4.0)),
    ((2.0, 2.0), (0.0, 4.0)),  # a map of one value
    ((-2.0, -2.0), (0.0, 4.0)),
    ((0.0, 0.0), (0.0, 4.0)),
    ((3.0, 4.0), (0.0, 4.0)),
]


@pytest.mark.parametrize(("ends", "scale"), CASES)
def test_a_map_taken_to_another_scale_shows_its_values_on_it(ends, scale):
    grey = np.linspace(0, 1, 256) if ends[0] < ends[1] else np.zeros(1)  # a map of one value is stored as black
    values = ends[0] + grey * (ends[1] - ends[0])
    expected = ((values - scale[0]) / (scale[1] - scale[0])).clip(0, 1)
    np.testing.assert_allclose(filtered(grey, heat.rescaling(ends, scale)), expected, atol=2e-3)
