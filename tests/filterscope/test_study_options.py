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
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        StudyOptions(**options)


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
