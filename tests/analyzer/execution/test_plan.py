"""The plan: which channels are chosen, which task owns them, and what makes two plans one."""

from dataclasses import dataclass, fields, replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.execution.plan import (
    ANALYTIC_UNITS,
    AUTO_ALL,
    CHANNEL_OBJECTIVES,
    DIVERSE_UNITS,
    TASK_UNITS,
    Settings,
    choose_channels,
    evenly_spaced,
    make_plan,
    selection,
)
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import preset
from filterscope.analyzer.run.layout import slugs
from filterscope.converters.errors import SettingsError
from support.networks import build, normal


@dataclass
class Layer:
    """What choosing channels asks of a layer."""

    name: str
    out_channels: int
    rank: int = 2
    index: int = 0
    node: str = ""
    value: str = ""
    kind: str = "conv"
    paths: tuple = ()

    @property
    def has_maps(self):
        return self.rank == 2

    def is_called(self, names):
        return self.name in names


TWO = [Layer("first", 6), Layer("second", 20)]
WHOLE = {"first": tuple(range(6)), "second": tuple(range(20))}
CHOICES = [  # layers, wanted, chosen
    (TWO, "all", WHOLE),
    (TWO, "auto", WHOLE),
    (TWO, "4/layer", {"first": (0, 1, 3, 4), "second": (0, 5, 10, 15)}),
    (TWO, "999/layer", WHOLE),
    (TWO, "0", {"first": (0,), "second": (0,)}),
    (TWO, "5,0,2-3,3", {"first": (0, 2, 3, 5), "second": (0, 2, 3, 5)}),
    (TWO, " 1 , 2-2 ", {"first": (1, 2), "second": (1, 2)}),
    ([Layer("small", AUTO_ALL)], "auto", {"small": tuple(range(AUTO_ALL))}),
    ([Layer("wide", AUTO_ALL), Layer("one", 1)], "auto", {"wide": tuple(range(0, AUTO_ALL, 64)), "one": (0,)}),
]


@pytest.mark.parametrize(("layers", "wanted", "chosen"), CHOICES)
def test_channels_are_chosen_as_asked(layers, wanted, chosen):
    assert choose_channels(layers, wanted) == chosen


FORM = "give auto, all, 16/layer, or numbers and ranges such as 0,4,8-11"
WRONG_CHANNELS = [  # wanted, words of the error
    *(
        (wanted, FORM)
        for wanted in (
            *("", ",", "1,", "x", "-1", "1-", "3-2", "1.5", "1-2-3", "0/layer", "/layer", "4/net", "4/", "-4/layer"),
            *("All", "٣", "²", "9" * 5000, "0-" + "9" * 5000, "9" * 5000 + "/layer"),
        )
    ),
    ("6", "first has channels 0 to 5; choose its layer with `layers`, or other channels"),
    ("0,3-6", "first has channels 0 to 5"),
    ("0-999999999", "first has channels 0 to 5"),  # at once, without counting so far
]


@pytest.mark.parametrize(("wanted", "words"), WRONG_CHANNELS)
def test_channels_that_cannot_be_chosen_are_an_error_of_one_line(wanted, words):
    with pytest.raises(SettingsError, match=words) as caught:
        choose_channels(TWO, wanted)
    assert str(caught.value).startswith("`channels=")
    assert "\n" not in str(caught.value)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_evenly_spaced_channels_begin_at_0_and_lie_equally_apart(total, count):
    found = evenly_spaced(total, count)
    assert len(found) == min(count, total)
    assert found[0] == 0
    assert found[-1] < total
    apart = np.diff([*found, total])
    assert apart.min() >= 1
    assert apart.max() - apart.min() <= 1


