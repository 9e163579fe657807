"""The user's images: found by name, read one at a time, brought to the network's size.

Files, folders, globs and arrays (.npz, .npy); grey, transparent, 16-bit, rotated and odd-sized pictures all end as
8-bit pixels. Colour profiles are not applied, as training pipelines do not either. Knows nothing of networks but
their `InputSpec`.
"""

from __future__ import annotations

import contextlib
import glob
import io
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from analyzer.inputs import InputSpec
from converters.errors import InputError, SettingsError

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm"}
    | {".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}
)
# Pillow opens more, some of it by running other programs (EPS: Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000", "AVIF", "TGA")
ARRAY_SUFFIXES = frozenset({".npy", ".npz"})
ARRAY_KEYS = ("x_test", "x", "images", "data")  # of an .npz, the first that it has
LABEL_KEYS = {"x_test": ("y_test",), "x": ("y", "labels"), "x_train": ("y_train",)}  # otherwise labels, then y
RESIZES = ("auto", "crop", "cover", "squash", "fit", "none")
CROPPED = ("imagenet", "caffe-bgr")  # presets of networks that are evaluated on the centre of a larger picture
MOST_SPARE = 8  # times the pixels wanted, that resizing all of a picture may make
CENTRE = 0.875  # share of the resized picture's side that a centre crop keeps: 224 of 256
GREY = 128  # border of a picture that does not fill the input


@dataclass(frozen=True, slots=True)
class Source:
    """One image, not read yet."""

    path: Path
    name: str  # "photo.jpg", "cat/1.jpg" within a folder of folders, "digits.npz[17]"
    index: int | None = None  # which image of an array file; None: a picture file
    asked: bool = field(default=False, compare=False)  # the file itself was named, not a folder or glob that holds it


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """One image as read."""

    name: str
    pixels: np.ndarray  # (H, W, C) uint8; C is 1 or 3, or whatever an array has
    size: tuple[int, int]  # height and width as the picture is meant to be seen: after its EXIF rotation
    label: int | None  # class, where the array file has labels


@dataclass(frozen=True, slots=True)
class PhotoInfo:
    """What is kept of an image once its pixels went to the network."""

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
    white: float  # the value that becomes 255
    classes: tuple[str, ...] = ()  # what the labels are called

    def __len__(self) -> int:
        return len(self.images) if self.offsets is None else len(self.offsets) - 1


def find(sources: Iterable[str | Path]) -> list[Source]:
    """The images that some names stand for, in order, each once; nothing is decoded.

    Args:
        sources: files; folders (their own images, then those of their sub-folders, sorted; hidden files and other
            kinds of file are passed over); globs, with ** for any depth; array files, with a range of images as in
            "digits.npz:0-99" (both ends belong to it) or "digits.npz:17".

    Raises:
        InputError: a name that stands for no image, or an array file that cannot be read.
    """
    found: dict[tuple[Path, int | None], Source] = {}
    for source in sources:
        try:
            images = _find_one(str(source))
        except OSError as error:
            raise InputError(f"{source}: cannot be looked at ({error.strerror})") from error
        for image in images:
            found.setdefault((image.path, image.index), image)
    if not found:
        raise InputError("no images: name picture files, folders, globs, .npz or .npy files")
    return list(found.values())


