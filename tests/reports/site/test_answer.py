"""The first sentences of a channel's page: words only where the numbers carry them."""

from dataclasses import replace

import pytest

from filterscope.analyzer.run.records import LayerInfo
from filterscope.analyzer.run.rows import ExampleRow, PathRow, StatisticsRow, TruthRow, UnitRow
from filterscope.reports.page.sheets import grid_for
from filterscope.reports.page.units import Kind, MapFact, Picture, Unit
from filterscope.reports.site.answer import PARTLY, WEAKLY, WELL, UnitFacts, answer, natural_ratio, quantile

LAYER = LayerInfo.read({"name": "conv4", "depth": 3, "output_shape": [64, 12, 12], "nonlinearity": "relu"})
KIND = Kind(0, "channel", "ascent", "image", title="Channel", meaning="", anchor="channel", pictured=True,
            size=(32, 32), bands=3, pixels=(32, 32), planes=3, grid=grid_for(1, 32, 32))  # fmt: skip


def facts(
    activation=2.0, robust=1.9, random=0.5, bound=None, status="ok", maps=(), is_first=False, **more
) -> UnitFacts:
    """A channel with one picture."""
    row = UnitRow(
        atlas="a.png", tile=0, height=32, width=32, bands=3, layer="conv4", channel=7, objective="channel",
        method="ascent", space="image", activation=activation, robust=robust, random=random, bound=bound,
        bound_kind=None if bound is None else "interval", gap=None, status=status, steps=128, seconds=1.0, row=None,
        column=None, is_first=is_first,
    )  # fmt: skip
    picture = Picture(KIND, row, sheet=0, tile=0)
    unit = Unit(0, 7, (picture,), tuple(maps), sheet=0, row=0, rows=1, strongest=None)
    return UnitFacts(LAYER, unit, **more)


def places(labels, row=5, column=5):
    """Strongest places in the map, each with the label of its image."""
    return [
        (
            ExampleRow(None, None, None, None, None, channel=7, rank=rank, example=rank, activation=3.0 - rank / 10,
                       row=row, column=column, top=0, left=0, field_height=24, field_width=24),
            label,
        )
        for rank, label in enumerate(labels)
    ]  # fmt: skip


def statistics(**more):
    values = dict.fromkeys(StatisticsRow.__slots__) | {"layer": "conv4", "channel": 7, "dead": False}
    return StatisticsRow(**(values | {"histogram": [90, 9, 1], "histogram_low": -3.0, "histogram_high": 3.0} | more))


def test_classes_are_named_with_what_tells_them_and_near_ones_with_them():
    lead = answer(facts(classes=[("frog", 0.94), ("deer", 0.9), ("cat", 0.85)], tuning="green spots")).lead
    assert lead == (
        "Responds most to frog and deer: 94 % of the time, an image of frog excites it more than one of another "
        "class. "
        "Of simple stimuli it prefers green spots."
    )
    assert "frog" not in answer(facts(classes=[("frog", 0.79)])).lead


def test_a_label_is_named_where_most_of_the_strongest_share_it():
    shared = answer(facts(strongest=places(["ship"] * 5 + ["dog"] * 4))).lead
    assert shared == "Responds to ship: 5 of its 9 strongest images are labelled so."
    mixed = answer(facts(strongest=places(["ship"] * 4 + ["dog"] * 5)[:8])).lead
    assert mixed.startswith("No common label among its 8 strongest images")
    assert answer(facts(strongest=places([None] * 9))).lead.startswith("What it responds to is shown below")


@pytest.mark.parametrize(
    ("row", "column", "words"), [(0, 5, "at the top of"), (11, 11, "at the bottom right of"), (5, 5, "")]
)
def test_the_place_is_told_where_the_strongest_share_it(row, column, words):
    lead = answer(facts(strongest=places([None] * 9, row=row, column=column))).lead
    assert (f"lie {words}" in lead) if words else ("Its strongest places" not in lead)


