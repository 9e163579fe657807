"""Whole runs of networks whose pictures depend on each other, or whose kernels depend on the picture.

The oracle is ONNX Runtime on the file itself, one picture at a time.
"""

import json

import numpy as np
import onnx
import pyarrow.compute as pc
import pytest
import torch
from batch_networks import batch_statistics, mixed_kernels, modulated, whole_maximum
from onnxruntime import InferenceSession
from PIL import Image
from typer.testing import CliRunner

import filterscope as fs
from analyzer.attribution.explain import Explainer
from analyzer.canvas import canvas_for
from analyzer.inputs import preset
from analyzer.maximize.objectives import objective_for
from analyzer.maximize.slope import Slope
from analyzer.measure import RANDOM_IMAGES, Meter, jitters, shifted
from analyzer.network import InputOptions, open_network
from analyzer.run import Run
from filterscope.cli import app

NETWORKS = {
    "whole maximum": whole_maximum,
    "batch statistics": batch_statistics,
    "modulated": modulated,
    "mixed kernels": mixed_kernels,
}
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


class Alone:
    """A network's file, run on one picture after the other; on a smaller canvas, as far as the value asked for."""

    def __init__(self, path):
        self.model = onnx.load(path)
        self._sessions = {}

    def maps(self, pixels, name):
        """(N, …) of pictures (N, H, W, 3) uint8, fed as 0 to 1."""
        return self.of((np.moveaxis(pixels, -1, 1) / np.float32(255)).astype(np.float32), name)

    def of(self, x, name):
        session = self._session(name, x.shape[2:])
        return np.concatenate([session.run([name], {"x": one[None]})[0] for one in x])

    def _session(self, name, size):
        if (name, size) not in self._sessions:
            part = onnx.ModelProto()
            part.CopyFrom(self.model)
            for dimension, extent in zip(part.graph.input[0].type.tensor_type.shape.dim[2:], size, strict=True):
                dimension.dim_value = extent
            needed, nodes = {name}, []
            for node in reversed(self.model.graph.node):
                if needed.intersection(node.output):
                    needed.update(node.input)
                    nodes.insert(0, node)
            del part.graph.node[:], part.graph.output[:], part.graph.value_info[:]
            part.graph.node.extend(nodes)
            part.graph.output.append(onnx.ValueInfoProto(name=name))
            self._sessions[name, size] = InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
        return self._sessions[name, size]


