"""A data set: very many images, found by name, numbered, read one at a time.

Folders with classes as sub-folders, published files (`published_formats`), and all that `images` reads. What is held is
a name an image at most. Knows nothing of networks but their `InputSpec`.
"""

from __future__ import annotations

import bisect
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from filterscope.analyzer.data import images
from filterscope.analyzer.data.images import ImageSource, Photo
from filterscope.analyzer.data.published_formats import Stack, read_stack, reader_of
from filterscope.analyzer.data.white import Levels, check_white
from filterscope.analyzer.network.inputs import InputSpec
from filterscope.converters.errors import InputError

SMALL = 1 << 25  # bytes of files up to which a data set is told by its content, beyond by names, sizes and times


class Part(Protocol):
    """Some of the images."""

    def __len__(self) -> int:
        """How many."""

    def read(self, index: int) -> Photo:
        """One of them.

        Raises:
            InputError: it cannot be read.
        """

    def source(self, index: int) -> str:
        """Its file, and its number where the file has several."""

    def name(self, index: int) -> str:
        """The same without the folder that the data set lies in."""

    def label(self, index: int) -> str | int | None:
        """The name of its class, or the number of it; None where neither is known."""

    def number(self, index: int) -> int | None:
        """The number of its class; None where there is none."""

    def class_names(self) -> Sequence[str]:
        """What the numbers of classes stand for, in order; empty where no one says."""

    def files(self) -> Iterator[tuple[str, Path]]:
        """What the images are read from: names that do not depend on where the data set lies, and paths."""


@dataclass(frozen=True, slots=True, eq=False)
class _FolderPart:
    """Picture files of a folder and all folders in it; a file's own folder is its class."""

    root: Path
    names: Sequence[str]  # relative, with slashes
    white: float | None = None  # as in `images.find`

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> Photo:
        return images.read(ImageSource(self.root / self.names[index], self.names[index], white=self.white))

    def source(self, index: int) -> str:
        return str(self.root / self.names[index])

    def name(self, index: int) -> str:
        return self.names[index]

    def label(self, index: int) -> str | None:
        return _folder_of(self.names[index])

    def number(self, index: int) -> None:
        return None

    def class_names(self) -> Sequence[str]:
        return ()

    def files(self) -> Iterator[tuple[str, Path]]:
        return ((name, self.root / name) for name in self.names)


@dataclass(frozen=True, slots=True, eq=False)
class _StackPart:
    """A published file."""

    stack: Stack

    def __len__(self) -> int:
        return len(self.stack.images)

    def read(self, index: int) -> Photo:
        pixels = np.ascontiguousarray(self.stack.images[index])
        return Photo(self.name(index), pixels, (pixels.shape[0], pixels.shape[1]), None)

    def source(self, index: int) -> str:
        return f"{self.stack.path}[{index}]"

    def name(self, index: int) -> str:
        return f"{self.stack.path.name}[{index}]"

    def label(self, index: int) -> str | int | None:
        return None if self.stack.labels is None else _named(int(self.stack.labels[index]), self.stack.classes)

    def number(self, index: int) -> int | None:
        return None if self.stack.labels is None else int(self.stack.labels[index])

    def class_names(self) -> Sequence[str]:
        return self.stack.classes

    def files(self) -> Iterator[tuple[str, Path]]:
        yield self.stack.path.name, self.stack.path


@dataclass(frozen=True, slots=True, eq=False)
class _ArrayPart:
    """A whole .npz or .npy file."""

    path: Path
    count: int
    labels: np.ndarray | None
    classes: tuple[str, ...]
    white: float | None = None  # as in `images.find`

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Photo:
        return images.read(ImageSource(self.path, self.name(index), index, white=self.white))

    def source(self, index: int) -> str:
        return f"{self.path}[{index}]"

    def name(self, index: int) -> str:
        return f"{self.path.name}[{index}]"

    def label(self, index: int) -> str | int | None:
        return None if self.labels is None else _named(int(self.labels[index]), self.classes)

    def number(self, index: int) -> int | None:
        return None if self.labels is None else int(self.labels[index])

    def class_names(self) -> Sequence[str]:
        return self.classes

    def files(self) -> Iterator[tuple[str, Path]]:
        yield self.path.name, self.path


