"""Published files are read as their pages describe them, and never run."""

import gzip
import os
import pickle
import struct

import numpy as np
import pytest

from filterscope.analyzer.data.published_formats import read_stack, reader_of
from filterscope.converters.errors import InputError
from support.paths import HOSTILE


def pictures(count, side=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def rows(images):
    return np.moveaxis(images, 3, 1).reshape(len(images), -1)


def pickled(value):
    """As the files are: written by an older NumPy."""
    return pickle.dumps(value, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_cifar_10_in_python(tmp_path):
    images = pictures(6)
    (tmp_path / "data_batch_1").write_bytes(pickled({b"data": rows(images), b"labels": [0, 1, 1, 0, 1, 0]}))
    (tmp_path / "batches.meta").write_bytes(pickled({b"label_names": [b"airplane", b"automobile"]}))
    found = read_stack(tmp_path / "data_batch_1")
    assert np.array_equal(found.images, images)
    assert found.labels.tolist() == [0, 1, 1, 0, 1, 0]
    assert found.classes == ("airplane", "automobile")


def test_cifar_100_in_python_has_fine_labels_and_a_neighbour_called_meta(tmp_path):
    images = pictures(2)
    content = {b"data": rows(images), b"fine_labels": [1, 0], b"coarse_labels": [7, 8]}
    (tmp_path / "train").write_bytes(pickled(content))
    assert reader_of(tmp_path / "train") is None
    (tmp_path / "meta").write_bytes(pickled({b"fine_label_names": [b"apple", b"bee"]}))
    found = read_stack(tmp_path / "train")
    assert np.array_equal(found.images, images)
    assert [found.classes[label] for label in found.labels] == ["bee", "apple"]


@pytest.mark.parametrize(("name", "labels", "names"), [
    ("test_batch.bin", 1, "batches.meta.txt"),
    ("train.bin", 2, "fine_label_names.txt"),
])  # fmt: skip
def test_cifar_in_binary(tmp_path, name, labels, names):
    images = pictures(4)
    head = np.array([[9] * (labels - 1) + [label] for label in (0, 1, 0, 1)], np.uint8)
    (tmp_path / name).write_bytes(np.concatenate([head, rows(images)], axis=1).tobytes())
    (tmp_path / names).write_text("cat\ndog\n\n")
    found = read_stack(tmp_path / name)
    assert np.array_equal(found.images, images)
    assert [found.classes[label] for label in found.labels] == ["cat", "dog", "cat", "dog"]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("labels_packed", [True, False, None])
def test_mnist(tmp_path, packed, labels_packed):
    images = pictures(5, 28)[..., 0]
    for stem, array, zipped in (
        ("t10k-images-idx3-ubyte", images, packed),
        ("t10k-labels-idx1-ubyte", np.arange(5, dtype=np.uint8), labels_packed),
    ):
        if zipped is not None:
            file = tmp_path / (f"{stem}.gz" if zipped else stem)
            file.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    found = read_stack(next(tmp_path.glob("*images*")))
    assert np.array_equal(found.images, images[..., None])
    assert (found.labels is None) == (labels_packed is None)
    assert found.labels is None or found.labels.tolist() == [0, 1, 2, 3, 4]


def test_svhn(tmp_path):
    from scipy.io import savemat

    images = pictures(3)
    file = tmp_path / "test_32x32.mat"
    savemat(file, {"X": np.moveaxis(images, 0, 3), "y": np.array([[1], [9], [10]])}, do_compression=True)
    found = read_stack(file)
    assert np.array_equal(found.images, images)
    assert found.labels.tolist() == [1, 9, 0]


def test_a_matlab_file_of_something_else_is_named(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "test_32x32.mat", {"X": np.zeros((2, 2))})
    with pytest.raises(InputError, match=r"test_32x32\.mat: has no arrays X and y"):
        read_stack(tmp_path / "test_32x32.mat")


def test_a_file_larger_than_any_of_its_kind_is_not_read(tmp_path):
    with (tmp_path / "test_batch").open("wb") as file:
        file.truncate(1 << 40)  # all of it a hole
    with pytest.raises(InputError, match=r"test_batch: has 1,099,511,627,776 bytes, where .* has at most"):
        read_stack(tmp_path / "test_batch")


def test_a_file_of_another_name_is_of_no_data_set(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.png: not a file of CIFAR, MNIST or SVHN"):
        read_stack(tmp_path / "a.png")


class Program:
    """A pickle that makes a folder when it is executed."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: {b"data": p}, lambda p: np.array([p], object)])
def test_a_pickle_is_not_executed(tmp_path, wrap):
    (tmp_path / "data_batch_1").write_bytes(pickled(wrap(Program(tmp_path / "made"))))
    with pytest.raises(InputError, match=r"data_batch_1: not readable .*; get it again"):
        read_stack(tmp_path / "data_batch_1")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(("name", "content", "message"), [
    ("data_batch_2.bin", b"x" * 3072, "3072 bytes are no whole number of images of 3073"),
    ("test_batch", b"", "not readable as a file of its data set"),
    ("test_batch", pickled([1, 2]), "holds a list, not a table"),
    ("test_batch", pickled({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}), "1 labels for 2 images"),
    ("test_batch", pickled({b"data": np.zeros((2, 3072)), b"labels": [1, 2]}), "no stack of 8-bit images"),
    ("train-images-idx3-ubyte", b"\0\0\x08\x01\0\0\0\x01", "no IDX file of bytes with 3 dimensions"),
    ("train-images-idx3-ubyte.gz", gzip.compress(idx(np.zeros((3, 4, 4), np.uint8))[:40]), "ends after 24 of 48 bytes"),
    ("train-images-idx3-ubyte.gz", gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12), "its header promises"),
    ("train_32x32.mat", b"MATLAB 7.3 MAT-file", "version 7.3; save it as version 7"),
    ("test_batch", pickled({b"data": b"text"}).replace(b"\x06\0\0\0latin1", b"\x05\0\0\0utf-8"), "holds text in utf-8"),
    ("train_32x32.mat", b"x" * 300, "not readable as a file of its data set"),
])  # fmt: skip
def test_damaged_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: .*{message}"):
        read_stack(tmp_path / name)


def test_a_matlab_file_that_its_reader_dies_of_is_one_line():
    """scipy's ends with SIGSEGV there, found by fuzzing; the file is one of its own with bytes changed."""
    file = HOSTILE / "test_32x32.mat"
    with pytest.raises(InputError, match=r"test_32x32\.mat: cannot be read .*; get it again"):
        read_stack(file)