def test_a_picture_is_well_supported_where_it_beats_nature_on_natures_path_and_nothing_speaks_against_it():
    truth = [TruthRow("conv4", 7, "channel", 2.0, 0.5, 4.0)]
    path = PathRow("conv4", 7, "conv3", 0.45, 0.5, 0.3)
    maps = [MapFact(0, -1.0, 0.25, 3.0, 1, 1)]
    found = answer(facts(truth=truth, statistics=statistics(), maps=maps, paths=[path]))
    assert found.level == WELL
    assert found.reasons == [
        "The mean of its map is 4.0 times that on the strongest natural image.",
        "The mean of its map lies above 99.5 % of the channel’s single activations on the data.",
        "Its picture takes the path of natural images: their rank correlation in conv3 is 0.45 against 0.50 among "
        "natural images.",
    ]


@pytest.mark.parametrize(
    ("paths", "level", "last"),
    [
        ([], PARTLY, "Whether it takes the path of natural images through the network was not measured; a higher"),
        ([PathRow("conv4", 7, "conv3", 0.2, 0.32, 0.3)], PARTLY, "No earlier layer tells whether"),
        ([PathRow("conv4", 7, "conv3", None, 0.5, 0.3)], PARTLY, "No earlier layer tells whether"),
    ],
)
def test_a_high_activation_alone_does_not_support_a_picture_well(paths, level, last):
    found = answer(facts(truth=[TruthRow("conv4", 7, "channel", 2.0, 0.5, 4.0)], paths=paths))
    assert found.level == level
    assert found.reasons[-1].startswith(last)


def test_without_the_study_of_truth_it_is_named_and_a_first_layer_needs_none():
    maps = [MapFact(0, -1.0, 0.25, 3.0, 1, 1)]
    assert answer(facts(maps=maps)).reasons[-1].endswith("was not measured; the study of truth does.")
    assert answer(replace(facts(maps=maps), layer=replace(LAYER, depth=0))).level == WELL


def test_what_is_proven_to_be_the_highest_needs_no_natural_path():
    best = facts(bound=2.0, truth=[TruthRow("conv4", 7, "channel", 2.0, 0.5, 4.0)])
    picture = best.unit.pictures[0]
    exact = replace(picture, row=replace(picture.row, bound_kind="exact"))
    assert answer(replace(best, unit=replace(best.unit, pictures=(exact,)))).level == WELL


def test_one_doubt_makes_it_partly_two_weakly_supported():
    beaten = answer(facts(truth=[TruthRow("conv4", 7, "channel", 2.0, 4.0, 0.5)]))
    assert beaten.level == PARTLY
    assert beaten.reasons[-1].startswith("Natural images excite it more: its picture reaches 50 % of the strongest.")
    shifted = answer(facts(robust=0.4, truth=[TruthRow("conv4", 7, "channel", 2.0, 4.0, 0.5)]))
    assert shifted.level == WEAKLY
    assert shifted.reasons[-1] == "Shifted by a few pixels, its picture keeps 20 % of its activation."
    assert answer(facts()).reasons == ["Nothing in this run compares it with natural images."]
    assert answer(facts(status="unraised", activation=0.4)).level == WEAKLY
    assert "quickly made" in answer(facts(is_first=True)).reasons[-1]


def test_without_truth_it_is_compared_with_the_users_images():
    maps = [MapFact(0, -1.0, 0.5, 3.0, 1, 1), MapFact(1, -1.0, 0.25, 9.0, 1, 1), None]
    assert answer(facts(maps=maps)).reasons[:-1] == [
        "The mean of its map is 4.0 times that on the strongest natural image."
    ]
    below = [replace(fact, mean=-fact.mean) for fact in maps if fact]
    assert answer(facts(maps=below)).reasons[:-1] == [
        "The mean of its map is 2.00 on its picture, and above 0 on no natural image."
    ]
    assert answer(facts(maps=[MapFact(0, 0.0, 5.0, 9.0, 1, 1)])).level == PARTLY, "an image does better: no support"


