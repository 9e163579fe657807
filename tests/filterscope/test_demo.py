"""The demo: what is bundled is what its description says, and the commands on its pages work when they are pasted."""

import json
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from filterscope import demo
from filterscope.analyzer.data import images
from filterscope.analyzer.data.dataset import open_dataset
from filterscope.analyzer.run.reader import Run
from filterscope.reports.site import summary
from support.paths import ROOT

FACTS = json.loads(demo.data().with_suffix(".json").read_text(encoding="utf-8"))
ARCHIVES = ROOT.parent / "shared/data/cifar10"
MOST_BYTES = 2 << 20  # of the images


@pytest.fixture(scope="module")
def pixels():
    """(500, 32, 32, 3) uint8."""
    return np.stack([images.read(source).pixels for source in images.find([demo.data()])])


def layer_data(site, slug):
    """What the page of a layer hands to its script."""
    call = (site / f"assets/{slug}.js").read_text("utf-8")
    return json.loads(f"[{call[call.index('(') + 1 : call.rindex(')')]}]")[2]


def test_the_data_are_what_their_description_says(pixels):
    data = open_dataset([str(demo.data())])
    labels = [data.label(number, demo.labels()) for number in range(len(data))]
    assert [labels.count(name) for name in demo.labels()] == FACTS["of_each_class"] == [50] * 10
    assert len(data) == FACTS["images"] == len(pixels)
    assert pixels.shape[1:] == (FACTS["height"], FACTS["width"], 3)
    assert demo.data().stat().st_size == FACTS["bytes"] <= MOST_BYTES
    assert "Krizhevsky" in FACTS["source"]
    assert FACTS["licence"]


def test_the_images_shown_are_one_a_class_and_two_mistakes(pixels):
    sources = images.find(demo.images())
    shown = [images.read(source) for source in sources]
    network = demo.network()
    output = network.model.graph.outputs[0]
    answers = network.session([]).run(network.input.to_model(np.stack([photo.pixels for photo in shown])))[output]
    assert [photo.label for photo in shown] == [*range(10), 3, 5]
    assert answers.argmax(1).tolist() == [*range(10), 5, 3]
    assert demo.labels()[3] == "cat"
    assert demo.labels()[5] == "dog"


@pytest.mark.skipif(not ARCHIVES.is_dir(), reason="the CIFAR-10 test images of ../shared/data are not here")
def test_the_data_are_made_again_with_the_same_bytes(tmp_path):
    script = ROOT / "examples" / "pack_demo_images.py"
    out = tmp_path / demo.data().name
    subprocess.run([sys.executable, script, "--data", ARCHIVES, "--out", out], check=True, capture_output=True)
    assert out.read_bytes() == demo.data().read_bytes()
    assert out.with_suffix(".json").read_text(encoding="utf-8") == demo.data().with_suffix(".json").read_text(
        encoding="utf-8"
    )


def pasted(line, place):
    """A line of a page, run by a shell in which `filterscope` is this one; a connection is refused."""
    program = f"{shlex.quote(sys.executable)} -m filterscope"
    shell = re.sub(r"^filterscope ", lambda _: f"{program} ", line)
    offline = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https", "all")}
    return subprocess.run(
        shell,
        shell=True,
        cwd=place,
        env=os.environ | offline | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CI": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_demo_holds_what_its_data_allow_and_its_commands_work_when_pasted(tmp_path):
    said = pasted("filterscope demo --quality draft --layers conv4 --channels 16,17 --open", tmp_path)
    assert said.returncode == 0, said.stderr
    assert said.stdout == "demo-filterscope/site/index.html\n"
    *_, own, note = said.stderr.splitlines()
    assert own.startswith("your own network: filterscope analyze ")
    assert note == "note: the report is not opened: this is a CI job"

    run = Run(tmp_path / "demo-filterscope")
    for study in ("weights", "examples", "attribution", "classes", "groups", "values", "tuning", "truth"):
        assert run.study(study) is not None, study
    labels = {row["label"] for row in run.table("examples/pictures.parquet").to_pylist()}
    assert "--open" not in run.info.command
    assert labels <= set(demo.labels())
    assert len(labels) > 1

    (slug,) = (layer.slug for layer in run.layers if layer.name == "conv4")
    together = layer_data(tmp_path / "demo-filterscope/site", slug)["together"]
    (beside,) = (choice for choice, channels in together.items() if 17 in channels)
    line = f"{summary.unit_command(run.info, run.layer_called('conv4'))}{beside}"
    assert line == f"filterscope demo --quality draft --layers conv4 --out again --channels {beside}"
    made_again = pasted(line, tmp_path)
    assert made_again.returncode == 0, made_again.stderr
    repeated = Run(tmp_path / "again")
    rows = [row for row in repeated.units.to_pylist() if row["channel"] == 17]
    assert rows
    for row in rows:
        (before,) = (
            other
            for other in run.units.to_pylist()
            if all(other[key] == row[key] for key in ("layer", "channel", "objective", "method"))
        )
        assert row["activation"] == before["activation"]
        assert row["method"] == "analytic" or np.array_equal(repeated.tile(row), run.tile(before))
    for table in ("examples/units", "examples/unit_classes", "truth/units", "tuning/units"):
        one, other = (
            [row for row in of.table(f"{table}.parquet").to_pylist() if (row["layer"], row["channel"]) == ("conv4", 17)]
            for of in (repeated, run)
        )
        assert one == other, table

    again = pasted(summary.command(run.info), tmp_path)  # a folder that is there already: the run is gone on with
    assert again.returncode == 0, again.stderr
    assert Run(tmp_path / "demo-filterscope").info.tasks.found_done > 0
    other = pasted("filterscope demo --quality draft --layers conv3 --channels 0 -o again", tmp_path)
    assert other.returncode == 2
    assert "again: holds a run with other settings" in other.stderr