@dataclass(frozen=True, slots=True, eq=False)
class _ListPart:
    """Single files, globs, and ranges of array files."""

    sources: Sequence[ImageSource]

    def __len__(self) -> int:
        return len(self.sources)

    def read(self, index: int) -> Photo:
        return images.read(self.sources[index])

    def source(self, index: int) -> str:
        one = self.sources[index]
        return str(one.path) if one.index is None else f"{one.path}[{one.index}]"

    def name(self, index: int) -> str:
        return self.sources[index].name

    def label(self, index: int) -> str | int | None:
        one = self.sources[index]
        if one.index is None:
            return _folder_of(one.name)
        _, labels, classes = images.array_file(one.path)
        return None if labels is None else _named(int(labels[one.index]), classes)

    def number(self, index: int) -> int | None:
        one = self.sources[index]
        labels = None if one.index is None else images.array_file(one.path)[1]
        return None if labels is None else int(labels[one.index])

    def class_names(self) -> Sequence[str]:
        files = dict.fromkeys(one.path for one in self.sources if one.index is not None)
        return _common_names([images.array_file(path)[2] for path in files])

    def files(self) -> Iterator[tuple[str, Path]]:
        return ((one.name, one.path) for one in self.sources)


class DataSet:
    """Images under numbers from 0.

    Args:
        parts: none of them empty.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._fingerprint = ""
        self._starts = np.cumsum([0, *map(len, self.parts)]).tolist()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _at(self, number: int) -> tuple[Part, int]:
        which = bisect.bisect_right(self._starts, number) - 1
        return self.parts[which], number - self._starts[which]

    def read(self, number: int) -> Photo:
        """One image.

        Raises:
            InputError: it cannot be read.
        """
        part, index = self._at(number)
        return part.read(index)

    def source(self, number: int) -> str:
        """Its file, and its number where the file has several."""
        part, index = self._at(number)
        return part.source(index)

    def name(self, number: int) -> str:
        """What it is called inside the data set."""
        part, index = self._at(number)
        return part.name(index)

    def label(self, number: int, names: Sequence[str] = ()) -> str | None:
        """The name of its class; a number that the data set itself does not name is looked up in `names`."""
        part, index = self._at(number)
        label = part.label(index)
        return str(_named(label, names)) if isinstance(label, int) else label

    def class_of(self, number: int) -> tuple[int | None, str | None]:
        """The number and the name of its class, as the data set itself has them; None where it has none."""
        part, index = self._at(number)
        label = part.label(index)
        return part.number(index), label if isinstance(label, str) else None

    def is_labelled(self) -> bool:
        """Whether the class of any image is known."""
        return any(self.class_of(number) != (None, None) for number in range(len(self)))

    def class_names(self) -> Sequence[str]:
        """What the numbers of classes stand for, in order; empty where no one says, or files disagree."""
        return _common_names([part.class_names() for part in self.parts])

    def fingerprint(self) -> str:
        """A hash that tells this data set from others, wherever it lies; found once, as the list of images is."""
        if not self._fingerprint:
            self._fingerprint = self._hashed()
        return self._fingerprint

    def _hashed(self) -> str:
        files = [entry for part in self.parts for entry in dict.fromkeys(part.files())]
        sizes = [_size_and_time(path) for _, path in files]
        content = sum(size for size, _ in sizes) <= SMALL
        digest = hashlib.sha256()
        for (name, path), (size, modified) in zip(files, sizes, strict=True):
            own = hashlib.sha256(path.read_bytes()).hexdigest() if content and size >= 0 else f"{size} {modified}"
            digest.update(f"{name}\0{own}\0".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:32]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some images at the network's size."""

    numbers: np.ndarray  # (N,) int64, rising; of the images that could be read
    pixels: np.ndarray  # (N, H, W, C) uint8
    end: int  # the number after the last that was tried
    broken: tuple[str, ...]  # of those that could not be read: why
    resized: int  # how many had another size
    levels: Levels = field(default_factory=Levels)  # how much of their range they use


