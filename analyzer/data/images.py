"""The user's images: found by name, read one at a time, brought to the network's size.

Files, folders, globs and arrays (.npz, .npy); grey, transparent, 16-bit, rotated and odd-sized pictures all end as
8-bit pixels, by the one rule of `white`. Colour profiles are not applied, as training pipelines do not either.
Knows nothing of networks but their `InputSpec`.
"""

from __future__ import annotations

import contextlib
import glob
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from filterscope.analyzer.data.archives import Archive, open_npy
from filterscope.analyzer.data.decoding import decode
from filterscope.analyzer.data.limits import MOST_FILE_BYTES, MOST_PICTURE_NUMBERS, MOST_PIXELS
from filterscope.analyzer.data.white import (
    Levels,
    White,
    check_range,
    check_white,
    highest_of,
    to_8_bit,
    white_of,
    white_of_floats,
)
from filterscope.analyzer.network.inputs import InputSpec
from filterscope.converters.errors import InputError, SettingsError, setting

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm"}
    | {".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
ARRAY_SUFFIXES = frozenset({".npy", ".npz"})
ARRAY_KEYS = ("x_test", "x", "images", "data")  # of an .npz, the first that it has
LABEL_KEYS = {"x_test": ("y_test",), "x": ("y", "labels"), "x_train": ("y_train",)}  # otherwise labels, then y
RESIZES = ("auto", "crop", "cover", "squash", "fit", "none")
CROPPED = ("imagenet", "caffe-bgr")  # presets of networks that are evaluated on the centre of a larger picture
MOST_SPARE = 8  # times the pixels wanted, that resizing all of a picture may make
CENTRE = 0.875  # share of the resized picture's side that a centre crop keeps: 224 of 256
GREY = 128  # border of a picture that does not fill the input


@dataclass(frozen=True, slots=True)
class ImageSource:
    """One image, not read yet."""

    path: Path
    name: str  # "photo.jpg", "cat/1.jpg" within a folder of folders, "digits.npz[17]"
    index: int | None = None  # which image of an array file; None: a picture file
    by_name: bool = field(default=False, compare=False)  # the file itself was named, not a folder or glob that holds it
    white: float | None = field(default=None, compare=False)  # as in `find`


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """One image as read."""

    name: str
    pixels: np.ndarray  # (H, W, C) uint8; C is 1 or 3, or whatever an array has
    size: tuple[int, int]  # height and width as the picture is meant to be seen: after its EXIF rotation
    label: int | None  # class, where the array file has labels
    white: float = 255.0  # the number that became 255
    highest: float | None = None  # of the numbers as they were read; None: that of the pixels
    free: bool = False  # whether `white` could be named by the user: more than 8 bits, or an array


@dataclass(frozen=True, slots=True)
class PhotoInfo:
    """An image's name, file, size and label, without its pixels."""

    name: str
    path: Path
    size: tuple[int, int]  # height and width before resizing
    label: int | None


@dataclass(frozen=True, slots=True, eq=False)
class _Arrays:
    """An open array file."""

    images: np.ndarray  # (N, H, W, C) of any number type; of a packed file, its bytes (B,)
    offsets: np.ndarray | None  # of a packed file: image i is the encoded file images[offsets[i]:offsets[i + 1]]
    labels: np.ndarray | None  # (N,)
    low: float  # lowest and highest number in it; of bytes, the ends of their range
    high: float
    classes: tuple[str, ...] = ()  # what the labels are called

    def __len__(self) -> int:
        return len(self.images) if self.offsets is None else len(self.offsets) - 1


def find(sources: Iterable[str | Path], white: float | None = None) -> list[ImageSource]:
    """The images that some names stand for, in order, each once; nothing is decoded.

    Args:
        sources: files; folders (their own images, then those of their sub-folders in turn: the first of each, then the
            second, so that the first dozen are not all of one class; hidden files and other kinds of file are passed
            over); globs, with ** for any depth, in the same order; array files, with a range of images as in
            "digits.npz:0-99" (both ends belong to it) or "digits.npz:17".
        white: the number that is white in pixels of more than 8 bits and in arrays, where a file does not say it; None:
            the most that their type holds, of floats 1, or 255 for all float arrays where one of them goes beyond 1.

    Raises:
        InputError: a name that stands for no image, or an array file that cannot be read or goes beyond white.
        SettingsError: `white` is not above 0.
    """
    check_white(white)
    unique: dict[tuple[Path, int | None], ImageSource] = {}
    for source in sources:
        try:
            images = _find_one(str(source))
        except OSError as error:
            raise InputError(f"{source}: cannot be looked at ({error.strerror})") from error
        for image in images:
            unique.setdefault((image.path, image.index), image)
    if not unique:
        raise InputError("no images: name picture files, folders, globs, .npz or .npy files")
    files = dict.fromkeys(image.path for image in unique.values() if image.index is not None)
    common = common_white(files, white)
    return [replace(image, white=white if image.index is None else common[image.path]) for image in unique.values()]


def common_white(files: Iterable[Path], white: float | None = None) -> dict[Path, float | None]:
    """What is white in each of some array files: one number for all float arrays of a data set.

    Raises:
        InputError: a file cannot be read, or goes beyond white.
    """
    opened = {path: _range_of(path) for path in files}
    floats = white_of_floats(high for dtype, _, high in opened.values() if dtype.kind == "f")
    whites: dict[Path, float | None] = {}
    for path, (dtype, low, high) in opened.items():
        is_float = dtype.kind == "f"
        whites[path] = floats if white is None and is_float else white
        check_range((low, high), _white_in(dtype, white, whites[path]), path.name, floats=is_float)
    return whites


def _white_in(dtype: np.dtype, stated: float | None, common: float | None) -> White:
    """What is white in arrays of a type; only what the user states may be exceeded."""
    used = white_of(dtype, None, common)
    return used if stated is not None else White(used.value)


def photos_of(arrays: Mapping[str, np.ndarray], white: float | None = None) -> list[Photo]:
    """Arrays of a Python caller as pictures of one data set.

    Args:
        arrays: (H, W) or (H, W, C) numbers in RGB order, by name.
        white: as in `find`.

    Raises:
        InputError: one is no picture, or goes beyond white.
        SettingsError: `white` is not above 0.
    """
    check_white(white)
    for name, array in arrays.items():
        if array.ndim not in (2, 3) or 0 in array.shape:
            raise InputError(f"{name}: a picture is (H, W) or (H, W, C), got shape {array.shape}")
    ends = {name: _ends(name, array) for name, array in arrays.items()}
    floats = white_of_floats(ends[name][1] for name, array in arrays.items() if array.dtype.kind == "f")
    photos = []
    for name, array in arrays.items():
        is_float = array.dtype.kind == "f"
        used = _white_in(array.dtype, white, floats if white is None and is_float else white)
        check_range(ends[name], used, name, floats=is_float)
        photos.append(_photo(array if array.ndim == 3 else array[..., None], name, None, used))
    return photos


def _photo(numbers: np.ndarray, name: str, label: int | None, used: White) -> Photo:
    pixels = np.array(to_8_bit(numbers, used))
    size = (pixels.shape[0], pixels.shape[1])
    return Photo(name, pixels, size, label, white=used.value, highest=highest_of(numbers), free=True)


def read(source: ImageSource) -> Photo:
    """Read one image.

    The EXIF rotation is applied, transparent parts are blended on white, of an animation the first frame is taken.
    Numbers of more than 8 bits become 8-bit pixels by the rule of `analyzer.data.white`.

    Raises:
        InputError: the file is missing, empty, truncated, too large, or no image, or its numbers lie outside black and
            white.
    """
    if source.index is None:
        return _read_picture(source)
    arrays = _open_arrays(source.path)
    index = source.index
    if index >= len(arrays):
        raise InputError(f"{source.path.name}: holds images 0 to {len(arrays) - 1}, not {index}")
    label = None if arrays.labels is None else int(arrays.labels[index])
    if arrays.offsets is not None:
        start, end = arrays.offsets[index : index + 2]
        return _decoded(io.BytesIO(arrays.images[start:end].tobytes()), source, label)
    return _photo(arrays.images[index], source.name, label, white_of(arrays.images.dtype, None, source.white))


def array_file(path: Path) -> tuple[int, np.ndarray | None, tuple[str, ...]]:
    """What an array file holds: the number of its images, their classes (N,), and what the classes are called.

    Raises:
        InputError: it cannot be read.
    """
    arrays = _open_arrays(path)
    return len(arrays), arrays.labels, arrays.classes


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is a picture; hidden files are none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def fit(photo: Photo, spec: InputSpec, resize: str = "auto") -> np.ndarray:
    """Fit a picture to the network's size and channels.

    Args:
        resize: "crop": the shorter side to input size / 0.875, then the centre (how ImageNet networks are evaluated);
            "cover": the centre of the smallest picture that covers the input; "squash": without regard to the aspect;
            "fit": all of the picture, on mid grey; "auto": untouched where the size is right already, otherwise
            "crop" for the presets imagenet and caffe-bgr and "cover" for all others; "none": refused unless right.

    Returns:
        (H, W, C) uint8, RGB order. Resizing is bilinear and antialiased.

    Raises:
        InputError: a picture with another number of channels than a multi-band network takes.
        SettingsError: an unknown `resize`, or another size where none is to be resized.
    """
    if resize not in RESIZES:
        fault = f"give one of {', '.join(RESIZES)}"
        raise SettingsError(f"{setting('resize', resize)}: {fault}", field="resize", value=resize)
    pixels = _with_channels(photo, spec)
    height, width = pixels.shape[:2]
    if resize == "none":
        if (height, width) != (spec.height, spec.width):
            raise SettingsError(
                f"{photo.name}: has {height} × {width} pixels and the network takes {spec.height} × {spec.width}; "
                f"give another {setting('resize')}, or images of that size",
                field="resize",
                value=resize,
            )
        return pixels
    if resize == "auto":
        if (height, width) == (spec.height, spec.width):
            return pixels
        resize = "crop" if spec.preprocessing.name in CROPPED else "cover"
    if resize == "squash":
        return _resample(pixels, spec.height, spec.width, (0.0, 0.0, width, height))
    if resize == "fit":
        scale = min(spec.height / height, spec.width / width)
        inner = [max(1, round(side * scale)) for side in (height, width)]
        canvas = np.full((spec.height, spec.width, spec.channels), GREY, np.uint8)
        top, left = (spec.height - inner[0]) // 2, (spec.width - inner[1]) // 2
        small = _resample(pixels, inner[0], inner[1], (0.0, 0.0, width, height))
        canvas[top : top + inner[0], left : left + inner[1]] = small
        return canvas
    return _cover(pixels, spec.height, spec.width, CENTRE if resize == "crop" else 1.0)


def load(
    sources: Sequence[ImageSource],
    spec: InputSpec,
    resize: str = "auto",
    limit: int | None = None,
    *,
    skip_broken: bool = False,
    broken: list[str] | None = None,
    levels: Levels | None = None,
) -> Iterator[tuple[PhotoInfo, np.ndarray]]:
    """Read and fit images one after the other.

    Args:
        sources: from `find`.
        limit: stop after so many images.
        skip_broken: go on after an image that cannot be read, unless it was asked for by its own name; its error's
            text is appended to `broken`.
        levels: to which is added how much of their range the images use.

    Yields:
        What to remember of each image, and its (H, W, C) uint8 pixels from `fit`.

    Raises:
        InputError: an image cannot be read, or with `skip_broken` not one could.
    """
    failures = [] if broken is None else broken
    count = 0
    for source in sources:
        if limit is not None and count >= limit:
            return
        try:
            photo = read(source)
            pixels = fit(photo, spec, resize)
        except InputError as error:
            if not skip_broken or source.by_name:
                raise
            failures.append(str(error))
            continue
        count += 1
        if levels is not None:
            add_levels(levels, photo)
        yield PhotoInfo(photo.name, source.path, photo.size, photo.label), pixels
    if not count and failures:
        raise InputError(f"none of the {len(failures)} images can be used; the first: {failures[0]}")


def add_levels(levels: Levels, photo: Photo) -> None:
    """Count how much of its range a picture uses."""
    highest = highest_of(photo.pixels) if photo.highest is None else photo.highest
    levels.add(photo.white, photo.free, highest)


def _find_one(text: str) -> list[ImageSource]:
    path = Path(text).expanduser()
    if path.is_dir():
        return _find_in_folder(path)
    if path.is_file():
        return (
            _find_in_array(path, None)
            if path.suffix.lower() in ARRAY_SUFFIXES
            else [ImageSource(path, path.name, by_name=True)]
        )
    ranged = re.fullmatch(r"(.+\.np[yz]):(\d+)(?:-(\d+))?", text, re.IGNORECASE)
    if ranged:
        path = Path(ranged[1]).expanduser()
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        return _find_in_array(path, (int(ranged[2]), int(ranged[3] or ranged[2])))
    if glob.has_magic(text):
        root = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
        matches = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 (absolute too)
        images = [
            ImageSource(match, match.relative_to(root).as_posix())
            for match in _in_turn([match for match in matches if is_image(match)], root)
        ]
        if not images:
            raise InputError(f"{text}: no image matches; looked for {_suffixes()} among {len(matches)} matches")
        return images
    raise InputError(f"{text}: no such file or folder")


def _find_in_folder(folder: Path) -> list[ImageSource]:
    entries = sorted(folder.iterdir())
    inner = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    files = [*entries, *(file for subfolder in inner for file in sorted(subfolder.iterdir()))]
    pictures = _in_turn([file for file in files if is_image(file)], folder)
    images = [ImageSource(file, file.relative_to(folder).as_posix()) for file in pictures]
    if not images:
        raise InputError(
            f"{folder}: no images in this folder or directly in its sub-folders; looked for {_suffixes()} "
            f"(array files are named themselves: {setting('images', 'file.npz')}; deeper folders by a glob: folder/**)"
        )
    return images


def _in_turn(files: Sequence[Path], root: Path) -> list[Path]:
    """The files of the root itself, then the first of each other folder, the second of each, and so on."""
    seen: Counter[Path] = Counter()
    turns: list[tuple[int, Path]] = []
    for file in files:
        seen[file.parent] += file.parent != root
        turns.append((seen[file.parent], file))
    return [file for _, file in sorted(turns, key=lambda turn: turn[0])]


def _find_in_array(path: Path, ends: tuple[int, int] | None) -> list[ImageSource]:
    count = len(_open_arrays(path))
    first, last = ends or (0, count - 1)
    if count == 0:
        raise InputError(f"{path.name}: holds no images")
    if first > last or last >= count:
        raise InputError(f"{path.name}: holds images 0 to {count - 1}; {first}-{last} is no range of them")
    return [ImageSource(path, f"{path.name}[{index}]", index) for index in range(first, last + 1)]


def _suffixes() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))


