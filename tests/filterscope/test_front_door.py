"""What a user sees in a Python session: one line for each result, keywords named as the options are."""

import inspect

import numpy as np
import onnx
import pytest

import filterscope as fs
from filterscope.commands.opening import Opening
from filterscope.requests.analyze import settings_with
from support.classifier import classifier
from support.photos import photo


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("front-door")
    onnx.save(classifier(metadata={"names": "{0: 'bright', 1: 'dark', 2: 'red', 3: 'grey'}"}), folder / "m.onnx")
    return folder


@pytest.fixture(scope="module")
def network(place):
    return fs.open(place / "m.onnx", preprocess="unit")


def test_each_result_says_in_a_line_what_it_is(network, place):
    run = fs.analyze(network, out=place / "run", quality="draft", layers="look", channels=[0, 2], device="cpu")
    assert repr(run).startswith(f"<filterscope.Run {place / 'run'}: complete, 1 of ")
    assert repr(run).endswith(" layers, 2 channels>")
    assert repr(run["look"]).startswith("<layer look: 2 channels; ")
    assert "channel by ascent" in repr(run["look"])
    assert repr(run["look"][2]).startswith("<channel 2 of look: ")
    assert repr(run.units).splitlines()[0].startswith("layer")

    portrait = fs.maximize(network, "look", [0, 1], quality="draft", device="cpu")
    assert repr(portrait).startswith("<Portrait of look, channel by ascent, ")
    assert f"0: {portrait.activation[0]:.4g}, 1: {portrait.activation[1]:.4g}>" in repr(portrait)

    labels = ["bright", "dark", "red", "grey"]
    answer = fs.attribute(network, photo(16), "dark", method="saliency", labels=labels, device="cpu")
    assert repr(answer) == f"<Answer for picture 0: dark {answer['saliency'].score:.4g}; by saliency>"
    for result in (run, portrait, answer):
        assert type(result).__module__ == "filterscope"
        assert "\n" not in repr(result)


def test_keywords_of_analyze_change_settings():
    settings = fs.Settings(quality="fine", seed=3)
    changed = settings_with(settings, channels=np.int64(5).item(), objective="neuron", time_budget="2m", layers="a*")
    assert (changed.quality, changed.seed, changed.channels) == ("fine", 3, "5")
    assert (changed.objectives, changed.time_budget, changed.layers) == (("neuron",), 120.0, ("a*",))
    assert settings_with(None) == fs.Settings()
    with pytest.raises(fs.FilterscopeError, match="best"):
        settings_with(None, quality="best")


def test_open_takes_what_the_options_are_called():
    keywords = set(inspect.signature(fs.open).parameters)
    options = set(inspect.signature(Opening).parameters)
    assert options - keywords == {"model", "mean", "std", "high", "order"}  # the last four are a Preprocessing's
    assert keywords - options == {"source"}


def test_labels_may_be_a_file(network, place):
    (place / "labels.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    answer = fs.attribute(network, photo(16), "c", method="saliency", labels=place / "labels.txt", device="cpu")
    assert answer["saliency"].target.name == "c"
