"""A first picture of everything comes before the ones asked for, and is replaced by them, whatever is interrupted."""

import json
import time

import numpy as np
import onnx
import pytest
from PIL import Image

from filterscope.analyzer.analysis import Analysis
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.data.images import find
from filterscope.analyzer.execution.plan import Settings
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.studies.tuning.tuning import TuningStudy
from filterscope.converters.errors import RunError
from support.networks import build, normal

STEPS = {"draft": 32, "standard": 128}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    nodes = [("Conv", "x w", "a"), ("Relu", "a", "r"), ("Conv", "r v", "y")]
    onnx.save(build(nodes, {"w": normal(3, 3, 5, 5), "v": normal(2, 3, 3, 3)}, shape=(1, 3, 24, 24)), path)
    return open_network(path)


def pictures(run):
    return {
        (row["layer"], row["channel"], row["objective"], row["method"]): (row["steps"], run.tile(row))
        for row in run.units.to_pylist()
        if row["method"] == "ascent" and row["objective"] == "channel"
    }


def analysed(network, out, on_pictures=lambda _: None, **settings):
    return Analysis(network, Settings(**settings), [], out, on_pictures=on_pictures).run()


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[key][1], other[key][1]) for key in one)


def test_first_pictures_are_those_of_draft_and_stand_until_the_others_are_made(network, tmp_path):
    first = []
    run = analysed(
        network, tmp_path / "run", lambda run: first.append((run.info.status, pictures(run))), quality="standard"
    )
    ((status, early),) = first
    assert status == "running"
    assert same(early, pictures(analysed(network, tmp_path / "draft", quality="draft")))
    assert early.keys() == pictures(run).keys()
    assert all(steps <= STEPS["draft"] for steps, _ in early.values())
    assert any(steps > STEPS["draft"] for steps, _ in pictures(run).values())
    assert not (tmp_path / "run" / "first").exists()


@pytest.mark.parametrize("settings", [{"quality": "draft"}, {"preset": "paper", "quality": "standard"}])
def test_what_is_quick_or_published_has_no_first_pictures(network, tmp_path, settings):
    first = []
    analysed(network, tmp_path / "run", first.append, **({"quality": "standard"} | settings))
    assert not first


def test_an_interrupted_run_holds_its_first_pictures_and_ends_the_same(network, tmp_path, monkeypatch):
    whole = analysed(network, tmp_path / "whole", quality="standard")

    def interrupt(run):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analysed(network, tmp_path / "run", interrupt, quality="standard")
    partial = Run(tmp_path / "run")
    assert partial.info.status == "partial"
    marks = {row["objective"]: row["is_first"] for row in partial.units.to_pylist() if row["method"] == "ascent"}
    assert marks == {"channel": True}
    assert pictures(partial).keys() == pictures(whole).keys()
    again = []
    assert same(pictures(analysed(network, tmp_path / "run", again.append, quality="standard")), pictures(whole))
    assert len(again) == 1  # the pages are made again, the pictures are not
    assert not any(row["is_first"] for row in Run(tmp_path / "run").units.to_pylist())


def test_a_unit_whose_picture_is_done_has_that_one(network, tmp_path):
    from filterscope.analyzer.run.files import gather_units

    out = tmp_path / "run"
    run = analysed(network, out, quality="standard")
    final = pictures(run)
    analysed(network, tmp_path / "draft", quality="draft")
    (tmp_path / "draft" / "tasks").rename(out / "first")
    assert gather_units(out).equals(run.units.table)
    layer = run.layers[0].slug
    for path in (out / "tasks" / layer).glob("channel-ascent-*.parquet"):
        path.unlink()
    mixed = {(row["layer"], row["channel"], row["method"]): row["steps"] for row in gather_units(out).to_pylist()}
    assert all(mixed[name, channel, "ascent"] <= 32 for name, channel, *_ in final if name == run.layers[0].name)
    assert len(mixed) == len({(name, channel, method) for name, channel, _, method in final}) + 5  # closed forms


def test_a_run_of_another_recipe_is_not_gone_on_with(network, tmp_path, monkeypatch):
    from dataclasses import replace

    from filterscope.analyzer.maximize import presets

    analysed(network, tmp_path / "run", quality="draft")
    changed = replace(presets.PRESETS["filterscope"], exponent=1.0)
    monkeypatch.setitem(presets.PRESETS, "filterscope", changed)
    with pytest.raises(RunError, match="its pictures were made in another way, by another version of filterscope"):
        analysed(network, tmp_path / "run", quality="draft")


def test_a_time_budget_ends_the_work_and_the_same_settings_go_on(network, tmp_path, monkeypatch):
    whole = analysed(network, tmp_path / "whole", quality="standard")
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def pass_time(run):
        now[0] += 1000.0

    run = analysed(network, tmp_path / "run", pass_time, quality="standard", time_budget=100.0)
    assert run.info.status == "partial"
    assert run.info.tasks.done < run.info.tasks.planned
    assert (tmp_path / "run" / "weights" / "study.json").is_file(), "studies are performed all the same"
    early = pictures(run)
    assert early.keys() == pictures(whole).keys()
    assert all(steps <= STEPS["draft"] for steps, _ in early.values())
    again = analysed(network, tmp_path / "run", quality="standard")
    assert again.info.status == "complete"
    assert same(pictures(again), pictures(whole))


