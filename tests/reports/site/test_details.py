"""What a channel's view is told, and the sentences that its script makes of it."""

from __future__ import annotations

import json
import math
import re

import pytest

from filterscope.analyzer.run.reader import Run
from filterscope.reports.site.details import BINS, fewer
from filterscope.reports.site.site import render
from support.synthetic_run import synthetic_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("details") / "run"
    return render(
        Run(synthetic_run(place, layers=2, channels=3, images=4, names=["photo.png"], picture=20)), images=2
    ).parent


def handed(folder, file):
    """The last value that a script of the first layer hands to the page."""
    call = (folder / "assets" / f"{Run(folder.parent).layers[0]['slug']}{file}").read_text("utf-8")
    return json.loads("[" + re.fullmatch(r"filterscope\((.*)\);\n", call, re.DOTALL)[1] + "]")[-1]


def test_a_kind_of_picture_says_its_size_and_how_far_it_was_shifted(folder):
    kinds = handed(folder, ".js")["kinds"]

    assert [(kind["objective"], kind["pixels"], kind["shift"]) for kind in kinds] == [
        ("channel", [13, 13], 1),
        ("neuron", [13, 13], 1),
        ("neuron", [3, 3], 0),  # too small to shift
    ]


def test_an_image_without_a_page_is_named(folder):
    units = handed(folder, "-u0.js")
    numbers = [unit["g"] for unit in units]

    assert any(number[0] >= 2 for number in numbers)
    for number in numbers:
        assert number[4:] == (["photo.png"] if number[0] >= 2 else [])


def test_a_map_has_its_mean_beside_its_ends(folder):
    run = Run(folder.parent)
    rows = {(row["channel"], row["image"]): row for row in run.maps(run.layers[0]["slug"]).to_pylist()}
    for unit in handed(folder, "-u0.js"):
        assert len(unit["m"]) == 2
        for image, (low, high, row, column, mean) in enumerate(unit["m"]):
            expected = rows[unit["c"], image]
            assert (low, mean, high) == tuple(
                pytest.approx(expected[name], rel=1e-3) for name in ("minimum", "mean", "maximum")
            )
            assert (row, column) == (expected["row"], expected["column"])


def test_first_pictures_are_marked_for_the_view(tmp_path):
    run = Run(synthetic_run(tmp_path / "run", layers=1, channels=3, images=0, status="partial", first=["conv0"]))
    render(run)
    for unit in handed(run.folder / "site", "-u0.js"):
        first, *others = unit["p"]
        assert first[7:9] == [[13, 13, 1], None]
        assert all(row[7:] == [] for row in others)


@pytest.mark.parametrize("count", range(1, 65))
def test_a_histogram_of_any_number_of_bins_keeps_its_form(count):
    histogram = [bin + 1 for bin in range(count)]

    bins, beyond = fewer(histogram)

    assert min(count, 20) < len(bins) + 1 <= BINS + 1
    per_bin = count * (1 + beyond) / len(bins)  # of the histogram's own bins
    assert per_bin == pytest.approx(round(per_bin))
    sums = [sum(histogram[first : first + round(per_bin)]) for first in range(0, count, round(per_bin))]
    assert bins == [math.ceil(1000 * total / max(sums)) for total in sums]
