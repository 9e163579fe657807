"""Images under numbers: in order, with their classes, the unreadable ones told."""

import os

import numpy as np
import pytest
from PIL import Image

from filterscope.analyzer.data.dataset import batches, open_dataset
from filterscope.analyzer.network.inputs import InputSpec
from filterscope.analyzer.network.preprocessing import PRESETS
from filterscope.converters.errors import InputError

SPEC = InputSpec("x", "NCHW", 3, 8, 8, PRESETS["unit"], "", True, True)


def photo(path, value, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 0)).save(path)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "data"
    photo(root / "train" / "cat" / "1.png", 1)
    photo(root / "train" / "dog" / "deep" / "2.png", 2, (16, 12))
    photo(root / "0.png", 0)
    photo(root / ".hidden" / "no.png", 9)
    (root / "train" / "cat" / "broken.png").write_bytes(b"no picture")
    (root / "train" / "cat" / "notes.txt").write_text("no picture at all")
    return root


def test_folders_at_any_depth_name_the_classes(folder):
    data = open_dataset([folder])
    told = [(data.name(i), data.label(i)) for i in range(len(data))]
    assert told == [
        ("0.png", None),
        ("train/cat/1.png", "cat"),
        ("train/cat/broken.png", "cat"),
        ("train/dog/deep/2.png", "deep"),
    ]
    assert data.source(1) == str(folder / "train/cat/1.png")


def test_batches_leave_out_what_cannot_be_read_and_tell_it(folder):
    data = open_dataset([folder])
    found = list(batches(data, SPEC, "auto", 3))
    assert [batch.numbers.tolist() for batch in found] == [[0, 1], [3]]
    assert [batch.end for batch in found] == [3, 4]
    assert [batch.resized for batch in found] == [0, 1]
    assert [text.partition(":")[0] for batch in found for text in batch.broken] == ["train/cat/broken.png"]
    assert [int(pixels[0, 0, 0]) for batch in found for pixels in batch.pixels] == [0, 1, 2]


def test_batches_start_where_they_are_told_and_reach_over_no_boundary(tmp_path):
    np.save(tmp_path / "many.npy", np.zeros((23, 8, 8, 3), np.uint8))
    data = open_dataset([tmp_path / "many.npy"])
    ends = [batch.end for batch in batches(data, SPEC, "auto", 4, start=3, boundary=10)]
    assert ends == [7, 10, 14, 18, 20, 23]


def test_images_of_other_channels_are_told_as_unreadable(tmp_path):
    np.save(tmp_path / "bands.npy", np.zeros((2, 8, 8, 5), np.uint8))
    (batch,) = batches(open_dataset([tmp_path / "bands.npy"]), SPEC, "auto", 4)
    assert len(batch.numbers) == 0
    assert "has 5 channels, the network takes 3" in batch.broken[0]


def test_several_sources_follow_each_other(folder, tmp_path):
    labelled = {"x": np.full((3, 8, 8, 3), 7, np.uint8), "y": np.array([1, 0, 5]), "classes": np.array(["a", "b"])}
    np.savez(tmp_path / "set.npz", **labelled)
    data = open_dataset([tmp_path / "set.npz", folder, f"{tmp_path / 'set.npz'}:1-2", str(folder / "train/**/*.png")])
    assert len(data) == 3 + 4 + 2 + 3
    assert [data.label(i) for i in (0, 1, 2)] == ["b", "a", "5"]
    assert data.label(2, ["?"] * 5 + ["f"]) == "f"
    assert data.name(7) == "set.npz[1]"
    assert data.label(7) == "a"
    assert data.label(9) == "cat"
    classes = [data.class_of(i) for i in (0, 2, 3, 7, 9)]
    assert classes == [(1, "b"), (5, None), (None, data.label(3)), (0, "a"), (None, "cat")]
    assert list(data.class_names()) == ["a", "b"]
    assert data.is_labelled()
    assert int(data.read(8).pixels[0, 0, 0]) == 7


