"""Options of analyze become studies, and what is wrong is said before anything is opened."""

import onnx
import pytest

from filterscope.analyzer.boundary.opening import open_network
from filterscope.commands.analyze import StudyOptions
from filterscope.converters.errors import SettingsError
from support.networks import build, normal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tuning": "some", "has_images": True, "examples": ["data"]}, "--tuning some"),
        ({"truth": True}, "--truth"),
        ({"values": ("pool",), "examples": ["data"]}, "--values"),
        ({"sanity": True, "has_images": True}, "--sanity"),
        ({"sanity": True, "attribution": "none"}, "--sanity"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        StudyOptions(**options)


@pytest.mark.parametrize(
    ("options", "methods"),
    [
        ({"has_images": True}, [("grad-cam",)]),
        ({}, []),  # of no images
        ({"has_images": True, "attribution": "none"}, []),
        ({"has_images": True, "attribution": "saliency"}, [("saliency",)]),
    ],
)
def test_a_classifiers_answers_on_images_are_explained_unless_that_is_declined(tmp_path, options, methods):
    nodes = [("Conv", "x w", "y"), ("GlobalAveragePool", "y", "p"), ("Flatten", "p", "s")]
    onnx.save(build(nodes, {"w": normal(4, 3, 3, 3)}), tmp_path / "m.onnx")
    chosen = StudyOptions(tuning="none", **options)
    studies = [*chosen.of_data(), *chosen.of_network(open_network(tmp_path / "m.onnx"), ())]
    assert [study.methods for study in studies] == methods


def test_studies_in_order(tmp_path):
    nodes = [("Conv", "x w", "y"), ("Relu", "y", "z")]
    onnx.save(build(nodes, {"w": normal(2, 3, 3, 3)}), tmp_path / "m.onnx")
    network = open_network(tmp_path / "m.onnx")
    StudyOptions(tuning="none", truth=True, examples=["data"])
    assert StudyOptions(tuning="none").of_network(network, ()) == []
    options = StudyOptions(truth=True, values=("Relu",), has_images=True)
    assert [study.name for study in options.of_network(network, ())] == ["values", "tuning", "truth"]
    with pytest.raises(SettingsError, match=r"values.Gelu"):
        StudyOptions(tuning="none", values=("Gelu",), has_images=True).of_network(network, ())