def batches(
    data: DataSet, spec: InputSpec, resize: str, size: int, *, start: int = 0, boundary: int = 1 << 62
) -> Iterator[Batch]:
    """The images in order, the next batch being read while the caller works on one.

    Args:
        resize: as in `analyzer.data.images.fit`.
        size: images tried for a batch.
        start: number of the first image.
        boundary: no batch reaches over a multiple of it.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting = None
        while start < len(data):
            end = min(start + size, len(data), (start // boundary + 1) * boundary)
            following = pool.submit(read_batch, data, range(start, end), spec, resize=resize)
            if waiting is not None:
                yield waiting.result()
            waiting, start = following, end
        if waiting is not None:
            yield waiting.result()


def read_batch(data: DataSet, numbers: Sequence[int], spec: InputSpec, resize: str) -> Batch:
    """Some images by number; `broken` lists those that cannot be read or whose channels do not fit."""
    pixels = np.empty((len(numbers), spec.height, spec.width, spec.channels), np.uint8)
    good: list[int] = []
    broken: list[str] = []
    resized = 0
    levels = Levels()
    for number in numbers:
        try:
            photo = data.read(number)
            pixels[len(good)] = images.fit(photo, spec, resize)
        except InputError as error:
            broken.append(str(error))
            continue
        good.append(number)
        images.add_levels(levels, photo)
        resized += photo.pixels.shape[:2] != (spec.height, spec.width)
    return Batch(
        numbers=np.array(good, np.int64),
        pixels=pixels[: len(good)],
        end=numbers[-1] + 1,
        broken=tuple(broken),
        resized=resized,
        levels=levels,
    )


def open_dataset(sources: Sequence[str | Path], white: float | None = None) -> DataSet:
    """The images that some names stand for, in order.

    Args:
        sources: folders (pictures at any depth, each one's own folder being its class, and published files; hidden
            ones and array files are passed over); files of CIFAR, MNIST and SVHN; all that
            `analyzer.data.images.find` takes.
        white: the number that is white, as in `analyzer.data.images.find`.

    Raises:
        InputError: a name that stands for no image, or a file that cannot be opened.
        SettingsError: `white` is not above 0.
    """
    check_white(white)
    try:
        parts = [part for source in sources for part in _parts(source, white) if len(part)]
    except OSError as error:
        raise InputError(f"{error.filename or 'data set'}: cannot be looked at ({error.strerror})") from error
    if not parts:
        raise InputError("no data set: name folders, picture files, .npz or .npy files, or files of CIFAR, MNIST, SVHN")
    files = [path for part in parts for path in _array_files(part)]
    common = images.common_white(dict.fromkeys(files), white)
    return DataSet([_with_white(part, white, common) for part in parts])


def _array_files(part: Part) -> list[Path]:
    if isinstance(part, _ArrayPart):
        return [part.path]
    return [one.path for one in part.sources if one.index is not None] if isinstance(part, _ListPart) else []


def _with_white(part: Part, white: float | None, common: Mapping[Path, float | None]) -> Part:
    """The same images, with what is white in them: in all float arrays of the data set the same number."""
    if isinstance(part, _ArrayPart):
        return replace(part, white=common[part.path])
    if isinstance(part, _FolderPart):
        return replace(part, white=white)
    if isinstance(part, _ListPart):
        ends = [white if one.index is None else common[one.path] for one in part.sources]
        return _ListPart([replace(one, white=end) for one, end in zip(part.sources, ends, strict=True)])
    return part


def _parts(source: str | Path, white: float | None) -> list[Part]:
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder_parts(path)
    if path.is_file() and reader_of(path) is not None:
        return [_StackPart(read_stack(path))]
    if path.is_file() and path.suffix.lower() in images.ARRAY_SUFFIXES:
        count, labels, classes = images.array_file(path)
        if not count:
            raise InputError(f"{path}: holds no images")
        return [_ArrayPart(path, count, labels, classes)]
    return [_ListPart(images.find([source], white))]


def _folder_parts(root: Path) -> list[Part]:
    names: list[str] = []
    stacks: list[Part] = []
    for folder, inner, files in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder, name)
            if images.is_image(path):
                names.append(path.relative_to(root).as_posix())
            elif reader_of(path) is not None:
                stacks.append(_StackPart(read_stack(path)))
    parts = [*([_FolderPart(root, names)] if names else []), *stacks]
    if not parts:
        raise InputError(
            f"{root}: no pictures at any depth, and no files of CIFAR, MNIST or SVHN; array files are named themselves "
            "(file.npz)"
        )
    return parts


def _common_names(lists: Sequence[Sequence[str]]) -> Sequence[str]:
    """The names of classes that all lists with any agree on; empty where there are none."""
    different = {tuple(names) for names in lists if names}
    return different.pop() if len(different) == 1 else ()


def _folder_of(name: str) -> str | None:
    """The class that a picture's folder stands for; None where it lies in no folder of its own."""
    return name.split("/")[-2] if "/" in name else None


def _named(label: int, classes: Sequence[str]) -> str | int:
    return classes[label] if 0 <= label < len(classes) else label


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError:  # gone since it was found: reading it will say so
        return -1, 0
    return state.st_size, state.st_mtime_ns