WRONG_SETTINGS = [
    ({"quality": "best"}, "`quality=best`: give one of draft, standard, fine"),
    ({"objectives": ("channel", "layer")}, "`objective=layer`: give one of channel, neuron, negative, diversity"),
    ({"resize": "stretch"}, "`resize=stretch`: give one of auto, crop, cover, squash, fit"),
    ({"channels": "some"}, f"`channels=some`: {FORM}"),
    ({"seed": -1}, "`seed=-1`: give 0 or more"),
    ({"map_pictures": -1}, "`maps=-1`: give 0 or more"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG_SETTINGS)
def test_settings_are_checked_at_birth(wrong, words):
    with pytest.raises(SettingsError, match=words):
        Settings(**wrong)


# Plans of a network of four layers, 90 channels each but the last


LAYERS = ("net.first", "net.deep", "net.deeper", "net.last")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "model.onnx"
    kernels = dict(zip("abcd", (normal(90, 3, 1, 1), *[normal(90, 90, 1, 1)] * 2, normal(5, 90, 1, 1)), strict=True))
    nodes = [("Conv", f"{x} {name}.weight", y) for x, name, y in zip("xpqr", LAYERS, "pqrs", strict=True)]
    onnx.save(build(nodes, {f"{name}.weight": kernels[k] for name, k in zip(LAYERS, "abcd", strict=True)}), path)
    return open_network(path)


BATCH = {"net.first": 64, "net.deep": 24, "net.deeper": 100, "net.last": 1}
EVERY = Settings(objectives=("channel", "neuron"), channels="all")


def plan(network, settings=EVERY, images=("i",), batch=BATCH):
    return make_plan(network, settings, images, lambda layer, recipe: batch[layer.name])


def test_every_chosen_channel_is_in_exactly_one_task_of_a_kind(network):
    for settings in (EVERY, replace(EVERY, channels="7/layer"), replace(EVERY, channels="0-2,4")):
        made = plan(network, settings)
        for name in LAYERS:
            kinds = [("neuron", "analytic"), ("channel", "ascent"), ("neuron", "ascent")]
            for objective, method in kinds:
                own = [t for t in made.tasks if (t.layer, t.objective, t.method) == (name, objective, method)]
                channels = [channel for task in own for channel in task.channels]
                assert tuple(channels) == made.channels[name]
        few = [len(task.channels) for task in made.tasks if task.objective == "diversity"]
        assert sum(few) <= 2 * DIVERSE_UNITS
        assert len(made.tasks) == len({task.key(slugs(LAYERS)).stem for task in made.tasks}), "each has its own files"


def test_tasks_are_whole_batches_and_small_enough_to_lose(network):
    for task in plan(network).tasks:
        if task.method == "analytic":
            assert len(task.channels) <= ANALYTIC_UNITS
            continue
        batch = BATCH[task.layer]
        if task.objective == "diversity":
            assert task.layer in LAYERS[2:], "deep layers alone"
            continue
        assert len(task.channels) <= max(TASK_UNITS, batch)
        last = task.channels[-1] == plan(network).channels[task.layer][-1]
        assert last or len(task.channels) % batch == 0


def test_tasks_come_in_the_order_in_which_they_help_most_and_then_in_network_order(network):
    made = plan(network)
    kinds = [(task.method, task.objective == "diversity") for task in made.tasks]
    assert list(dict.fromkeys(kinds)) == [
        ("analytic", False),
        ("accentuation", False),
        ("ascent", False),
        ("ascent", True),
    ]
    for kind in set(kinds):
        layers = [task.layer for task, own in zip(made.tasks, kinds, strict=True) if own == kind]
        assert layers == sorted(layers, key=LAYERS.index)
    assert [task.layer for task in made.first] == sorted((task.layer for task in made.first), key=LAYERS.index)
    assert {task.recipe.quality.name for task in made.first} == {"draft"}


def test_layers_whose_first_picture_shows_a_part_of_the_field_go_first(network):
    wide = replace(network.layers[2], field=replace(network.layers[2].field, size=(200, 200)))
    layers = [wide if layer.name == wide.name else layer for layer in network.layers]
    made = plan(replace(network, layers=layers))
    ascents = [task.layer for task in made.tasks if task.method == "ascent" and task.objective == "channel"]
    assert list(dict.fromkeys(ascents)) == [wide.name, *(name for name in LAYERS if name != wide.name)]


def test_diverse_pictures_that_are_asked_for_are_made_of_all_units_by_the_full_recipe(network):
    made = plan(network, replace(EVERY, objectives=("channel", "diversity")))
    asked = [task for task in made.tasks if task.objective == "diversity"]
    assert {task.layer for task in asked} == set(LAYERS)
    assert {task.recipe for task in asked} == {EVERY.recipe}


def test_drafts_and_published_presets_have_one_round(network):
    for settings in (replace(EVERY, quality="draft"), replace(EVERY, preset="distill")):
        made = plan(network, settings)
        assert not made.first
        assert {task.objective for task in made.tasks} == {"channel", "neuron"}
        assert "accentuation" not in {task.method for task in made.tasks}


def test_layers_are_chosen_by_name_glob_or_number(network):
    wanted = Settings(layers=("net.l*", "net.first", "#2"))
    assert list(selection(network.layers, wanted)) == ["net.first", "net.deeper", "net.last"]


UNKNOWN = [  # layer asked for, what is suggested
    ("net.depe", "net.deep"),
    ("NET.LAST", "net.first"),
    ("#9", "net.first"),
    ("net.z*", "net.last"),
]


@pytest.mark.parametrize(("wanted", "near"), UNKNOWN)
def test_unknown_layers_are_refused_and_the_nearest_named(network, wanted, near):
    with pytest.raises(SettingsError, match=r"no layer matches .*; nearest: .*filterscope inspect") as caught:
        selection(network.layers, Settings(layers=(wanted,)))
    assert near in str(caught.value)


def test_layers_of_other_dimensions_alone_are_no_choice():
    layers = [Layer("line", 4, rank=1), Layer("plane", 4, index=1)]
    assert list(selection(layers, Settings())) == ["plane"]
    with pytest.raises(SettingsError, match="no two-dimensional convolution is among the layers chosen"):
        selection(layers, Settings(layers=("line",)))


CHANGES = {
    "quality": "fine",
    "preset": "distill",
    "objectives": ("neuron",),
    "layers": ("net.deep",),
    "channels": "5/layer",
    "seed": 1,
    "map_pictures": 3,
    "resize": "fit",
}


def test_each_setting_makes_another_plan(network):
    assert {*CHANGES, "kinds", "time_budget"} == {field.name for field in fields(Settings)}
    identities = {plan(network, replace(EVERY, **{name: value})).identity for name, value in CHANGES.items()}
    assert len(identities | {plan(network).identity}) == len(CHANGES) + 1


def test_what_decides_nothing_leaves_the_plan_as_it_is(network):
    same = plan(network).identity
    assert plan(network).identity == same
    named = replace(EVERY, channels="auto", layers=("*",), kinds=("all",), time_budget=60.0)
    assert plan(network, named).identity == same, "the same channels, named otherwise"
    assert "device" not in {field.name for field in fields(Settings)}


def test_the_model_its_input_and_the_images_make_another_plan(network, tmp_path):
    proto = onnx.load(network.model.path)
    other = onnx.ModelProto()
    other.CopyFrom(proto)
    other.doc_string = "another file"
    onnx.save(other, tmp_path / "other.onnx")
    onnx.save(proto, tmp_path / "same.onnx")
    same = plan(network).identity
    assert plan(open_network(tmp_path / "same.onnx")).identity == same, "where the file lies decides nothing"
    assert plan(open_network(tmp_path / "other.onnx")).identity != same
    scaled = open_network(tmp_path / "same.onnx", InputOptions(preprocessing=preset("symmetric")))
    assert plan(scaled).identity != same
    assert len({plan(network, images=images).identity for images in ((), ("i",), ("j",), ("i", "j"), ("j", "i"))}) == 5
    reworded = replace(network, input=replace(network.input, why="Said in other words.", certain=False))
    assert plan(reworded).identity == same, "where a number comes from decides nothing"


def test_objectives_are_those_that_the_documents_name():
    assert CHANNEL_OBJECTIVES == ("channel", "neuron", "negative", "diversity")