def _open_arrays(path: Path) -> _Arrays:
    try:
        state = path.stat()
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error.strerror})") from error
    return _open_arrays_of(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)  # the file being read, and one more; time and size in the key notice a change
def _open_arrays_of(path: Path, _modified: int, size: int) -> _Arrays:
    if size == 0:
        raise InputError(f"{path.name}: the file is empty")
    try:
        if path.suffix.lower() == ".npy":
            return _plain_arrays(path.name, open_npy(path), None)
        with path.open("rb") as file:
            return _read_archive(path.name, Archive(file, path.name))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # zip, zlib and NumPy's own reader each have several kinds
        raise InputError(f"{path.name}: not a readable array file ({_first_line(error)})") from error


def _read_archive(name: str, archive: Archive) -> _Arrays:
    keys = archive.keys
    key = next((key for key in ARRAY_KEYS if key in keys), None)
    if key is None:
        stacks = [key for key in keys if len(archive.header(key).shape) in (3, 4)]
        if len(stacks) != 1:
            raise InputError(
                f"{name}: has {', '.join(keys) or 'no arrays'}; call the images one of {', '.join(ARRAY_KEYS)}"
            )
        key = stacks[0]
    images = archive.read(key)
    label_key = next((k for k in (*LABEL_KEYS.get(key, ()), "labels", "y") if k in keys), None)
    labels = None if label_key is None else archive.read(label_key)
    if labels is not None and labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
        labels = None  # names, one-hot rows, masks: nothing that is one class an image
    if "offsets" in keys and images.ndim == 1:
        arrays = _packed_arrays(name, images, archive.read("offsets"), labels)
    else:
        arrays = _plain_arrays(name, images, labels)
    if labels is not None and len(labels) != len(arrays):
        raise InputError(f"{name}: {label_key} has {len(labels)} labels for {len(arrays)} images")
    return replace(arrays, classes=_class_names(archive))