def test_what_was_measured_of_first_pictures_is_measured_again_of_those_that_replace_them(network, tmp_path):
    def identities(**settings):
        studies = [TuningStudy()]
        run = Analysis(network, Settings(quality="standard", **settings), [], tmp_path / "run", studies=studies).run()
        places = {name: tmp_path / "run" / name / "study.json" for name in ("weights", "tuning")}
        return run.info.status, {name: json.loads(place.read_text())["identity"] for name, place in places.items()}

    partial, early = identities(time_budget=1e-9)
    complete, late = identities()
    assert (partial, complete) == ("partial", "complete")
    assert early["weights"] == late["weights"]
    assert early["tuning"] != late["tuning"]


def test_runs_whose_time_is_shorter_than_the_first_picture_come_to_an_end_too(network, tmp_path, monkeypatch):
    from filterscope.analyzer.execution import executors

    whole = analysed(network, tmp_path / "whole", quality="standard")
    monkeypatch.setattr(executors, "_seconds_to", lambda until: None if until is None else 0.0)
    shown, counts = [], []
    for _ in range(30):
        run = analysed(network, tmp_path / "run", shown.append, quality="standard", time_budget=1e-3)
        counts.append((len(run.units), run.info.tasks.done))
        if run.info.status == "complete":
            break
    assert counts[0][0] < len(whole.units), "the first session did not make everything"
    assert len(set(counts)) == len(counts), "each session goes on"
    assert run.info.status == "complete"
    assert same(pictures(run), pictures(whole))
    assert not (tmp_path / "run" / "first").exists()


def test_a_run_is_shown_again_as_pictures_are_replaced(network, tmp_path, monkeypatch):
    from filterscope.analyzer import analysis

    monkeypatch.setattr(analysis, "REFRESH", 0.0)
    monkeypatch.setattr(analysis, "LOOK_SHARE", 0)
    shown = []
    done = []

    def look(run):
        shown.append(pictures(run))
        done.append(run.info.tasks.done)

    run = analysed(network, tmp_path / "run", look, quality="standard")
    assert done == list(range(run.info.tasks.planned))
    assert len(shown) == run.info.tasks.planned  # the first pictures, then after each task but the last
    replaced = [sum(steps > STEPS["draft"] for steps, _ in look.values()) for look in shown]
    assert replaced[0] == 0
    assert replaced == sorted(replaced)
    assert replaced[-1] > 0


def test_images_that_are_added_are_not_called_another_version(network, tmp_path):
    analysed(network, tmp_path / "run", quality="standard")
    photo = tmp_path / "photo.png"
    Image.new("RGB", (24, 24), (200, 90, 10)).save(photo)
    with pytest.raises(RunError, match=r"other images or another model; choose"):
        Analysis(network, Settings(quality="standard"), find([photo]), tmp_path / "run").run()


def test_a_damaged_first_picture_of_a_finished_layer_is_mended(network, tmp_path):
    out = tmp_path / "run"
    whole = pictures(analysed(network, out, quality="standard"))
    analysed(network, tmp_path / "draft", quality="draft")
    (tmp_path / "draft" / "tasks").rename(out / "first")
    for damaged in (out / "first" / Run(out).layers[0].slug).glob("channel-ascent-*.parquet"):
        damaged.write_bytes(b"PAR1")
    for lost in (out / "tasks" / Run(out).layers[1].slug).glob("channel-ascent-*.parquet"):
        lost.unlink()
    assert same(pictures(analysed(network, out, quality="standard")), whole)


def test_a_finished_run_that_is_started_again_and_stopped_is_as_far_as_it_was(network, tmp_path, monkeypatch):
    run = analysed(network, tmp_path / "run", quality="standard")

    def interrupt(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(Analysis, "measure_activations", interrupt)
    with pytest.raises(KeyboardInterrupt):
        analysed(network, tmp_path / "run", quality="standard")
    tasks = Run(tmp_path / "run").info.tasks
    assert tasks.done == tasks.planned == run.info.tasks.planned


def test_a_time_budget_beyond_the_clock_is_none(network, tmp_path):
    assert analysed(network, tmp_path / "run", quality="draft", time_budget=1e300).info.status == "complete"


def test_studies_of_first_pictures_are_done_again_when_there_are_more_of_them(network, tmp_path, monkeypatch):
    from filterscope.analyzer.execution import executors

    monkeypatch.setattr(executors, "_seconds_to", lambda until: None if until is None else 0.0)
    settings = Settings(quality="standard", objectives=("channel", "neuron", "negative"), time_budget=1e-3)
    identities, counts = set(), []
    for _ in range(2):
        run = Analysis(network, settings, [], tmp_path / "run", studies=[TuningStudy()]).run()
        identities.add(json.loads((tmp_path / "run" / "tuning" / "study.json").read_text())["identity"])
        counts.append((run.info.tasks.done, len(run.units)))
    assert counts[0] == (0, counts[0][1]), "the first session ends within the first round"
    assert len(identities) == 2
