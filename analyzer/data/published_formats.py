"""Data sets in the files in which they are published: CIFAR-10 and CIFAR-100, MNIST and its kin, SVHN.

Pickles are read and not executed: of all that a pickle can name, arrays of numbers are let in and nothing else. Knows
the file formats; knows nothing of networks or of what the images are for.
"""

from __future__ import annotations

import gzip
import io
import pickle
import re
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from filterscope.analyzer.data.limits import MOST_IDX_BYTES, MOST_MAT_BYTES, MOST_NAMES_BYTES, MOST_PICKLE_BYTES
from filterscope.converters.errors import InputError

COMPRESSED = 15  # MATLAB's type of a packed variable
PIECE = 1 << 20  # bytes unpacked at a time
MATLAB_SCRIPT = """
import sys
import numpy as np
from scipy.io import loadmat
arrays = loadmat(sys.argv[1], variable_names=("X", "y"))
for name in ("X", "y"):
    if name in arrays:
        np.save(f"{sys.argv[2]}/{name}.npy", arrays[name], allow_pickle=False)
"""


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """All images of one file."""

    path: Path
    images: np.ndarray  # (N, H, W, C) uint8, perhaps on disk
    labels: np.ndarray | None  # (N,) whole numbers
    classes: tuple[str, ...]  # names of the labels; none: the files do not say

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8 or 0 in self.images.shape:
            raise InputError(
                f"{self.path.name}: no stack of 8-bit images, but {self.images.dtype} {list(self.images.shape)}"
            )
        if self.labels is not None and self.labels.shape != self.images.shape[:1]:
            raise InputError(f"{self.path.name}: {self.labels.size} labels for {len(self.images)} images; get it again")


def reader_of(path: Path) -> Callable[[Path], Stack] | None:
    """What reads a file, judged by its name and its neighbours; None: it is not of a data set known here."""
    for pattern, reader in READERS:
        if re.fullmatch(pattern, path.name) and path.is_file():
            bare = path.name in ("train", "test")  # of CIFAR-100; many files are called so
            return None if bare and not (path.parent / "meta").is_file() else reader
    return None


def read_stack(path: Path) -> Stack:
    """Open a file for which there is a reader.

    Raises:
        InputError: it is damaged, or not what its name says.
    """
    reader = reader_of(path)
    if reader is None:
        raise InputError(f"{path.name}: not a file of CIFAR, MNIST or SVHN")
    try:
        return reader(path)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # gzip, pickle and MATLAB files fail in many ways
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(f"{path.name}: not readable as a file of its data set ({reason}); get it again") from error


def _cifar_batch(path: Path) -> Stack:
    """The Python version: https://www.cs.toronto.edu/~kriz/cifar.html, "Dataset layout"."""
    batch = _unpickled(_content(path, MOST_PICKLE_BYTES))
    kind = "fine_labels" if b"fine_labels" in batch else "labels"
    meta = path.parent / ("meta" if kind == "fine_labels" else "batches.meta")
    names = _unpickled(_content(meta, MOST_NAMES_BYTES)) if meta.is_file() else {}
    classes = names.get(b"fine_label_names" if kind == "fine_labels" else b"label_names", ())
    images = batch[b"data"].reshape(-1, 3, 32, 32)  # rows of all red, all green, all blue
    return Stack(
        path, np.moveaxis(images, 1, 3), _labels(batch[kind.encode()]), tuple(name.decode() for name in classes)
    )


def _cifar_binary(path: Path) -> Stack:
    """The binary version: one label, of CIFAR-100 a coarse and a fine one, then 3 × 32 × 32 bytes."""
    hundred = path.name in ("train.bin", "test.bin")
    record = np.dtype([("labels", np.uint8, (2 if hundred else 1,)), ("pixels", np.uint8, (3, 32, 32))])
    size = path.stat().st_size
    if not size or size % record.itemsize:
        raise InputError(f"{path.name}: {size} bytes are no whole number of images of {record.itemsize}; get it again")
    records = np.memmap(path, record, "r")
    names = path.parent / ("fine_label_names.txt" if hundred else "batches.meta.txt")
    classes = _content(names, MOST_NAMES_BYTES).decode("utf-8").split() if names.is_file() else ()
    return Stack(path, np.moveaxis(records["pixels"], 1, 3), _labels(records["labels"][:, -1]), tuple(classes))


def _idx(path: Path) -> Stack:
    """MNIST's format: http://yann.lecun.com/exdb/mnist/, "File formats"; Fashion-MNIST and others use it too."""
    labels = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    beside = next((file for file in (labels, _other_packing(labels)) if file.is_file()), None)
    return Stack(path, _idx_array(path, 3)[..., None], None if beside is None else _labels(_idx_array(beside, 1)), ())


def _other_packing(path: Path) -> Path:
    return path.with_suffix("") if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")


