"""Settings in plain words, and named as whoever made the run knows them."""

import re

import pytest

from filterscope.analyzer.analysis import EXECUTION, PREPARATION
from filterscope.analyzer.execution.plan import Settings, settings_json
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import Prediction, RunInfo, StudyInfo
from filterscope.commands.options import SETTINGS
from filterscope.reports.site import setting_words, summary
from filterscope.reports.site.site import render
from support.pages import read
from support.synthetic_run import synthetic_run

FIELDS = (
    "steps",
    "canvas_cap",
    "patience",
    "rate",
    "source",
    "stretched",
    "recipe",
    "images_of_prior",
)  # analysis adds


def test_every_setting_of_a_run_has_words():
    assert {*settings_json(Settings()), *FIELDS} == set(setting_words.RUN)
    assert set(setting_words.STUDIES) == set(summary.STUDIES)


SAID = [
    ("channels", "auto", "Channels", "chosen by itself: all of a network with at most 1,024, otherwise 16 a layer"),
    ("channels", "4/layer", "Channels", "4 of each layer"),
    ("channels", "0,8-11", "Channels", "0,8-11"),
    ("layers", [], "Layers", "all"),
    ("layers", ["conv1", "conv2"], "Layers", "conv1, conv2"),
    ("objectives", ["channel", "neuron"], "What pictures raise", "the mean of a channel’s map and one neuron"),
    ("time_budget", None, "Time for the pictures", "no limit"),
    ("time_budget", 600.0, "Time for the pictures", "10 min 00 s"),
    ("canvas_cap", 96, "Longest side of a picture, at most", "96 px"),
    ("canvas_cap", None, "Longest side of a picture, at most", "no limit"),
    ("stretched", False, "Contrast of the pictures stretched", "no"),
    ("images_of_prior", 0, "Your images that lent colours and spectrum", "none"),
    ("resize", "fit", "Images of another size", "all of the image, on mid grey"),
    ("resize", "of-tomorrow", "Images of another size", "of-tomorrow"),
    ("of_a_newer_version", [1, None, True], "Of a newer version", "1, –, yes"),
    ("objectives", None, "What pictures raise", "–"),
]


@pytest.mark.parametrize(("name", "value", "title", "words"), SAID)
def test_a_setting_is_said_in_words(name, value, title, words):
    assert setting_words.settings_facts(RunInfo.read({"settings": {name: value}})) == [(title, words)]


def test_a_study_says_its_settings_and_its_time():
    study = StudyInfo.read({"name": "tuning", "settings": {"budget": 2e10, "examples": None}, "seconds": 75})
    assert setting_words.study_facts(study) == [
        ("Work, at most", "20 billion multiply-adds"),
        ("Hash of the natural images that it compares with", "none"),
        ("Time it took", "1 min 15 s"),
    ]


def test_every_part_of_the_time_has_a_name():
    stages = {stage.name for stage in (*PREPARATION, *EXECUTION) if stage.is_timed}
    assert stages | {"total"} == set(summary.STAGES)
    timings = RunInfo.read({"timings": {"maximize": 60.0, "truth": 1.0, "of_tomorrow": 2.0}})
    assert [name for name, _ in summary.timing_facts(timings)] == [
        "Maximised pictures",
        "of_tomorrow",
    ], "a study's own time stands with the study"


def test_the_method_page_shows_no_raw_name_and_begins_with_an_index(tmp_path):
    page = read(render(Run(synthetic_run(tmp_path / "run", layers=1, images=0, studies=True))))
    method = read(tmp_path / "run" / "site" / "method.html")
    assert page
    (contents,) = method.select("nav", "contents")
    targets = [e.attributes["href"] for e in method.select("a", within=contents)]
    terms = [e.attributes["id"] for e in method.select("dt", within=method.select("dl", "glossary")[0])]
    assert {f"#{term}" for term in terms} <= set(targets)
    assert all(target[1:] in method.ids for target in targets)
    names = [e.text for facts in method.select("dl", "facts") for e in method.select("dt", within=facts)]
    assert not [name for name in names if re.search(r"[a-z]_[a-z]", name)]


TYPED = ["filterscope", "analyze", "a.onnx"]
FORMS = [
    (TYPED, "Assumed; `preprocess` sets another.", "Assumed; `--preprocess` sets another."),
    (TYPED, "give `labels=imagenet`, `trust=True`", "give `--labels imagenet`, `--trust`"),
    (TYPED, "the layer `conv_1` of `filterscope analyze`", "the layer `conv_1` of `filterscope analyze`"),
    (TYPED, "`input_size` says it", "`--input-size` says it"),
    ([], "Assumed; `preprocess` sets another.", "Assumed; `preprocess` sets another."),
    (TYPED, None, ""),
]


@pytest.mark.parametrize(("command", "sentence", "expected"), FORMS)
def test_a_setting_is_named_in_the_form_in_which_the_run_was_made(command, sentence, expected):
    assert summary.in_form(RunInfo.read({"command": command}), sentence) == expected


def test_settings_that_pages_name_are_options():
    assert summary.SETTINGS <= SETTINGS


def prediction(kind, label):
    return Prediction.read({"kind": kind, "top": [{"index": 304, "label": label, "score": 19.0}]})


def test_what_the_number_beside_a_class_is_is_said():
    assert "probability" in summary.answer_sentence([prediction("probability", "cat"), None])
    assert "logit" in summary.answer_sentence([prediction("score", "cat")])
    assert summary.answer_sentence([None]) == ""
    assert summary.has_nameless_answers([prediction("score", "cat"), prediction("score", None)])
    assert not summary.has_nameless_answers([prediction("score", "cat"), None])


def test_the_overview_says_how_classes_get_names(tmp_path):
    page = " ".join(read(render(Run(synthetic_run(tmp_path / "run", layers=1, images=2)))).text.split())
    assert "The classes have no names here: give them with --labels, a file with a name a line" in page
    assert "score 0.600" in page