def _class_names(archive: Archive) -> tuple[str, ...]:
    """What an archive calls its classes, where it has a list of names."""
    with contextlib.suppress(KeyError, ValueError, InputError):  # Python objects are not loaded for the sake of names
        names = archive.read("classes")
        if names.ndim == 1 and names.dtype.kind == "U":
            return tuple(names.tolist())
    return ()


def _packed_arrays(name: str, data: np.ndarray, offsets: np.ndarray, labels: np.ndarray | None) -> _Arrays:
    good = data.dtype == np.uint8 and offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) > 0
    ends = offsets.astype(np.int64) if good else np.zeros(1, np.int64)
    if not good or ends[0] < 0 or ends[-1] > len(data) or np.any(np.diff(ends) <= 0):
        raise InputError(f"{name}: offsets must rise from 0 to at most the {len(data)} bytes of data")
    return _Arrays(data, ends, labels, low=0.0, high=0.0)


def _plain_arrays(name: str, array: np.ndarray, labels: np.ndarray | None) -> _Arrays:
    if array.ndim == 3:
        # A stack of grey pictures, unless the last axis can only be colours: no picture is 3 wide.
        array = array[None] if array.shape[2] in (3, 4) else array[..., None]
    elif array.ndim == 4:
        if array.shape[3] not in (1, 3, 4) and array.shape[1] < array.shape[3]:
            array = np.moveaxis(array, 1, 3)
    else:
        raise InputError(f"{name}: images are (N, H, W), (N, H, W, C) or (N, C, H, W), got shape {array.shape}")
    if 0 in array.shape[1:]:
        raise InputError(f"{name}: pictures of shape {array.shape[1:]} have no pixels")
    height, width, channels = array.shape[1:]
    if height * width > MOST_PIXELS or height * width * channels > MOST_PICTURE_NUMBERS:
        raise InputError(
            f"{name}: pictures of shape {array.shape[1:]} are too large; give smaller ones, or parts of them"
        )
    return _Arrays(array, None, labels, *_ends(name, array))