@pytest.fixture(scope="module", params=list(NETWORKS))
def run(request, tmp_path_factory):
    """A run with everything that can be asked, and where its inputs lie."""
    folder = tmp_path_factory.mktemp("alone")
    onnx.save(NETWORKS[request.param](), folder / "net.onnx")
    rng = np.random.default_rng(3)
    (folder / "photos").mkdir()
    for index in range(3):
        pixels = (rng.integers(0, 256, (24, 24, 3)) * (0.3 + 0.3 * index)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{index}.png")
    data = rng.integers(0, 256, (20, 24, 24, 3)) * np.linspace(0.1, 1, 20)[:, None, None, None]
    np.savez(folder / "set.npz", x=data.astype(np.uint8))
    options = ["--preprocess", "unit", "--images", str(folder / "photos"), "--examples", str(folder / "set.npz")]
    studies = ["--attribution", "all", "--classes", "auto", "--inversion", "auto", "--groups", "auto"]
    studies += ["--tuning", "all", "--truth", "--values", "all", "--objective", "channel", "--objective", "neuron"]
    command = ["analyze", str(folder / "net.onnx"), "--out", str(folder / "run"), "--quiet", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        result = CliRunner().invoke(app, [*command, *options, *studies])
    assert result.exit_code == 0, result.output
    assert "one picture at a time" in result.stderr
    return folder, Run(folder / "run"), Alone(folder / "net.onnx"), data.astype(np.uint8)


def network_of(folder):
    return open_network(folder / "net.onnx", InputOptions(preprocessing=preset("unit")))


def test_every_number_beside_a_picture_is_that_of_the_picture_alone(run):
    folder, done, oracle, _ = run
    network = network_of(folder)
    values = {layer.name: layer.value for layer in network.layers}
    count = 0
    for row in done.units.to_pylist():
        if row["space"] != "image":
            continue
        tile = done.tile(row)
        x = np.moveaxis(tile, -1, 0)[None].astype(np.float32) / np.float32(255)
        noise = network.random_pixels(RANDOM_IMAGES, tile.shape[:2], 1)

        def objective(maps, row=row):
            own = maps[:, row["channel"]].astype(np.float64)
            return own.mean((1, 2)) if row["row"] is None else own[:, row["row"], row["column"]]

        name = values[row["layer"]]
        moved = np.concatenate([shifted(x, int(d), int(r), (2, 3)) for d, r in jitters(tile.shape[:2])])
        np.testing.assert_allclose(row["activation"], objective(oracle.of(x, name))[0], **CLOSE)
        if count % 7 == 0:  # of some: sixteen runs each
            np.testing.assert_allclose(row["random"], objective(oracle.maps(noise, name)).max(), **CLOSE)
            if jitters(tile.shape[:2]).any():
                np.testing.assert_allclose(row["robust"], objective(oracle.of(moved, name)).mean(), **CLOSE)
            else:
                assert row["robust"] is None
        assert row["bound"] is None or row["activation"] <= row["bound"] + 1e-4 * abs(row["bound"])
        count += 1
    assert count >= 28  # 14 channels, two objectives


def test_maps_are_those_of_each_photo_alone(run):
    _, done, oracle, _ = run
    pixels = np.stack([done.image(index) for index in range(3)])
    for layer in done.layers:
        maps = oracle.maps(pixels, layer["value"])
        flat = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
        table = done.maps(layer["slug"]).sort_by([("image", "ascending"), ("channel", "ascending")])
        for column, expected in (("minimum", flat.min(2)), ("mean", flat.mean(2)), ("maximum", flat.max(2))):
            np.testing.assert_allclose(table[column].to_numpy().reshape(expected.shape), expected, **CLOSE)


def test_examples_are_those_of_each_image_alone(run):
    _, done, oracle, data = run
    statistics = done.table("examples/units.parquet")
    pictures = done.table("examples/pictures.parquet").to_pylist()
    for layer in done.layers:
        maps = oracle.maps(data, layer["value"])
        flat = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
        own = statistics.filter(pc.equal(statistics["layer"], layer["name"])).sort_by("channel")
        np.testing.assert_allclose(own["minimum"], flat.min((0, 2)), **CLOSE)
        np.testing.assert_allclose(own["maximum"], flat.max((0, 2)), **CLOSE)
        np.testing.assert_allclose(own["mean"], flat.mean((0, 2)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(own["active"], (flat > 0).mean((0, 2)), atol=2e-4)
        for row in done.examples(layer["slug"]).to_pylist():
            image = pictures[row["example"]]["image"]
            found = maps[image, row["channel"], row["row"], row["column"]]
            np.testing.assert_allclose(row["activation"], found, **CLOSE)
            if row["rank"] == 0:
                np.testing.assert_allclose(row["activation"], flat[:, row["channel"]].max(), **CLOSE)


def test_studies_give_the_numbers_of_pictures_alone(run):
    folder, done, oracle, data = run
    values = {layer["name"]: layer["value"] for layer in done.layers}
    for row in done.table("classes/classes.parquet").to_pylist():
        tile = done.tile(row)
        np.testing.assert_allclose(row["score"], oracle.maps(tile[None], "y")[0, row["klass"]], **CLOSE)
    for row in done.table("inversion/inversions.parquet").to_pylist():
        if row["kind"] != "inversion":
            continue
        photo = done.image(row["image"])
        found, wanted = (
            oracle.maps(one[None], values[row["layer"]]).astype(np.float64) for one in (done.tile(row), photo)
        )
        expected = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        np.testing.assert_allclose(row["distance"], expected, rtol=1e-4)
    groups = done.table("groups/groups.parquet").to_pylist()
    assert groups
    for row in groups:
        maps = oracle.maps(done.tile(row)[None], values[row["layer"]])[0].astype(np.float64)
        if len(row["channels"]) == len(maps):  # else the direction is not all in the table
            direction = np.zeros(len(maps))
            direction[row["channels"]] = row["weights"]
            expected = np.tensordot(direction, maps, 1).mean()
            np.testing.assert_allclose(row["activation"], expected, rtol=1e-3, atol=1e-5)
    for row in done.table("values/values.parquet").to_pylist():
        if row["value"] != "y":
            continue
        expected = oracle.maps(done.image(row["image"])[None], "y")[0, row["channel"]]
        np.testing.assert_allclose(row["mean"], expected, **CLOSE)
    for row in done.table("truth/units.parquet").to_pylist():
        if row["objective"] != "neuron" or row["natural"] is None:
            continue
        photos = np.stack([done.image(index) for index in range(3)])
        natural = max(oracle.maps(x, values[row["layer"]])[:, row["channel"]].max() for x in (data, photos))
        np.testing.assert_allclose(row["natural"], natural, **CLOSE)
    tuned = 0
    for row in done.table("tuning/units.parquet").to_pylist():
        if row["atlas"] is None:
            continue
        tile = done.tile(row)
        layer = next(layer for layer in network_of(folder).layers if layer.name == row["layer"])
        canvas = canvas_for(network_of(folder), layer, "neuron")
        assert canvas.size == tile.shape[:2]
        grey = np.full_like(tile, 128)
        seen, flat = (oracle.maps(x[None], layer.value)[0, row["channel"]] for x in (tile, grey))
        at = (canvas.row, canvas.column)
        np.testing.assert_allclose(row["response"], seen[at] - flat[at], rtol=1e-4, atol=1e-5)
        tuned += 1
    assert tuned


def test_attributions_explain_the_picture_alone(run):
    """Integrated gradients add up to the difference of two scores that ONNX Runtime gives for pictures alone."""
    folder, done, oracle, _ = run
    explainer = Explainer(network_of(folder))
    pixels = done.image(1)
    for wanted in ("2", f"{done.layers[1]['name']}:3"):
        target = explainer.target(pixels, wanted)
        found = explainer.explain(pixels, target, "integrated-gradients")
        name = "y" if target.layer is None else done.layers[1]["value"]
        scores = [
            float(oracle.maps(x[None], name)[0, target.channel].astype(np.float64).sum())
            for x in (pixels, np.zeros_like(pixels))
        ]
        np.testing.assert_allclose(found.score, scores[0], rtol=1e-4)
        if np.isfinite(scores[1]):  # a black picture has no maximum to be divided by
            assert abs(found.signed.sum() - (scores[0] - scores[1])) < 0.02 * max(1.0, abs(scores[0] - scores[1]))


def test_gradients_of_a_batch_are_those_of_each_picture_alone(run):
    """Against differences of ONNX Runtime's answers on single pictures."""
    folder, _, oracle, _ = run
    network = network_of(folder)
    layer = network.layers[1]
    canvas = canvas_for(network, layer, "channel")
    objective = objective_for("channel", canvas)
    slope = Slope(network, layer, canvas, objective, torch.device("cpu"), exact=True)
    rng = np.random.default_rng(5)
    pictures = torch.tensor(rng.random((3, 3, *canvas.size)) * [[[[0.3]]], [[[0.6]]], [[[1.0]]]], dtype=torch.float32)
    pictures.requires_grad_(True)
    units = [0, 3, 5]
    for opened in (False, True):
        raised, _ = slope.raised(pictures, slope.directions(units), opened)
        (gradient,) = torch.autograd.grad(raised.sum(), pictures)
        maps = oracle.of(pictures.detach().numpy(), layer.value)
        means = maps[np.arange(3), units].astype(np.float64).mean((1, 2))
        np.testing.assert_allclose(raised.detach().numpy(), means, rtol=1e-4, atol=1e-5)
        for index in range(3):
            own = pictures[index : index + 1].detach().requires_grad_(True)
            alone, _ = slope.raised(own, slope.directions([units[index]]), opened)
            (expected,) = torch.autograd.grad(alone.sum(), own)
            torch.testing.assert_close(gradient[index], expected[0], rtol=1e-4, atol=1e-7)


def test_maximize_and_attribute_say_how_pictures_go(run, tmp_path):
    folder, done, oracle, _ = run
    model = str(folder / "net.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        common = ["--preprocess", "unit"]
        layer = done.layers[1]
        picture = tmp_path / "unit.png"
        asked = ["--layer", layer["name"], "--channel", "4", "--out", str(picture), "--json"]
        result = CliRunner().invoke(app, ["maximize", model, *asked, *common])
        assert result.exit_code == 0, result.output
        assert "one picture at a time" in result.stderr
        row = json.loads(result.stdout[result.stdout.index("[") :])[0]
        maps = oracle.maps(np.asarray(Image.open(picture))[None], layer["value"])[0, 4]
        np.testing.assert_allclose(row["activation"], maps.astype(np.float64).mean(), **CLOSE)
        photo = str(folder / "photos" / "1.png")
        asked = ["--target", "2", "--out", str(tmp_path / "attribution"), "--json"]
        result = CliRunner().invoke(app, ["attribute", model, photo, *asked, *common])
        assert result.exit_code == 0, result.output
        assert "one picture at a time" in result.stderr
        rows = json.loads(result.stdout[result.stdout.index("{") :])["attributions"]
        assert len(rows) == 8
        shown = oracle.maps(done.image(1)[None], "y")[0, 2]
        np.testing.assert_allclose([row["score"] for row in rows], shown, rtol=1e-4)


def test_vertex_and_certified_pictures_are_measured_alone(run, tmp_path):
    folder, done, oracle, _ = run
    network = network_of(folder)
    found = fs.maximize(network, done.layers[1]["name"], [0, 1, 2], method="vertex", device="cpu", objective="neuron")
    layer = network.layers[1]
    canvas = canvas_for(network, layer, "neuron")
    maps = oracle.maps(found.tiles, layer.value)
    np.testing.assert_allclose(found.activation, maps[np.arange(3), [0, 1, 2], canvas.row, canvas.column], **CLOSE)


def test_the_meter_measures_many_pictures_as_it_measures_one(run):
    folder, _, oracle, data = run
    network = network_of(folder)
    layer = network.layers[1]
    meter = Meter(network, layer, canvas_for(network, layer, "channel"))
    if meter.canvas.size != (24, 24):
        pytest.skip("the canvas is smaller than the photos")
    expected = oracle.maps(data, layer.value).astype(np.float64).mean((2, 3))
    np.testing.assert_allclose(meter.all_units(data), expected, **CLOSE)


def test_the_report_says_so(run):
    folder, done, _, _ = run
    alone = done.info["model"]["parity"]["alone"]
    assert alone["one_at_a_time"]
    assert done.info["model"]["parity"]["batches"] == [1]
    for page in ("index.html", "method.html"):
        assert "one picture at a time" in (folder / "run" / "site" / page).read_text(encoding="utf-8")


def test_layers_without_weights_of_their_own_have_no_pages_of_them(run):
    _, done, _, _ = run
    for layer in done.layers:
        kinds = {(row["method"], row["space"]) for row in done.units.to_pylist() if row["layer"] == layer["name"]}
        analytic = any(method == "analytic" for method, _ in kinds)
        assert analytic != layer["computed"]
        assert bool(len(done.weights(layer["slug"]))) != layer["computed"]
    notes = done.study("weights")["notes"]
    assert bool(notes) == any(layer["computed"] for layer in done.layers)
