"""MNIST, SVHN and CIFAR-10 out of the files in which they are published.

Nothing is downloaded: a missing file is named, with the address of the data set's own page. Knows NumPy and the
file formats; knows nothing of networks.
"""

import gzip
import io
import itertools
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DIGITS = tuple("0123456789")
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class DataError(Exception):
    """A data set that is not in the folder, or not what it should be. Its text is for the user."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The training half or the test half of a data set."""

    images: np.ndarray  # (N, H, W, C) uint8, RGB or grey
    labels: np.ndarray  # (N,) int64

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"images are (N, H, W, C) uint8 with N labels, got {self.images.dtype} of shape {self.images.shape} "
                f"with labels of shape {self.labels.shape}; is this the right file?"
            )

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> "Part":
        """The first `count` images, or all where there are fewer."""
        return Part(self.images[:count], self.labels[:count])


@dataclass(frozen=True, slots=True)
class Dataset:
    """Images to learn from, images to test on, and what the classes are called."""

    train: Part
    test: Part
    classes: tuple[str, ...]


def load(name: str, folder: Path) -> Dataset:
    """Read a data set from a folder or the folders inside it, two levels deep.

    Args:
        name: mnist, svhn or cifar10.

    Raises:
        DataError: no file of the data set is there, or one of them cannot be read.
    """
    source = SOURCES[name]
    for read in source.readers:
        try:
            found = read(folder)
        except DataError:
            raise
        except Exception as error:  # gzip, tar, zip, pickle, MATLAB and WebP each have their own kinds
            raise DataError(f"{folder}: a file of {source.title} cannot be read ({error}); get it again") from error
        if found is not None:
            return found
    raise DataError(
        f"{folder}: no {source.title} here; looked for {source.files}. Get it from {source.page} and name its folder "
        "with --data"
    )


def read_mnist_idx(folder: Path) -> Dataset | None:
    """Four IDX files, packed with gzip or not. Source: the data set's page, "File formats"."""
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    files = [_find(folder, f"{name}.gz") or _find(folder, name) for name in names]
    if not all(files):
        return None
    images, labels, test_images, test_labels = (_read_idx(file) for file in files if file)
    return Dataset(_grey(images, labels), _grey(test_images, test_labels), DIGITS)


def read_mnist_npz(folder: Path) -> Dataset | None:
    """The mnist.npz of Keras, or another file mnist*.npz with the same arrays."""
    file = _find(folder, "mnist*.npz")
    if file is None:
        return None
    with np.load(file) as arrays:
        train, test = (_grey(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    return Dataset(train, test, DIGITS)


def read_svhn(folder: Path) -> Dataset | None:
    """The cropped digits: train_32x32.mat and test_32x32.mat, MATLAB files of version 5."""
    files = [_find(folder, f"{part}_32x32.mat") for part in ("train", "test")]
    if not all(files):
        return None
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DataError("SVHN's .mat files are read by SciPy, which is not installed: pip install scipy") from error
    arrays = [loadmat(file, variable_names=("X", "y")) for file in files if file]
    # X is (32, 32, 3, N); y is (N, 1) with 1..9 for these digits and 10 for the digit 0.
    train, test = (Part(_contiguous(a["X"].transpose(3, 0, 1, 2)), _labels(a["y"][:, 0] % 10)) for a in arrays)
    return Dataset(train, test, DIGITS)


def read_cifar10_batches(folder: Path) -> Dataset | None:
    """The Python version: the folder cifar-10-batches-py, or cifar-10-python.tar.gz with that folder inside."""
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    batches = [_find(folder, name) for name in names]
    if all(batches):
        parts = [_cifar10_batch(batch.read_bytes()) for batch in batches if batch]
    elif archive := _find(folder, "cifar-10-python.tar.gz"):
        with tarfile.open(archive) as members:
            parts = [_cifar10_batch(_member(members, f"cifar-10-batches-py/{name}")) for name in names]
    else:
        return None
    *train, test = parts
    images, labels = (np.concatenate([getattr(part, field) for part in train]) for field in ("images", "labels"))
    return Dataset(Part(images, labels), test, CIFAR10_CLASSES)


def read_cifar10_packed(folder: Path) -> Dataset | None:
    """Two archives cifar10_train*.npz and cifar10_test*.npz of encoded pictures.

    Each holds `data` (uint8: the picture files one after the other), `offsets` (one more than pictures), `labels`
    and `classes`.
    """
    files = [_find(folder, f"cifar10_{part}*.npz") for part in ("train", "test")]
    if not all(files):
        return None
    train, test = (_packed(file) for file in files if file)
    return Dataset(train, test, CIFAR10_CLASSES)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a data set comes from."""

    title: str
    page: str  # the data set's own
    files: str  # that are looked for, in words
    readers: tuple[Callable[[Path], Dataset | None], ...]  # None: its files are not there


SOURCES = {
    "mnist": _Source(
        "MNIST",
        "http://yann.lecun.com/exdb/mnist/",
        "train-images-idx3-ubyte.gz and its three companions, or mnist.npz as Keras keeps it",
        (read_mnist_idx, read_mnist_npz),
    ),
    "svhn": _Source(
        "SVHN",
        "http://ufldl.stanford.edu/housenumbers/ (Format 2: Cropped Digits)",
        "train_32x32.mat and test_32x32.mat",
        (read_svhn,),
    ),
    "cifar10": _Source(
        "CIFAR-10",
        "https://www.cs.toronto.edu/~kriz/cifar.html (the Python version)",
        "cifar-10-python.tar.gz or the folder cifar-10-batches-py",
        (read_cifar10_batches, read_cifar10_packed),
    ),
}


def _find(folder: Path, pattern: str) -> Path | None:
    """The first file of this name in the folder, or one or two levels below."""
    found = (file for depth in ("", "*/", "*/*/") for file in sorted(folder.glob(depth + pattern)) if file.is_file())
    return next(found, None)


def _read_idx(file: Path) -> np.ndarray:
    """The array of an IDX file of bytes: two zeros, 8 (unsigned byte), the rank, the sides, the values."""
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    if data[:3] != b"\0\0\x08":
        raise ValueError(f"{file.name} is no IDX file of bytes")
    rank = data[3]
    shape = np.frombuffer(data, ">i4", rank, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _cifar10_batch(data: bytes) -> Part:
    batch = _BatchUnpickler(io.BytesIO(data), encoding="bytes").load()
    images = batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # rows of all red, all green, all blue
    return Part(_contiguous(images), _labels(batch[b"labels"]))


class _BatchUnpickler(pickle.Unpickler):
    """Reads arrays, lists and strings. Any other pickle is a program, which nobody needs to run for pictures."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):  # where it was when the files were written
            return super().find_class("numpy._core.multiarray", name)
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a batch of CIFAR-10 holds no {module}.{name}")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is not a file of the archive")
    return file.read()


def _packed(file: Path) -> Part:
    with np.load(file) as archive:
        data, offsets, labels = archive["data"].tobytes(), archive["offsets"].tolist(), _labels(archive["labels"])
    pictures = (io.BytesIO(data[begin:end]) for begin, end in itertools.pairwise(offsets))
    return Part(np.stack([np.asarray(Image.open(picture).convert("RGB")) for picture in pictures]), labels)


def _grey(images: np.ndarray, labels: np.ndarray) -> Part:
    return Part(images[..., None], _labels(labels))


def _labels(values: Any) -> np.ndarray:
    return np.asarray(values, np.int64)


def _contiguous(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images)