def _ends(name: str, array: np.ndarray) -> tuple[float, float]:
    """Lowest and highest number of a stack of pictures; of bytes, which are within their range anyway, 0 and 0."""
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: pixels of type {array.dtype}; give uint8, or floats in 0..1 or 0..255")
    if array.dtype.kind == "b":
        return 0.0, 1.0
    if array.dtype == np.uint8 or array.size == 0:
        return 0.0, 0.0
    return float(array.min()), float(array.max())


def _range_of(path: Path) -> tuple[np.dtype, float, float]:
    """Number type, lowest and highest number of an array file, as `_ends` gives them."""
    arrays = _open_arrays(path)
    return arrays.images.dtype, arrays.low, arrays.high


def _read_picture(source: ImageSource) -> Photo:
    path, name = source.path, source.name
    try:
        size = path.stat().st_size
        if size > MOST_FILE_BYTES:
            raise InputError(f"{name}: has {size:,} bytes, and at most {MOST_FILE_BYTES:,} are read of one picture")
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{name}: the file is empty")
            file.seek(0)
            return _decoded(file, source, None)
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or _first_line(error)})") from error


def _decoded(file: BinaryIO | io.BytesIO, source: ImageSource, label: int | None) -> Photo:
    decoded = decode(file, source.name, source.white)
    return Photo(
        name=source.name,
        pixels=decoded.pixels,
        size=decoded.size,
        label=label,
        white=decoded.white,
        highest=decoded.highest,
        free=decoded.deep,
    )


