"""The study of a data set, against ONNX Runtime on every image and NumPy on all its maps."""

import numpy as np
import onnx
import pytest
from PIL import Image

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import preset
from filterscope.analyzer.run.layout import slugs
from filterscope.analyzer.run.writer import RunWriter
from filterscope.analyzer.studies.examples import examples, pass_over_data, pictures
from filterscope.analyzer.studies.examples.examples import CHECKPOINT, Examples
from filterscope.converters.errors import InputError, SettingsError
from support.networks import answers, build, normal
from support.studies_of_data import performed

SEVERAL = [
    ("Conv", "x w1 b1", "a", {"pads": [1, 1, 1, 1], "name": "first"}),
    ("Relu", "a", "ra"),
    ("MaxPool", "ra", "pooled", {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("Conv", "pooled w2", "b", {"pads": [2, 1, 0, 1], "strides": [2, 1], "name": "units"}),
    ("Relu", "b", "y"),
]
UPWARDS = [
    ("Conv", "x w1 b1", "a", {"pads": [1, 1, 1, 1], "strides": [2, 2], "name": "first"}),
    ("Relu", "a", "ra"),
    ("ConvTranspose", "ra up", "u", {"strides": [2, 2], "name": "up"}),
    ("Conv", "u w2", "b", {"pads": [1, 1, 1, 1], "name": "last"}),
    ("Relu", "b", "y"),
]
GATED = [
    ("Conv", "x w1 b1", "a", {"pads": [1, 1, 1, 1], "name": "first"}),
    ("GlobalAveragePool", "a", "g"),
    ("Sigmoid", "g", "gate"),
    ("Mul", "a gate", "gated"),
    ("Conv", "gated w2", "b", {"name": "last"}),
    ("Conv", "gate w3", "c", {"name": "of-the-gate"}),
    ("GlobalAveragePool", "b", "gb"),
    ("Concat", "gb c", "y", {"axis": 1}),
]


def weights(bands=3):
    return {
        "w1": normal(5, bands, 3, 3),
        "b1": np.float32([0, 0.3, -60, 0, 2]),  # the third unit never fires
        "w2": normal(4, 5, 3, 3),
        "w3": normal(2, 5, 1, 1),
        "up": normal(5, 5, 3, 3),
    }


def opened(tmp_path, nodes, bands=3, size=(16, 14)):
    used = {name for _, inputs, *_ in nodes for name in inputs.split()}
    constants = {name: array for name, array in weights(bands).items() if name in used}
    model = build(nodes, constants, shape=("N", bands, *size))
    onnx.save(model, tmp_path / "net.onnx")
    return model, open_network(tmp_path / "net.onnx", InputOptions(preprocessing=preset("unit")))


def images(tmp_path, count, bands=3, size=(16, 14), **arrays):
    pixels = np.random.default_rng(3).integers(0, 256, (count, *size, bands), dtype=np.uint8)
    pixels = (pixels * np.linspace(0.2, 1, count)[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "set.npz", x=pixels, **arrays)
    return pixels


def of(rows, **wanted):
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


@pytest.mark.parametrize(("nodes", "bands"), [(SEVERAL, 3), (SEVERAL, 1), (SEVERAL, 5), (UPWARDS, 3), (GATED, 3)])
def test_every_number_is_what_numpy_finds_in_all_maps(tmp_path, nodes, bands):
    count = 130
    model, network = opened(tmp_path, nodes, bands)
    pixels = images(tmp_path, count, bands)
    run, told = performed(tmp_path, network, Examples(tmp_path / "set.npz", top=4))
    x = np.moveaxis(pixels, 3, 1).astype(np.float32) / np.float32(255)
    units, depths, firing, pictures = (
        run.table(f"examples/{name}.parquet").to_pylist() for name in ("units", "layers", "firing", "pictures")
    )
    image_of = {row["example"]: row["image"] for row in pictures}
    assert sorted(image_of) == list(range(len(pictures)))
    assert told["notes"][0] == "130 images were measured."
    for layer in network.layers:
        maps = answers(model, x, [layer.value])[layer.value]
        flat = maps.reshape(*maps.shape[:2], -1)
        positive = np.maximum(flat, 0).reshape(count, -1).astype(np.float64)
        sparsity = 1 - positive.mean(axis=1) ** 2 / np.maximum((positive**2).mean(axis=1), 1e-30)
        (depth,) = of(depths, layer=layer.name)
        assert depth["sparsity"] == pytest.approx(sparsity.mean(), abs=1e-5)
        assert depth["active"] == pytest.approx((flat > 0).mean(), abs=1e-9)
        means = flat.mean(axis=2, dtype=np.float64)
        one = of(firing, layer=layer.name, images=1)
        assert [row["image"] for row in one] == list(range(count))
        assert [row["channel"] for row in one] == means.argmax(axis=1).tolist()
        batch = [row for row in of(firing, layer=layer.name) if row["images"] > 1]
        assert [(row["image"], row["images"]) for row in batch] == [(0, 100), (100, 30)]
        assert [row["channel"] for row in batch] == [
            means[:100].mean(axis=0).argmax(),
            means[100:].mean(axis=0).argmax(),
        ]
        top = run.examples(slugs([x.name for x in network.layers])[layer.name]).to_pylist()
        for channel in range(layer.out_channels):
            (unit,) = of(units, layer=layer.name, channel=channel)
            own = flat[:, channel]
            close = {"rel": 1e-4, "abs": 1e-4}
            assert unit["minimum"] == pytest.approx(own.min(), **close)
            assert unit["maximum"] == pytest.approx(own.max(), **close)
            assert unit["mean"] == pytest.approx(own.mean(dtype=np.float64), **close)
            assert unit["active"] == pytest.approx((own > 0).mean(), abs=1e-9)
            assert unit["active_images"] == pytest.approx((own > 0).any(axis=1).mean(), abs=1e-9)
            assert unit["dead"] == (layer.nonlinearity == "relu" and own.max() <= 0)
            assert unit["firsts"] == int((means.argmax(axis=1) == channel).sum())
            assert unit["histogram_low"] <= own.min() + 1e-4
            assert unit["histogram_high"] >= own.max() - 1e-4
            mine = sorted(of(top, channel=channel), key=lambda row: row["rank"])
            best = np.argsort(-own.max(axis=1), kind="stable")[:4]
            np.testing.assert_allclose([row["activation"] for row in mine], own.max(axis=1)[best], rtol=1e-4, atol=1e-4)
            for row in mine:
                there = maps[image_of[row["example"]], channel, row["row"], row["column"]]
                assert there == pytest.approx(row["activation"], **close)
            assert len({row["example"] for row in mine}) == 4


def test_small_maps_are_in_the_histogram_as_a_whole(tmp_path):
    model, network = opened(tmp_path, SEVERAL)
    pixels = images(tmp_path, 40)
    run, _ = performed(tmp_path, network, Examples(tmp_path / "set.npz"))
    x = np.moveaxis(pixels, 3, 1).astype(np.float32) / np.float32(255)
    own = answers(model, x, ["b"])["b"]
    assert own[0, 0].size <= 64  # places, all of which are sampled
    for unit in of(run.table("examples/units.parquet").to_pylist(), layer="units"):
        assert sum(unit["histogram"]) == own[:, 0].size
        edges = np.linspace(unit["histogram_low"], unit["histogram_high"], len(unit["histogram"]) + 1)
        expected, _ = np.histogram(own[:, unit["channel"]], edges)
        assert np.abs(expected - unit["histogram"]).sum() <= 6  # numbers on an edge
    flat = np.moveaxis(own, 1, 0).reshape(4, -1)
    passed = np.maximum(flat, 0)  # a ReLU follows
    correlations = np.corrcoef(passed)
    np.fill_diagonal(correlations, -2)
    rare = np.count_nonzero(passed, axis=1) < 30
    assert rare.sum() < 3
    correlations[:, rare] = -2
    for unit in of(run.table("examples/units.parquet").to_pylist(), layer="units"):
        if rare[unit["channel"]]:
            assert unit["nearest"] is unit["correlation"] is None
            continue
        assert unit["nearest"] == correlations[unit["channel"]].argmax()
        assert unit["correlation"] == pytest.approx(correlations[unit["channel"]].max(), abs=1e-4)


@pytest.mark.parametrize("nodes", [SEVERAL, UPWARDS])
def test_a_patch_alone_at_its_place_gives_the_recorded_activation_also_at_borders(tmp_path, nodes):
    model, network = opened(tmp_path, nodes)
    pixels = images(tmp_path, 60)
    run, _ = performed(tmp_path, network, Examples(tmp_path / "set.npz", top=5))
    image_of = {row["example"]: row["image"] for row in run.table("examples/pictures.parquet").to_pylist()}
    rng = np.random.default_rng(5)
    beyond = 0
    for layer in network.layers:
        for row in run.examples(slugs([x.name for x in network.layers])[layer.name]).to_pylist():
            picture = pixels[image_of[row["example"]]]
            ends = row["top"] + row["field_height"], row["left"] + row["field_width"]
            beyond += min(row["top"], row["left"]) < 0 or ends[0] > 16 or ends[1] > 14
            inside = np.s_[max(0, row["top"]) : ends[0], max(0, row["left"]) : ends[1]]
            for neutral in (np.full_like(picture, 128), rng.integers(0, 256, picture.shape, dtype=np.uint8)):
                neutral[inside] = picture[inside]
                x = np.moveaxis(neutral, 2, 0)[None].astype(np.float32) / np.float32(255)
                there = answers(model, x, [layer.value])[layer.value][0, row["channel"], row["row"], row["column"]]
                assert there == pytest.approx(row["activation"], rel=1e-4, abs=1e-4)
    assert beyond > 10


def test_pictures_and_maps_are_those_of_the_images(tmp_path):
    model, network = opened(tmp_path, SEVERAL, size=(40, 30))
    pixels = images(tmp_path, 30, size=(40, 30), y=np.arange(30) % 3, classes=np.array(["cat", "dog"]))
    study = Examples(tmp_path / "set.npz", top=5)
    run, told = performed(tmp_path, network, study, channels=(1, 3), labels=("a", "b", "fish"))
    pictures = run.table("examples/pictures.parquet").to_pylist()
    for row in pictures:
        assert np.array_equal(run.tile(row), pixels[row["image"]])
        assert row["label"] == ("cat", "dog", "fish")[row["image"] % 3]
        assert row["name"] == f"set.npz[{row['image']}]"
        assert row["source"] == str(tmp_path / row["name"])
    for layer in network.layers:
        rows = run.examples(slugs([x.name for x in network.layers])[layer.name]).to_pylist()
        assert {row["channel"] for row in rows} == set(range(layer.out_channels))
        for row in rows:
            shown = row["channel"] in (1, 3) and row["rank"] < 3
            assert (row["atlas"] is not None) == shown
            if not shown:
                continue
            image = pictures[row["example"]]["image"]
            x = np.moveaxis(pixels[image], 2, 0)[None].astype(np.float32) / np.float32(255)
            own = answers(model, x, [layer.value])[layer.value][0, row["channel"]]
            tile = run.tile(row)[..., 0]
            assert max(tile.shape) <= 28
            down, across = -(-own.shape[0] // 28), -(-own.shape[1] // 28)
            smaller = [[own[i : i + down, j : j + across].max() for j in range(0, own.shape[1], across)]
                       for i in range(0, own.shape[0], down)]  # fmt: skip
            expected = np.clip(np.array(smaller) / own.max(), 0, 1) * 255 * (own.max() > 0)
            assert np.abs(tile - expected).max() <= 0.51
    assert not any("budget" in note for note in told["notes"])
    assert "Classes of the data set that are none of the network's labels: cat, dog." in told["notes"]


def test_pictures_keep_to_their_budget_and_low_ranks_come_first(tmp_path):
    _, network = opened(tmp_path, SEVERAL)
    images(tmp_path, 60)
    run, told = performed(tmp_path, network, Examples(tmp_path / "set.npz", picture_bytes=5 * 16 * 14 * 3 + 1))
    kept = {row["example"] for row in run.table("examples/pictures.parquet").to_pylist() if row["atlas"]}
    assert len(kept) == 5
    rows = [row for slug in ("first", slugs(["first", "units"])["units"]) for row in run.examples(slug).to_pylist()]
    assert kept <= {row["example"] for row in rows if row["rank"] == 0}
    assert any("Pictures are kept of 5 of the" in note for note in told["notes"])


@pytest.mark.parametrize("stop", [1, 3])
def test_an_interrupted_pass_goes_on_and_finds_the_same(tmp_path, monkeypatch, stop):
    _, network = opened(tmp_path, SEVERAL)
    images(tmp_path, 250)
    study = Examples(tmp_path / "set.npz")
    monkeypatch.setattr("filterscope.analyzer.studies.examples.examples.PAUSE", 0.0)
    monkeypatch.setattr("filterscope.analyzer.studies.examples.examples.PATIENCE", 0.0)
    whole, _ = performed(tmp_path, network, study, out="whole")
    measure, begun = pass_over_data.Survey._measure, []

    def interrupted(self, session, batch):
        begun.append(int(batch.numbers[0]))
        if len(begun) == stop + 1:
            raise KeyboardInterrupt
        measure(self, session, batch)

    monkeypatch.setattr(pass_over_data.Survey, "_measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        performed(tmp_path, network, study)
    assert (tmp_path / "run" / CHECKPOINT).is_file()
    resumed, _ = performed(tmp_path, network, study)
    assert begun[stop + 1] == begun[stop] > 0
    assert not (tmp_path / "run" / CHECKPOINT).exists()
    for name in ("pictures", "layers", "firing"):
        assert resumed.table(f"examples/{name}.parquet").equals(whole.table(f"examples/{name}.parquet"))
    ours, theirs = (run.table("examples/units.parquet").to_pylist() for run in (resumed, whole))
    for one, other in zip(ours, theirs, strict=True):
        assert one.pop("correlation") == pytest.approx(other.pop("correlation"), abs=1e-5)
        assert one == other
    assert resumed.examples("first").equals(whole.examples("first"))


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_checkpoint_of_something_else_is_passed_over(tmp_path, content):
    _, network = opened(tmp_path, SEVERAL)
    images(tmp_path, 20)
    with RunWriter(tmp_path / "run", "plan") as writer:
        writer.write_info({})
        if content is None:
            np.savez(tmp_path / "other.npz", identity=np.array("other"), numbers=np.arange(3))
            content = (tmp_path / "other.npz").read_bytes()
        writer.write_bytes(CHECKPOINT, content)
        writer.write_bytes("examples/pictures-7.png", b"of that pass")
    run, told = performed(tmp_path, network, Examples(tmp_path / "set.npz"))
    assert told["notes"][0] == "20 images were measured."
    assert not (tmp_path / "run" / "examples" / "pictures-7.png").exists()
    assert len(run.table("examples/firing.parquet")) == 2 * (20 + 1)


def test_broken_and_odd_sized_pictures_are_told(tmp_path):
    _, network = opened(tmp_path, SEVERAL)
    for label in ("cat", "dog"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(3):
            size = (14, 16) if number else (40, 40)
            Image.new("RGB", size, (60 * number, 99, 20)).save(tmp_path / "set" / label / f"{number}.png")
    (tmp_path / "set" / "dog" / "bad.png").write_bytes(b"\x89PNG nothing")
    (tmp_path / "set" / "cat" / "empty.jpg").write_bytes(b"")
    run, told = performed(tmp_path, network, Examples(tmp_path / "set"))
    assert told["notes"][0] == "6 images were measured."
    assert "2 of 8 images were skipped: cat/empty.jpg: the file is empty; dog/bad.png: " in told["notes"][1]
    assert told["notes"][2] == "2 images had another size than 16×14 and were resized (auto)."
    pictures = run.table("examples/pictures.parquet").to_pylist()
    assert {row["name"]: row["label"] for row in pictures} == {
        f"{label}/{number}.png": label for label in ("cat", "dog") for number in range(3)
    }


def test_a_data_set_without_one_usable_image_is_refused(tmp_path):
    _, network = opened(tmp_path, SEVERAL)
    (tmp_path / "set").mkdir()
    for number in range(3):
        (tmp_path / "set" / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"none of the 3 images can be used; the first: 0\.png: not an image"):
        performed(tmp_path, network, Examples(tmp_path / "set"))


def test_an_nhwc_network_is_measured_too(tmp_path):
    nodes = [
        ("Transpose", "x", "t", {"perm": [0, 3, 1, 2]}),
        ("Conv", "t w1 b1", "a", {"name": "first"}),
        ("Relu", "a", "y"),
    ]
    constants = {name: weights()[name] for name in ("w1", "b1")}
    model = build(nodes, constants, shape=("N", 16, 14, 3))
    onnx.save(model, tmp_path / "net.onnx")
    network = open_network(tmp_path / "net.onnx", InputOptions(preprocessing=preset("unit")))
    pixels = images(tmp_path, 12)
    run, _ = performed(tmp_path, network, Examples(tmp_path / "set.npz", top=1))
    maps = answers(model, pixels.astype(np.float32) / np.float32(255), ["a"])["a"]
    found = [row["activation"] for row in run.examples("first").to_pylist()]
    np.testing.assert_allclose(found, maps.max(axis=(0, 2, 3)), rtol=1e-4, atol=1e-4)


def test_the_study_is_done_once(tmp_path):
    _, network = opened(tmp_path, SEVERAL)
    images(tmp_path, 10)
    _, first = performed(tmp_path, network, Examples(tmp_path / "set.npz"))
    _, again = performed(tmp_path, network, Examples(tmp_path / "set.npz"))
    assert again == first
    _, other = performed(tmp_path, network, Examples(tmp_path / "set.npz", top=2))
    assert other["identity"] != first["identity"]


def test_a_number_of_places_that_makes_no_sense_is_refused(tmp_path):
    images(tmp_path, 3)
    with pytest.raises(SettingsError, match=r"^`top=0`: give 1 or more"):
        Examples(tmp_path / "set.npz", top=0)


def test_a_checkpoint_that_lacks_arrays_is_passed_over(tmp_path, monkeypatch):
    _, network = opened(tmp_path, SEVERAL)
    images(tmp_path, 20)
    monkeypatch.setattr(examples, "_checkpoint", lambda context, identity: {"numbers": np.arange(3)})
    run, told = performed(tmp_path, network, Examples(tmp_path / "set.npz"))
    assert told["notes"][0] == "20 images were measured."
    assert len(run.table("examples/firing.parquet")) == 2 * (20 + 1)


def test_what_memory_does_not_hold_is_left_out_and_told(tmp_path, monkeypatch):
    _, network = opened(tmp_path, SEVERAL)
    images(tmp_path, 40)
    whole, _ = performed(tmp_path, network, Examples(tmp_path / "set.npz"), out="whole")
    monkeypatch.setattr(pass_over_data, "FIRING_ROWS", 2 * 5)
    monkeypatch.setattr(pass_over_data, "CORRELATION_BYTES", 0)
    monkeypatch.setattr(pictures, "SHEET_BYTES", 16 * 14 * 3 * 4)
    run, told = performed(tmp_path, network, Examples(tmp_path / "set.npz"))
    assert "Which channel fires most is kept for the first 5 images." in told["notes"]
    assert "Correlations were not measured, for want of memory: first, units." in told["notes"]
    firing = run.table("examples/firing.parquet").to_pylist()
    assert {row["image"] for row in firing if row["image"] is not None} == set(range(5))
    units = run.table("examples/units.parquet")
    assert not any(units["correlation"].to_pylist())
    assert units["maximum"].equals(whole.table("examples/units.parquet")["maximum"])
    assert len(list((tmp_path / "run" / "examples").glob("*.png"))) > len(
        list((tmp_path / "whole" / "examples").glob("*.png"))
    )


def test_answers_that_are_not_finite_are_left_out_and_told(tmp_path):
    nodes = [
        ("Conv", "x w1 b1", "a", {"pads": [1, 1, 1, 1], "name": "first"}),
        *(("Exp", "a", "e"), ("Exp", "e", "f"), ("Exp", "f", "g")),
        ("Conv", "f w2", "y", {"name": "some"}),
        ("Conv", "g w3", "z", {"name": "none"}),
        *(("GlobalMaxPool", "y", "p"), ("GlobalMaxPool", "z", "q"), ("Concat", "p q", "o", {"axis": 1})),
    ]
    model, network = opened(tmp_path, nodes)
    x = np.moveaxis(images(tmp_path, 20) / np.float32(255), -1, 1)
    maps = answers(model, x, ["y", "z"])
    with np.errstate(all="ignore"):  # of squares too: they are part of what is measured
        finite = {name: np.isfinite((value**2).sum((2, 3))).all(1) for name, value in maps.items()}
    assert 0 < finite["y"].sum() < 20
    assert finite["z"].sum() == 0
    run, told = performed(tmp_path, network, Examples(tmp_path / "set.npz"))
    left = f"some ({20 - finite['y'].sum()}), none (20)"
    assert f"Images to which a layer's answer is not finite are left out of its numbers: {left}." in told["notes"]
    rows = {(row["layer"], row["channel"]): row for row in run.table("examples/units.parquet").to_pylist()}
    for channel, highest in enumerate(maps["y"][finite["y"]].max((0, 2, 3))):
        assert rows["some", channel]["maximum"] == pytest.approx(highest, rel=1e-4)
    assert rows["none", 0]["maximum"] is None
    assert rows["none", 0]["dead"] is False
