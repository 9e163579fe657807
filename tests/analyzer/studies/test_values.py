"""The study of values between the layers."""

import json

import filterscope as fs
from filterscope.analyzer.network.preprocessing import PRESETS
from filterscope.analyzer.studies.values import ValueStudy
from support.networks import build, normal
from support.opened import opened


def test_without_images_there_are_no_maps_and_a_note_says_what_to_give(tmp_path):
    nodes = [("Conv", "x k", "a", {"name": "conv"}), ("Relu", "a", "y", {"name": "relu"})]
    network = opened(tmp_path, build(nodes, {"k": normal(2, 3, 3, 3)}, shape=("N", 3, 9, 8)), PRESETS["unit"])
    run = fs.analyze(network, out=tmp_path / "run", device="cpu", studies=[ValueStudy()])
    notes = json.loads((run.folder / "values" / "study.json").read_text())["notes"]
    assert notes == ["There are no maps: values are shown on the user's images (`images`)."]
    assert len(run.table("values/values.parquet")) == 0