def _with_channels(photo: Photo, spec: InputSpec) -> np.ndarray:
    """The picture's pixels, (H, W, C) with C as the network takes."""
    channels = photo.pixels.shape[2]
    if channels == spec.channels:
        return photo.pixels
    if (channels, spec.channels) == (1, 3):
        return np.repeat(photo.pixels, 3, axis=2)
    if (channels, spec.channels) == (3, 1):
        return np.array(Image.fromarray(photo.pixels).convert("L"))[..., None]
    raise InputError(
        f"{photo.name}: has {channels} channels, the network takes {spec.channels}; "
        f"give .npy or .npz arrays of shape (N, H, W, {spec.channels})"
    )


def _cover(pixels: np.ndarray, height: int, width: int, centre: float) -> np.ndarray:
    """The centre of a picture scaled so that the input is `centre` of it, along the axis that has less to spare.

    All of the picture is resized and then cropped; of a very long one, no more than the part that is wanted, to which
    Pillow gives the same pixels but for a level here and there. The longer side is rounded to the nearest pixel, so
    that the aspect is kept best (torchvision's Resize cuts it off), and an odd margin leaves its smaller half above
    and on the left.
    """
    full_height, full_width = round(height / centre), round(width / centre)
    rows, columns = pixels.shape[:2]
    if full_height * columns >= full_width * rows:
        full_width = max(full_width, round(full_height * columns / rows))
    else:
        full_height = max(full_height, round(full_width * rows / columns))
    top, left = (full_height - height) // 2, (full_width - width) // 2
    if full_height * full_width <= MOST_SPARE * height * width:
        full = _resample(pixels, full_height, full_width, (0.0, 0.0, columns, rows))
        return full[top : top + height, left : left + width]
    y, x = rows / full_height, columns / full_width  # pixels of the picture to one of the resized picture
    box = (left * x, top * y, min((left + width) * x, columns), min((top + height) * y, rows))
    return _resample(pixels, height, width, box)


def _resample(pixels: np.ndarray, height: int, width: int, box: tuple[float, float, float, float]) -> np.ndarray:
    """The part `box` (left, upper, right, lower) of a picture at a new size, each channel by itself."""
    planes = [
        Image.fromarray(np.ascontiguousarray(pixels[..., channel])).resize(
            (width, height), Image.Resampling.BILINEAR, box
        )
        for channel in range(pixels.shape[2])
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