def test_files_that_number_their_classes_differently_name_none_together(tmp_path):
    for name, classes in (("one", ["a", "b"]), ("other", ["b", "a"]), ("nameless", [])):
        named = {"classes": np.array(classes)} if classes else {}
        np.savez(tmp_path / f"{name}.npz", x=np.zeros((2, 8, 8, 3), np.uint8), y=np.array([0, 1]), **named)
    files = [tmp_path / f"{name}.npz" for name in ("one", "other", "nameless")]
    assert list(open_dataset(files).class_names()) == []
    assert list(open_dataset([files[0], files[2]]).class_names()) == ["a", "b"]
    np.save(tmp_path / "bare.npy", np.zeros((2, 8, 8, 3), np.uint8))
    assert not open_dataset([tmp_path / "bare.npy"]).is_labelled()


def test_published_files_are_found_inside_a_folder(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 3073), dtype=np.uint8)
    images[:, 0] = [1, 0]
    (tmp_path / "cifar-10-batches-bin").mkdir()
    (tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin").write_bytes(images.tobytes())
    (tmp_path / "cifar-10-batches-bin" / "batches.meta.txt").write_text("cat\ndog\n")
    data = open_dataset([tmp_path])
    assert [data.label(i) for i in range(2)] == ["dog", "cat"]
    assert np.array_equal(np.moveaxis(data.read(1).pixels, 2, 0).ravel(), images[1, 1:])


def test_a_fingerprint_follows_the_content_and_not_the_place(folder, tmp_path):
    before = open_dataset([folder]).fingerprint()
    moved = folder.rename(tmp_path / "elsewhere")
    os.utime(moved / "0.png", (1, 1))
    assert open_dataset([moved]).fingerprint() == before
    photo(moved / "0.png", 99)
    changed = open_dataset([moved]).fingerprint()
    assert changed != before
    (moved / "0.png").rename(moved / "00.png")
    assert open_dataset([moved]).fingerprint() not in (before, changed)


def test_a_large_data_set_is_told_by_sizes_and_times(folder, monkeypatch):
    monkeypatch.setattr("filterscope.analyzer.data.dataset.SMALL", 0)
    before = open_dataset([folder]).fingerprint()
    assert open_dataset([folder]).fingerprint() == before
    os.utime(folder / "0.png", (1, 1))
    assert open_dataset([folder]).fingerprint() != before


@pytest.mark.parametrize(("make", "message"), [
    (lambda at: at.mkdir(), "no pictures at any depth"),
    (lambda at: at.write_bytes(b""), "the file is empty"),
    (lambda at: None, "no such file or folder"),
])  # fmt: skip
def test_a_source_without_images_is_named(tmp_path, make, message):
    at = tmp_path / "set.npz"
    make(at)
    with pytest.raises(InputError, match=f"set.npz: .*{message}"):
        open_dataset([at])


def test_nothing_at_all_is_no_data_set():
    with pytest.raises(InputError, match="no data set: name folders"):
        open_dataset([])


def test_labels_that_do_not_match_the_images_are_refused(tmp_path):
    np.savez(tmp_path / "set.npz", x=np.zeros((3, 8, 8, 3), np.uint8), y=np.arange(2))
    with pytest.raises(InputError, match=r"set\.npz: y has 2 labels for 3 images"):
        open_dataset([tmp_path / "set.npz"])


def test_every_image_says_where_it_is_from(tmp_path):
    photo(tmp_path / "one.png", 1)
    np.save(tmp_path / "two.npy", np.zeros((2, 8, 8, 3), np.uint8))
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(2 * 3073))
    data = open_dataset([tmp_path / "one.png", tmp_path / "data_batch_1.bin", f"{tmp_path / 'two.npy'}:1-1"])
    places = ["one.png", "data_batch_1.bin[0]", "data_batch_1.bin[1]", "two.npy[1]"]
    assert [data.source(index) for index in range(len(data))] == [str(tmp_path / place) for place in places]


def test_a_file_that_goes_away_makes_another_data_set(tmp_path):
    photo(tmp_path / "one.png", 1)
    before = open_dataset([tmp_path / "one.png"]).fingerprint()
    data = open_dataset([tmp_path / "one.png"])
    (tmp_path / "one.png").unlink()
    assert data.fingerprint() != before
    (batch,) = batches(data, SPEC, "auto", 3)
    assert "one.png: cannot be read" in batch.broken[0]


def test_an_array_file_without_images_is_refused(tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match=r"none\.npy: holds no images"):
        open_dataset([tmp_path / "none.npy"])


def test_a_name_that_no_system_takes_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"n{300}.*: (cannot be looked at \(File name too long\)|no such file)"):
        open_dataset([tmp_path / ("n" * 300)])