def _idx_array(path: Path, rank: int) -> np.ndarray:
    """Two zeros, 8 for bytes, the rank, the sides, the values."""
    packed = path.suffix == ".gz"
    with gzip.open(path) if packed else path.open("rb") as file:
        head = file.read(4 + 4 * rank)
        if head[:4] != bytes((0, 0, 8, rank)) or len(head) < 4 + 4 * rank:
            raise InputError(f"{path.name}: no IDX file of bytes with {rank} dimensions; get it again")
        shape = tuple(int(side) for side in np.frombuffer(head, ">u4", rank, 4))
        size = int(np.prod(shape, dtype=np.float64))
        if packed and size > MOST_IDX_BYTES:
            raise InputError(
                f"{path.name}: its header promises {size:,} bytes, and at most {MOST_IDX_BYTES:,} are unpacked; "
                "unpack it, or get it again"
            )
        if not packed:
            return (
                np.memmap(path, np.uint8, "r", offset=4 + 4 * rank, shape=shape) if size else np.empty(shape, np.uint8)
            )
        data = file.read(size)
    if len(data) < size:
        raise InputError(f"{path.name}: ends after {len(data)} of {size} bytes; get it again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _svhn(path: Path) -> Stack:
    """The cropped digits: http://ufldl.stanford.edu/housenumbers/, "Format 2", a MATLAB file of version 5."""
    with path.open("rb") as file:
        if file.read(10) == b"MATLAB 7.3":
            raise InputError(f"{path.name}: a MATLAB file of version 7.3; save it as version 7")
    _check_unpacked(path)
    arrays = _matlab_arrays(path)
    if "X" not in arrays or "y" not in arrays:
        raise InputError(f"{path.name}: has no arrays X and y; SVHN's cropped digits have")
    # X is (32, 32, 3, N); y is (N, 1), with 10 for the digit 0.
    return Stack(path, np.moveaxis(arrays["X"], 3, 0), _labels(arrays["y"].reshape(-1) % 10), ())


def _matlab_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays X and y of a MATLAB file, read in a process of its own: scipy's reader may die of a damaged one.

    Raises:
        InputError: it did, or could not read the file.
    """
    with tempfile.TemporaryDirectory(prefix="filterscope-", ignore_cleanup_errors=True) as place:
        # -P: neither the user's folder nor the script's is searched for modules
        command = [sys.executable, "-P", "-c", MATLAB_SCRIPT, str(path.absolute()), place]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
        if ended.returncode:
            lines = ended.stderr.strip().splitlines() or ["its reader died"]
            raise InputError(f"{path.name}: cannot be read ({lines[-1][:120]}); get it again")
        # Mapped, not read: a file that is removed stays as long as somebody maps it.
        return {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in Path(place).glob("*.npy")}


def _check_unpacked(path: Path) -> None:
    """Check that a MATLAB file's variables are of the limit's size when they are unpacked, without holding them.

    Each is a tag (type and bytes, MAT-File Format, "Data Elements") and as a rule a zlib stream.

    Raises:
        InputError: they are larger, or the file ends before one does.
    """
    total = 0
    there = path.stat().st_size
    with path.open("rb") as file:
        order = "<" if file.read(128)[126:] == b"IM" else ">"
        while len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f"{order}II", tag)
            if file.tell() + size > there:
                raise ValueError("it ends too early")
            if kind != COMPRESSED:
                total += size
                file.seek(size, io.SEEK_CUR)
            else:
                total += _unpacked_size(file, size, MOST_MAT_BYTES - total)
            if total > MOST_MAT_BYTES:
                raise InputError(
                    f"{path.name}: has more than {MOST_MAT_BYTES:,} bytes when unpacked, the largest file of SVHN has "
                    "1.64 GB; get it again"
                )


def _unpacked_size(file: BinaryIO, size: int, most: int) -> int:
    """Bytes of the next `size` bytes when unpacked; counted no further than to the first beyond `most`."""
    unpacker, total = zlib.decompressobj(), 0
    while size > 0:
        packed = file.read(min(size, PIECE))
        size -= len(packed)
        while packed and total <= most:
            total += len(unpacker.decompress(packed, PIECE))
            packed = unpacker.unconsumed_tail
    return total


def _content(path: Path, most: int) -> bytes:
    """All of a file.

    Raises:
        InputError: it has more bytes than a file of its kind.
    """
    size = path.stat().st_size
    if size > most:
        raise InputError(f"{path.name}: has {size:,} bytes, where a file of its data set has at most {most:,}")
    return path.read_bytes()


def _labels(values: Any) -> np.ndarray:
    """(N,) whole numbers; nested lists, which a small pickle can make endless, are not followed."""
    if isinstance(values, (list, tuple)) and not all(isinstance(value, int) for value in values):
        raise ValueError("its labels are no whole numbers")
    return np.asarray(values, np.int64)


def _unpickled(data: bytes) -> Mapping[bytes, Any]:
    table = _NumbersOnly(io.BytesIO(data), encoding="bytes").load()
    if not isinstance(table, dict):
        raise ValueError(f"holds a {type(table).__name__}, not a table of arrays")
    return table


def _dtype(name: str | bytes, align: int = 0, copy: int = 1) -> np.dtype[Any]:
    """What old files ask of numpy.dtype, whose switches are no numbers any more."""
    kind = np.dtype(name.decode("ascii") if isinstance(name, bytes) else name, align=bool(align), copy=bool(copy))
    if kind.kind not in "biuf":
        raise pickle.UnpicklingError(f"holds arrays of {kind}; images are numbers")
    return kind


def _bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes for Python 2 to read."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"holds text in {encoding}")
    return text.encode("latin1")


class _NumbersOnly(pickle.Unpickler):
    """Reads arrays, lists and strings. Any other pickle is a program, which nobody needs to run for pictures."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return super().find_class("numpy._core.multiarray", name)
        allowed: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): _dtype,
            ("_codecs", "encode"): _bytes,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"asks for {module}.{name}, which is not run; a data set needs arrays alone")
        return allowed[module, name]


READERS: tuple[tuple[str, Callable[[Path], Stack]], ...] = (  # pattern of the file's name → what reads it
    (r"data_batch_\d+|test_batch|train|test", _cifar_batch),
    (r"data_batch_\d+\.bin|test_batch\.bin|train\.bin|test\.bin", _cifar_binary),
    (r".*images[.-]idx3-ubyte(\.gz)?", _idx),
    (r".*_32x32\.mat", _svhn),
)
