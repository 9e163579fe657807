"""A layer and a channel of a run show themselves: their own pictures, their own numbers, escaped."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from filterscope.analyzer.run.reader import Run
from filterscope.converters.errors import SettingsError
from support.synthetic_run import synthetic_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    names = ["<b>first</b>", "second"]
    return Run(synthetic_run(tmp_path_factory.mktemp("run"), layers=2, channels=3, images=0, names=names))


def test_a_channel_shows_the_pictures_that_the_run_holds(run):
    unit = run["second"][1]
    shown = re.findall(r"base64,([^\"]+)", unit._repr_html_())
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in shown]

    own = [run.tile(row) for row in run.units.to_pylist() if (row["layer"], row["channel"]) == ("second", 1)]
    assert len(pictures) == len(own) == 3
    for tile in own:
        assert any(np.array_equal(picture, np.squeeze(tile)) for picture in pictures)
    assert np.array_equal(unit.picture(), own[0]) or np.array_equal(unit.picture(), own[1])


def test_a_layer_shows_every_channel_and_its_name_is_data(run):
    layer = run["<b>first</b>"]
    assert len(layer) == 3
    assert layer._repr_html_().count("<figure") == 3
    assert "<b>first" not in layer._repr_html_()
    row = layer[2].rows[0]
    assert f"{row.activation:.4g}" in layer._repr_html_()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda run: run["secnd"], "did you mean second"),
        (lambda run: run["second"][9], "channel 9 is not in this run; it has 0, 1, 2$"),
        (lambda run: run["second"][0].picture("layer"), "has .*; not layer ascent"),
        (lambda run: run[2], "^`layer=2`: give a text"),
        (lambda run: run.maps("secnd"), "did you mean second"),
        (lambda run: run.weights("bogus"), "no layer is called that"),
        (lambda run: run.table("units"), "^`table=units`: give one of .*examples/units.parquet"),
    ],
)
def test_what_is_not_there_is_said(run, asked, said):
    with pytest.raises(SettingsError, match=said):
        asked(run)


def test_a_channel_has_the_numbers_of_its_first_picture(run):
    unit = run["second"][1]
    first = unit.rows[0]
    numbers = (unit.activation, unit.robust, unit.random, unit.bound, unit.status)
    assert numbers == (first.activation, first.robust, first.random, first.bound, first.status)


def test_tables_of_a_layer_go_by_its_name_or_its_name_in_files(run):
    layer = run.layers[0]
    assert layer.name != layer.slug
    assert run.weights(layer.name).equals(run.weights(layer.slug))