def test_beyond_ten_times_the_number_is_left_out():
    truth = [TruthRow("conv4", 7, "channel", 2.0, 0.01, 200.0)]
    assert answer(facts(truth=truth)).reasons[:-1] == [
        "The mean of its map is more than 10 times that on the strongest natural image."
    ]


def test_a_neuron_is_compared_with_neurons_alone():
    truth = [TruthRow("conv4", 7, "channel", 2.0, 0.5, 4.0), TruthRow("conv4", 7, "neuron", 1.6, 2.0, 0.8)]
    beaten = answer(facts(truth=truth))
    assert beaten.level == PARTLY
    assert beaten.reasons[-1] == "At its strongest place its pictures reach 80 % of the strongest natural one."
    assert natural_ratio(facts(truth=truth[1:])) is None, "a neuron says nothing of the mean"


def test_a_label_that_has_too_few_images_cannot_be_common():
    lead = answer(facts(strongest=places(list("abcdefghi")), of_a_label=1)).lead
    assert lead == "The pictures must say what it responds to: no label of the data has more than 1 image."
    assert answer(facts(strongest=places(list("abcdefghi")), of_a_label=5)).lead.startswith("No common label")


def test_a_picture_that_loses_nearly_all_by_a_shift_is_weakly_supported():
    truth = [TruthRow("conv4", 7, "channel", 2.0, 0.5, 4.0)]
    found = answer(facts(robust=-0.1, truth=truth, paths=[PathRow("conv4", 7, "conv3", 0.45, 0.5, 0.3)]))
    assert found.level == WEAKLY
    assert found.reasons[0] == "Shifted by a few pixels, its picture keeps nothing of its activation."


def test_strongest_images_that_are_all_equally_strong_say_nothing():
    tied = [(replace(row, activation=0.277), label) for row, label in places(["ship"] * 9, row=0)]
    lead = answer(facts(strongest=tied)).lead
    assert "ship" not in lead
    assert "top" not in lead


def test_a_bound_appears_only_where_it_says_something():
    assert any("more than 2.0 times as high" in one for one in answer(facts(bound=4.0)).reasons)
    assert not any("times as high" in one for one in answer(facts(bound=6.1)).reasons)


def test_another_path_than_that_of_natural_images_is_a_doubt_where_the_layer_tells():
    path = PathRow("conv4", 7, "conv3", 0.2, 0.5, 0.3)
    assert answer(facts(paths=[path])).reasons[-1] == (
        "Its picture takes another path than natural images: their rank correlation in conv3 is 0.20 against 0.50 "
        "among natural images."
    )
    blind = replace(path, random_natural=0.5)
    assert "path" not in " ".join(answer(facts(paths=[blind])).reasons)


def test_units_that_do_nothing_say_so_first():
    silent = answer(facts(statistics=statistics(dead=True), images=2000))
    assert (
        silent.lead == "Silent on the data: none of its 2,000 images raises it above 0. Its picture shows what would."
    )
    below = answer(facts(statistics=statistics(dead=True), activation=-0.1, random=-1.0))
    assert below.lead.endswith(
        "none of its images raises it above 0. The mean of its map is not above 0 on its picture either."
    )
    assert silent.level == WEAKLY
    assert answer(facts(status="dead")).lead.startswith("Dead: it is proven")
    assert answer(facts(status="diverged", activation=None)).lead.startswith("No result")
    constant = facts()
    assert answer(replace(constant, unit=replace(constant.unit, constant=True))).lead.startswith("Constant:")


def test_a_quantile_counts_the_samples_below():
    assert quantile(-3.0, statistics()) == 0
    assert quantile(-1.0, statistics()) == pytest.approx(0.9)
    assert quantile(0.0, statistics()) == pytest.approx(0.945)
    assert quantile(9.0, statistics()) == 1
    assert quantile(0.0, statistics(histogram=None)) is None