def read(source: Source) -> Photo:
    """Read one image.

    The EXIF rotation is applied, transparent parts are blended on white, of an animation the first frame is taken.
    16-bit grey is scaled by its range (65535 becomes 255), 32-bit grey by the picture's own lowest and highest value.

    Raises:
        InputError: the file is missing, empty, truncated, too large, or no image.
    """
    if source.index is None:
        pixels = _read_picture(source.path, source.name)
        return Photo(source.name, pixels, (pixels.shape[0], pixels.shape[1]), None)
    arrays = _open_arrays(source.path)
    pixels = _array_pixels(arrays, source)
    label = None if arrays.labels is None else int(arrays.labels[source.index])
    return Photo(source.name, pixels, (pixels.shape[0], pixels.shape[1]), label)


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
    """A picture with the network's size and channels.

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
        raise SettingsError(f"--resize {resize}: give one of {', '.join(RESIZES)}")
    pixels = _with_channels(photo, spec)
    height, width = pixels.shape[:2]
    if resize == "none":
        if (height, width) != (spec.height, spec.width):
            raise SettingsError(
                f"{photo.name}: has {height} × {width} pixels and the network takes {spec.height} × {spec.width}; "
                "leave --no-resize out, or give images of that size"
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
    sources: Sequence[Source],
    spec: InputSpec,
    resize: str = "auto",
    limit: int | None = None,
    *,
    skip_broken: bool = False,
    broken: list[str] | None = None,
) -> Iterator[tuple[PhotoInfo, np.ndarray]]:
    """Read and fit images one after the other.

    Args:
        sources: from `find`.
        limit: stop after so many images.
        skip_broken: go on after an image that cannot be read, unless it was asked for by its own name; its error's
            text is appended to `broken`.

    Yields:
        What to remember of each image, and its (H, W, C) uint8 pixels from `fit`.

    Raises:
        InputError: an image cannot be read, or with `skip_broken` not one could.
    """
    failures = [] if broken is None else broken
    given = 0
    for source in sources:
        if limit is not None and given >= limit:
            return
        try:
            photo = read(source)
            pixels = fit(photo, spec, resize)
        except InputError as error:
            if not skip_broken or source.asked:
                raise
            failures.append(str(error))
            continue
        given += 1
        yield PhotoInfo(photo.name, source.path, photo.size, photo.label), pixels
    if not given and failures:
        raise InputError(f"none of the {len(failures)} images can be used; the first: {failures[0]}")


def _find_one(text: str) -> list[Source]:
    path = Path(text).expanduser()
    if path.is_dir():
        return _find_in_folder(path)
    if path.is_file():
        return (
            _find_in_array(path, None)
            if path.suffix.lower() in ARRAY_SUFFIXES
            else [Source(path, path.name, asked=True)]
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
        images = [Source(match, match.relative_to(root).as_posix()) for match in matches if is_image(match)]
        if not images:
            raise InputError(f"{text}: no image matches; looked for {_suffixes()} among {len(matches)} matches")
        return images
    raise InputError(f"{text}: no such file or folder")


def _find_in_folder(folder: Path) -> list[Source]:
    entries = sorted(folder.iterdir())
    inner = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    files = [*entries, *(file for subfolder in inner for file in sorted(subfolder.iterdir()))]
    images = [Source(file, file.relative_to(folder).as_posix()) for file in files if is_image(file)]
    if not images:
        raise InputError(
            f"{folder}: no images in this folder or its sub-folders; looked for {_suffixes()} "
            "(array files are named themselves: --images file.npz; deeper folders by a glob: folder/**)"
        )
    return images


def _find_in_array(path: Path, wanted: tuple[int, int] | None) -> list[Source]:
    count = len(_open_arrays(path))
    first, last = wanted or (0, count - 1)
    if count == 0:
        raise InputError(f"{path.name}: holds no images")
    if first > last or last >= count:
        raise InputError(f"{path.name}: holds images 0 to {count - 1}; {first}-{last} is no range of them")
    return [Source(path, f"{path.name}[{index}]", index) for index in range(first, last + 1)]


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
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            return _plain_arrays(path.name, array, None)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return _read_archive(path.name, archive)
    except InputError:
        raise
    except Exception as error:  # zip, zlib and NumPy's own reader each have several kinds
        if "Object arrays" in str(error) or "Python objects" in str(error):
            raise InputError(f"{path.name}: holds Python objects, which are never loaded; save plain arrays") from error
        if "pickle" in str(error):  # what NumPy takes every unknown file for
            raise InputError(f"{path.name}: not a NumPy file") from error
        raise InputError(f"{path.name}: not a readable array file ({_first_line(error)})") from error


def _read_archive(name: str, archive: Any) -> _Arrays:
    keys = list(archive.files)
    key = next((key for key in ARRAY_KEYS if key in keys), None)
    if key is None:
        stacks = [key for key in keys if archive[key].ndim in (3, 4)]
        if len(stacks) != 1:
            raise InputError(
                f"{name}: has {', '.join(keys) or 'no arrays'}; call the images one of {', '.join(ARRAY_KEYS)}"
            )
        key = stacks[0]
    images = archive[key]
    label_key = next((k for k in (*LABEL_KEYS.get(key, ()), "labels", "y") if k in keys), None)
    labels = None if label_key is None else archive[label_key]
    if labels is not None and labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
        labels = None  # names, one-hot rows, masks: nothing that is one class an image
    if "offsets" in keys and images.ndim == 1:
        arrays = _packed_arrays(name, images, archive["offsets"], labels)
    else:
        arrays = _plain_arrays(name, images, labels)
    if labels is not None and len(labels) != len(arrays):
        raise InputError(f"{name}: {label_key} has {len(labels)} labels for {len(arrays)} images")
    return replace(arrays, classes=_class_names(archive))


def _class_names(archive: Any) -> tuple[str, ...]:
    """What an archive calls its classes, where it has a list of names."""
    with contextlib.suppress(KeyError, ValueError):  # Python objects are not loaded for the sake of names
        names = archive["classes"]
        if names.ndim == 1 and names.dtype.kind == "U":
            return tuple(names.tolist())
    return ()


def _packed_arrays(name: str, data: np.ndarray, offsets: np.ndarray, labels: np.ndarray | None) -> _Arrays:
    good = data.dtype == np.uint8 and offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) > 0
    ends = offsets.astype(np.int64) if good else np.zeros(1, np.int64)
    if not good or ends[0] < 0 or ends[-1] > len(data) or np.any(np.diff(ends) <= 0):
        raise InputError(f"{name}: offsets must rise from 0 to at most the {len(data)} bytes of data")
    return _Arrays(data, ends, labels, 255.0)


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
    return _Arrays(array, None, labels, _white(name, array))


def _white(name: str, array: np.ndarray) -> float:
    """The value that stands for white in a stack of pictures: 1, 255, or 65535."""
    if array.dtype == np.uint8 or array.size == 0:
        return 255.0
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: pixels of type {array.dtype}; give uint8, or floats in 0..1 or 0..255")
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind == "b":
        return 1.0
    if array.dtype == np.uint16 and high > 255:
        return 65535.0
    slack = 1e-3 if array.dtype.kind == "f" else 0.0  # interpolation leaves values a little outside
    if not low >= -slack or not high <= 255 + slack:  # also where there are NaNs
        raise InputError(
            f"{name}: pixels from {low:.4g} to {high:.4g}; give images before preprocessing: uint8, or 0..1 or 0..255"
        )
    return 1.0 if array.dtype.kind == "f" and high <= 1 + slack else 255.0


def _array_pixels(arrays: _Arrays, source: Source) -> np.ndarray:
    index = source.index or 0
    if index >= len(arrays):
        raise InputError(f"{source.path.name}: holds images 0 to {len(arrays) - 1}, not {index}")
    if arrays.offsets is not None:
        start, end = arrays.offsets[index : index + 2]
        return _decode(io.BytesIO(arrays.images[start:end].tobytes()), source.name)
    pixels: np.ndarray = arrays.images[index]
    if pixels.dtype == np.uint8:
        return np.array(pixels)
    scaled: np.ndarray = np.clip(np.rint(pixels.astype(np.float64) * (255 / arrays.white)), 0, 255)
    return scaled.astype(np.uint8)


def _read_picture(path: Path, name: str) -> np.ndarray:
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{name}: the file is empty")
            file.seek(0)
            return _decode(file, name)
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or _first_line(error)})") from error


def _decode(file: BinaryIO | io.BytesIO, name: str) -> np.ndarray:
    """(H, W, 1 or 3) uint8 of an encoded picture."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities in metadata, of which the user can mend nothing
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                if min(image.size) < 1:
                    raise InputError(f"{name}: the image has no pixels")
                return _eight_bit(ImageOps.exif_transpose(image))
    except InputError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise InputError(f"{name}: too large to be opened safely (above {limit:.0f} megapixels); shrink it") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image, or of a kind that cannot be read") from error
    except Exception as error:  # on damaged files Pillow's decoders raise nearly every kind there is
        raise InputError(f"{name}: truncated or damaged ({_first_line(error)})") from error


def _eight_bit(image: Image.Image) -> np.ndarray:
    """(H, W, C) uint8 of a picture in any of Pillow's modes: C is 1 for the grey ones and 3 for the others."""
    mode = image.mode
    if mode.startswith("I;16"):
        return _scaled(np.asarray(image), 0, 65535)
    if mode in ("I", "F"):
        values = np.asarray(image)
        if mode == "I" and values.min() >= 0 and values.max() <= 65535:
            return _scaled(values, 0, 65535)  # how some 16-bit files are opened
        if not np.isfinite(values).all():
            raise ValueError("pixels that are not finite numbers")
        return _scaled(values, float(values.min()), float(values.max()))
    colours = "L" if mode in ("1", "L", "LA") else "RGB"
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    pixels = np.array(image.convert(colours))
    return pixels[..., None] if colours == "L" else pixels


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """(H, W, 1) uint8: `low` becomes 0, `high` 255; a picture of one value only becomes 0."""
    share = (values.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.rint(share * 255).astype(np.uint8)[..., None]


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
