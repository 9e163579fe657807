"""Which channels do the same as another one: by their kernels, by their answers, and what is said where none do."""

from dataclasses import fields

import pytest

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import LayerInfo
from filterscope.analyzer.run.rows import StatisticsRow, WeightRow
from filterscope.reports.site.doubles import doubles_of, none_sentence, partners
from filterscope.reports.site.site import render
from support.changed_tables import change_rows
from support.pages import read
from support.synthetic_run import synthetic_run

DENSE, GROUPED = (LayerInfo.read({"name": "conv", "groups": groups, "out_channels": 8}) for groups in (1, 8))


def blank(kind, **values):
    return kind(**{one.name: values.get(one.name) for one in fields(kind)})


def kernel(channel, *alike):
    others, cosines = zip(*alike, strict=True) if alike else ((), ())
    return blank(WeightRow, channel=channel, alike=list(others), cosines=list(cosines))


def answers(channel, nearest, correlation):
    return blank(StatisticsRow, layer="conv", channel=channel, nearest=nearest, correlation=correlation)


def test_doubles_are_chained_into_groups_with_the_weakest_link_that_joins_them():
    rows = [kernel(0, (3, 0.995), (1, 0.5)), kernel(3, (0, 0.995), (5, 0.992)), kernel(1, (0, 0.5)), kernel(4)]
    double = doubles_of(DENSE, rows, [answers(6, 7, 0.999), answers(7, 6, 0.999), answers(2, 1, -1.0)])
    assert [group.channels for group in double.groups] == [(0, 3, 5), (6, 7)]
    assert [group.weakest.in_words for group in double.groups] == ["cosine 0.992", "correlation 0.999"]
    assert double.double == (0, 3, 6, 7), "of 5, whose kernel was not compared, nothing is counted"
    assert double.compared == 7
    assert partners(double)[3] == (0, 5)
    assert none_sentence({"conv": double}) == ""


def test_kernels_of_groups_read_different_inputs_and_are_not_compared():
    double = doubles_of(GROUPED, [kernel(0, (1, 1.0))], [])
    assert (double.groups, double.compared, double.closest) == ((), 0, None)
    assert none_sentence({"conv": double}) == ""


@pytest.mark.parametrize("value", [None, float("nan")])
def test_what_is_no_number_makes_no_double(value):
    assert doubles_of(DENSE, [], [answers(0, 1, value)]).closest is None


def test_where_none_are_doubles_the_rule_and_the_closest_pair_are_named():
    kernels = doubles_of(DENSE, [kernel(0, (1, 0.3)), kernel(1, (0, 0.3))], [])
    layers = {"conv1": kernels, "conv2": doubles_of(DENSE, [], [answers(0, 1, 0.987)])}
    assert none_sentence(layers) == (
        "No two channels are doubles: of 3 channels, no two of a layer have a correlation above 0.99 of their "
        "activations on the data or a cosine above 0.99 of their kernels. "
        "The closest pair, 0 and 1 of conv2, has a correlation 0.987."
    )
    assert "on the data" not in none_sentence({"conv1": kernels})


def test_the_overview_and_the_layer_say_whose_double_a_channel_is(tmp_path):
    place = synthetic_run(tmp_path / "run", layers=2, channels=6, images=1, studies=True, statuses={})
    rows = change_rows(
        place / "weights/features-0-conv.parquet",
        lambda row: {"cosines": [0.997, *row["cosines"][1:]]} if row["channel"] == 4 else {},
    )
    other = rows[4]["alike"][0]
    folder = render(Run(place)).parent
    for page in ("index.html", "layer-features-0-conv.html"):
        group = read(folder / page).select("span", "group")[0]
        assert group.text.split() == [str(other), "=", "4", "(cosine", "0.997)"]
    overview = read(folder / "index.html")
    assert {"layer-features-0-conv.html#4", f"layer-features-0-conv.html#{other}"} <= {
        link.attributes.get("href") for link in overview.select("a")
    }
    assert "No two channels" not in overview.text
    assert "No two channels of this layer are doubles" in " ".join(
        read(folder / "layer-features-1-conv.html").text.split()
    )


def test_the_overview_says_that_no_two_are_doubles(tmp_path):
    place = synthetic_run(tmp_path / "run", layers=2, channels=6, images=1, studies=True, statuses={})
    change_rows(place / "examples/units.parquet", lambda row: {"correlation": 0.4})
    text = " ".join(read(render(Run(place)).parent / "index.html").text.split())
    assert "No two channels are doubles: of 12 channels" in text
    assert "has a cosine 0.900." in text
