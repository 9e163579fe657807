"""Whatever is given in the wrong type is refused in one line that names the setting; numpy's numbers are numbers."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

import filterscope as fs
from filterscope.analyzer.execution.plan import Settings
from filterscope.converters.errors import FilterscopeError, SettingsError
from filterscope.requests.analyze import settings_with
from filterscope.requests.maximize import MaximizeRequest
from filterscope.requests.runs import FigureRequest, ReportRequest
from support.classifier import classifier


@pytest.fixture(scope="module")
def model():
    return fs.open(classifier())


PREPROCESSINGS = [
    ({"high": 0.0}, "high"),
    ({"high": float("nan")}, "high"),
    ({"high": "255"}, "high"),
    ({"mean": 0.5}, "mean"),
    ({"mean": ()}, "mean"),
    ({"mean": ("a",)}, "mean"),
    ({"std": (0.0,)}, "std"),
    ({"std": (1.0, float("inf"), 1.0)}, "std"),
    ({"order": "XYZ"}, "order"),
]


@pytest.mark.parametrize(("change", "field"), PREPROCESSINGS, ids=lambda value: str(value))
def test_a_preprocessing_checks_itself(change, field):
    fields = {"name": "own", "high": 1.0, "mean": (0.0,), "std": (1.0,), "order": "RGB"} | change
    with pytest.raises(SettingsError, match=f"^`{field}") as caught:
        fs.Preprocessing(**fields)
    assert caught.value.field == field


OPENINGS = [
    ({"input_size": 32}, "input_size"),
    ({"input_size": "32x32"}, "input_size"),
    ({"input_size": (32, 32, 3)}, "input_size"),
    ({"input_size": (-1, 32)}, "input_size"),
    ({"input_size": (None, None)}, "input_size"),
    ({"input_channels": 2.5}, "input_channels"),
    ({"preprocess": 3}, "preprocess"),
    ({"preprocess": (0.5, 0.5)}, "preprocess"),
    ({"weights": 3}, "weights"),
    ({"feed": [1]}, "feed"),
    ({"feed": {1: 2}}, "feed"),
    ({"limit_memory": "8G"}, "limit_memory"),
    ({"limit_memory": float("nan")}, "limit_memory"),
    ({"limit_seconds": "60"}, "limit_seconds"),
    ({"trust": "no"}, "trust"),
    ({"layout": 1}, "layout"),
]


@pytest.mark.parametrize(("change", "field"), OPENINGS, ids=lambda value: str(value))
def test_opening_names_the_setting_and_not_the_model(change, field):
    with pytest.raises(SettingsError, match=f"^`{field}") as caught:
        fs.open("model.onnx", **change)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


ANALYSES = [
    ({"images": None}, "images"),
    ({"images": [np.zeros((9, 9, 3))]}, "images"),
    ({"images": 3}, "images"),
    ({"out": None}, "out"),
    ({"studies": None}, "studies"),
    ({"studies": [fs.Truth]}, "studies"),
    ({"studies": ["truth"]}, "studies"),
    ({"seed": "1"}, "seed"),
    ({"seed": 1.5}, "seed"),
    ({"seed": True}, "seed"),
    ({"seed": -1}, "seed"),
    ({"maps": 2.5}, "maps"),
    ({"settings": "draft"}, "settings"),
    ({"settings": {}}, "settings"),
    ({"quality": ["draft"]}, "quality"),
    ({"objective": []}, "objective"),
    ({"layers": 0}, "layers"),
    ({"layers": [1]}, "layers"),
    ({"channels": [1.5]}, "channels"),
    ({"time_budget": float("nan")}, "time_budget"),
    ({"device": None}, "device"),
]


@pytest.mark.parametrize(("change", "field"), ANALYSES, ids=lambda value: str(value)[:40])
def test_an_analysis_is_refused_before_it_begins(tmp_path, model, change, field):
    out = tmp_path / "run"
    with pytest.raises(SettingsError, match=f"^`{field}") as caught:
        fs.analyze(model, **({"out": out} | change))
    assert caught.value.field == field
    assert len(str(caught.value)) < 200
    assert not out.exists()


UNITS = [
    ({"channels": "0,1"}, "channels"),
    ({"channels": None}, "channels"),
    ({"channels": 1.7}, "channels"),
    ({"layer": 0}, "layer"),
    ({"objective": None}, "objective"),
    ({"recipe": "distill"}, "recipe"),
    ({"canvas": 32}, "canvas"),
    ({"canvas": (3.5, 4)}, "canvas"),
    ({"canvas": (-3, 3)}, "canvas"),
    ({"canvas": (10**6, 10**6)}, "canvas"),
    ({"seconds": None}, "seconds"),
    ({"seed": 1.5}, "seed"),
]


@pytest.mark.parametrize(("change", "field"), UNITS, ids=lambda value: str(value))
def test_a_unit_is_refused(model, change, field):
    with pytest.raises(SettingsError, match=f"^`{field}") as caught:
        fs.maximize(model, **({"layer": model.layers[0].name, "channels": 0} | change))
    assert caught.value.field == field


PICTURES = [
    ({"image": None}, "image"),
    ({"image": []}, "image"),
    ({"method": []}, "method"),
    ({"method": [3]}, "method"),
    ({"seed": -1}, "seed"),
    ({"sanity": "yes"}, "sanity"),
]


@pytest.mark.parametrize(("change", "field"), PICTURES, ids=lambda value: str(value))
def test_an_attribution_is_refused(model, change, field):
    with pytest.raises(SettingsError, match=f"^`{field}") as caught:
        fs.attribute(model, **({"image": np.zeros((8, 8, 3), np.uint8)} | change))
    assert caught.value.field == field


STUDIES = [
    (fs.Classes, {"classes": None}, "classes"),
    (fs.Classes, {"classes": 1.5}, "classes"),
    (fs.Classes, {"classes": [True]}, "classes"),
    (fs.Inversion, {"layers": 3}, "layers"),
    (fs.Inversion, {"images": 0}, "images"),
    (fs.Inversion, {"evaluations": 2.5}, "evaluations"),
    (fs.Inversion, {"caricatures": "no"}, "caricatures"),
    (fs.Inversion, {"power": "2"}, "power"),
    (fs.Groups, {"layers": [None]}, "layers"),
    (fs.Groups, {"groups": 0}, "groups"),
    (fs.Groups, {"images": "all"}, "images"),
    (fs.Groups, {"grid": -1}, "grid"),
    (fs.Attribution, {"methods": 3}, "methods"),
    (fs.Attribution, {"methods": "grad-kam"}, "methods"),
    (fs.Attribution, {"targets": [3]}, "targets"),
    (fs.Attribution, {"most": 0}, "most"),
    (fs.Attribution, {"sanity": 1}, "sanity"),
    (fs.Values, {"patterns": None}, "values"),
    (fs.Tuning, {"everything": "all"}, "everything"),
    (fs.Examples, {"sources": None}, "sources"),
    (fs.Examples, {"sources": "set.npz", "top": 1001}, "top"),
]


@pytest.mark.parametrize(("study", "fields", "field"), STUDIES, ids=lambda value: str(value)[-40:])
def test_a_study_checks_itself(study, fields, field):
    with pytest.raises(SettingsError, match=f"^`{field}") as caught:
        study(**fields)
    assert caught.value.field == field


def test_one_name_is_as_good_as_several():
    assert fs.Inversion("conv1").layers == fs.Groups(["conv1"]).layers == ("conv1",)
    assert fs.Values("pool").patterns == ("pool",)
    assert (fs.Classes(3).classes, fs.Classes([3, "cat"]).classes) == ("3", ("3", "cat"))
    assert fs.Attribution("saliency").methods == ("saliency",)


PICTURES_OF_A_RUN = [
    ({"captions": 3}, "captions"),
    ({"objective": None}, "objective"),
    ({"width": None}, "width"),
    ({"dpi": "300"}, "dpi"),
    ({"columns": 1.5}, "columns"),
]


@pytest.mark.parametrize(("change", "field"), PICTURES_OF_A_RUN, ids=lambda value: str(value))
def test_a_figure_is_refused(change, field):
    with pytest.raises(SettingsError, match=f"^`{field}"):
        FigureRequest(layer="conv1", **change)


REPORTS = [({"single_file": "x"}, "single_file"), ({"single_file": True, "out": Path("x.pdf")}, "out")]


@pytest.mark.parametrize(("change", "field"), REPORTS, ids=lambda value: str(value))
def test_a_report_is_refused(change, field):
    with pytest.raises(SettingsError, match=f"^`{field}"):
        ReportRequest(**change)


def test_a_place_is_a_path(model):
    for call in (lambda: fs.report("run", out=3), lambda: fs.convert(model, 3)):
        with pytest.raises(SettingsError, match=r"^`out=3`: give a path"):
            call()


def test_what_is_inverted_and_taken_apart_is_an_array(model):
    with pytest.raises(SettingsError, match=r"^`picture"):
        fs.invert(model, model.layers[0].name, "photo.png")
    with pytest.raises(SettingsError, match=r"^`maps"):
        fs.factorise(np.zeros((3, 3)))


def test_names_of_classes_go_with_a_class():
    with pytest.raises(SettingsError, match=r"^`labels`: names classes, and goes with `class`"):
        MaximizeRequest(layer="conv1", labels=["a", "b"], recipe=fs.Recipe.named())


def test_a_forked_process_is_told_to_open_the_network_itself(model):
    def maximize(pipe):
        try:
            fs.maximize(model, model.layers[0].name, 0, quality="draft")
        except FilterscopeError as error:
            pipe.send(str(error))

    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=maximize, args=(there,))
    process.start()
    try:
        assert here.poll(60)
        assert "was opened in another process; open it in the one that uses it" in here.recv()
    finally:
        process.kill()
        process.join()


def test_a_recipe_is_not_made_of_names():
    with pytest.raises(SettingsError, match=r"^`preset=distill`"):
        fs.Recipe("distill", "draft")
    recipe = fs.Recipe.named("distill", "draft", steps=64)
    assert (recipe.preset.name, recipe.quality.name, recipe.steps) == ("distill", "64 steps", 64)


def test_names_of_another_number_of_classes_are_refused(model):
    with pytest.raises(FilterscopeError, match=r"^`labels`: 1 names for a network of"):
        fs.attribute(model, np.zeros((8, 8, 3), np.uint8), target=0, labels=["a"])


def test_numbers_of_numpy_are_numbers():
    settings = settings_with(None, seed=np.int64(3), maps=np.int32(4), channels=np.int64(5), time_budget=np.float32(2))
    assert settings == Settings(seed=3, map_pictures=4, channels="5", time_budget=2.0)
    assert {type(settings.seed), type(settings.map_pictures)} == {int}
    request = MaximizeRequest(layer="a", channels=np.arange(3), recipe=fs.Recipe.named(), canvas=np.array([32, 33]))
    assert (request.channels, request.canvas) == ((0, 1, 2), (32, 33))
    assert MaximizeRequest(layer="a", channels=np.int64(4), recipe=fs.Recipe.named()).channels == (4,)


def test_several_things_may_be_given_in_any_collection(model):
    pictures = [np.full((16, 16, 3), level, np.uint8) for level in (0, 255)]
    for targets in ([0, 1], (0, 1), np.arange(2), iter([0, 1])):
        answer = fs.attribute(model, (one for one in pictures), target=targets, method="saliency")
        assert len(answer.pictures) == 4
    assert len(fs.attribute(model, pictures[0], target=np.int64(1), method="saliency").pictures) == 1
    assert fs.maximize(model, model.layers[0].name, iter([2, 0]), quality="draft").units == (2, 0)


def test_a_wrong_objective_or_label_is_called_by_its_name(model):
    for name in ("objective", "labels"):
        with pytest.raises(SettingsError, match=f"^`{name}") as caught:
            fs.analyze(model, **{name: 3})
        assert caught.value.field == name


def test_results_and_errors_can_be_pickled(model):
    portrait = fs.maximize(model, model.layers[0].name, 0, quality="draft")
    copy = pickle.loads(pickle.dumps(portrait))
    assert repr(copy) == repr(portrait)
    assert (copy.tiles == portrait.tiles).all()
    error = pickle.loads(pickle.dumps(SettingsError("`seed`: no", field="seed", value=3)))
    assert (str(error), error.field, error.value) == ("`seed`: no", "seed", 3)


def test_a_folder_without_a_name_is_no_place_for_a_report(tmp_path):
    from filterscope.reports.page.folder import NewFolder

    with pytest.raises(FilterscopeError, match="no place for a folder of its own"):
        NewFolder(tmp_path.__class__("/"), "index.html")


def test_preprocessing_has_defaults():
    assert fs.Preprocessing(mean=(0.5,), std=(0.25,)) == fs.Preprocessing("custom", 1.0, (0.5,), (0.25,), "RGB")


def test_an_answer_says_which_methods_it_has(model):
    answer = fs.attribute(model, np.zeros((16, 16, 3), np.uint8), method=["saliency", "guided"])
    with pytest.raises(SettingsError, match=r"^`method=gradcam`: this answer has saliency, guided$"):
        answer["gradcam"]


def test_a_network_says_what_it_is_and_what_is_assumed(caplog):
    network = fs.open(classifier())
    assert repr(network).startswith("<filterscope.Network ")
    assert repr(network).endswith(f"{network.input.preprocessing.name} (assumed)>")
    assert caplog.messages == list(network.input.assumptions)
    fs.open(classifier(), preprocess="unit")
    assert len(caplog.messages) == len(network.input.assumptions)
