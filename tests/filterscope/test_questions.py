"""Options of analyze become studies, and what is wrong is said before anything is opened."""

import onnx
import pytest

from filterscope.analyzer.boundary.opening import open_network
from filterscope.converters.errors import SettingsError
from filterscope.questions import check, studies
from support.networks import build, normal


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("some", False, (), True, True), "--tuning some"),
        (("auto", True, (), False, False), "--truth"),
        (("auto", False, ("pool",), False, True), "--values"),
    ],
)
def test_what_makes_no_sense_is_said(given, said):
    with pytest.raises(SettingsError, match=said):
        check(*given)


def test_studies_in_order(tmp_path):
    nodes = [("Conv", "x w", "y"), ("Relu", "y", "z")]
    onnx.save(build(nodes, {"w": normal(2, 3, 3, 3)}), tmp_path / "m.onnx")
    network = open_network(tmp_path / "m.onnx")
    check("none", True, ("all",), True, False)
    check("none", True, (), False, True)
    assert studies(network, "none", False, ()) == []
    assert [study.name for study in studies(network, "auto", True, ("Relu",))] == ["values", "tuning", "truth"]
    with pytest.raises(SettingsError, match="`values=Gelu`"):
        studies(network, "auto", False, ("Gelu",))
