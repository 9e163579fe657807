"""The main job's dealings with images that cannot be used."""

import logging

import numpy as np
import onnx
import pytest
from PIL import Image

from filterscope.analyzer.analysis import EXECUTION, PREPARATION, Analysis
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.data.images import find
from filterscope.analyzer.execution.plan import Settings
from filterscope.converters.errors import InputError, SettingsError
from support.networks import build, normal


@pytest.fixture
def network(tmp_path):
    nodes = [("Conv", "x w", "y", {"pads": [1, 1, 1, 1]})]
    onnx.save(build(nodes, {"w": normal(2, 3, 3, 3)}, shape=(1, 3, 12, 12)), tmp_path / "m.onnx")
    return open_network(tmp_path / "m.onnx")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "photos"
    place.mkdir()
    for name in ("a.png", "c.png"):
        Image.fromarray(np.full((12, 12, 3), ord(name[0]), np.uint8)).save(place / name)
    (place / "b.png").write_bytes(b"no picture")
    return place


def analysis(network, sources, out, **settings):
    return Analysis(network, Settings(**settings), find([sources]), out)


def test_broken_images_of_a_folder_are_left_out_and_named(network, folder, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "filterscope"):
        run = analysis(network, folder, tmp_path / "run").run()

    assert [(image["name"], image["source"]) for image in run.images] == [
        (name, str(folder / name)) for name in ("a.png", "c.png")
    ]
    assert [int(run.image(i)[0, 0, 0]) for i in range(2)] == [ord("a"), ord("c")]
    assert run.info["skipped_images"]["count"] == 1
    assert "b.png" in run.info["skipped_images"]["errors"][0]
    assert "1 of 3 images could not be read" in caplog.text


@pytest.mark.parametrize(("folder", "label"), [("great_dane", 1), ("Cat", 0), ("1", None), ("holidays", None)])
def test_an_image_has_the_class_that_its_folder_names(tmp_path, folder, label):
    nodes = [("Conv", "x w", "y"), ("GlobalAveragePool", "y", "p"), ("Flatten", "p", "s")]
    onnx.save(build(nodes, {"w": normal(2, 3, 3, 3)}, shape=(1, 3, 12, 12)), tmp_path / "c.onnx")
    (tmp_path / "photos" / folder).mkdir(parents=True)
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(tmp_path / "photos" / folder / "a.png")
    one = analysis(open_network(tmp_path / "c.onnx"), tmp_path / "photos", tmp_path / "run", quality="draft")
    one.labels = ["cat", "Great Dane"]
    one.check_settings()
    one.read_images()
    assert [photo.label for photo in one.photos] == [label]


def test_a_broken_image_named_alone_is_refused(network, folder, tmp_path):
    with pytest.raises(InputError, match=r"b\.png"):
        analysis(network, folder / "b.png", tmp_path / "run").run()


def test_images_of_another_size_are_refused_where_none_is_to_be_resized(network, folder, tmp_path):
    Image.fromarray(np.zeros((13, 12, 3), np.uint8)).save(folder / "d.png")
    with pytest.raises(SettingsError, match=r"d\.png: has 13 × 12 pixels"):
        analysis(network, folder, tmp_path / "run", resize="none").run()


def test_each_stage_needs_what_earlier_ones_leave():
    stages, left = (*PREPARATION, *EXECUTION), set()
    for stage in stages:
        assert set(stage.needs) <= left, stage.name
        left |= set(stage.leaves)
    assert len({stage.name for stage in stages}) == len(stages)


def test_stages_leave_what_they_promise(network, folder, tmp_path):
    job = analysis(network, folder, tmp_path / "run")
    job.run()
    promised = {name for stage in (*PREPARATION, *EXECUTION) for name in stage.leaves} - {
        "model.onnx"
    }  # as it was given
    for name in promised:
        assert hasattr(job, name) or (tmp_path / "run" / name).exists(), name


def test_what_lowers_a_unit_has_no_upper_bound(network, folder, tmp_path):
    run = analysis(network, folder, tmp_path / "run", objectives=("channel", "negative")).run()
    bounds = {}
    for row in run.units.to_pylist():
        bounds.setdefault(row["objective"], set()).add(row["bound"] is None)
    assert (bounds["channel"], bounds["negative"]) == ({False}, {True})
