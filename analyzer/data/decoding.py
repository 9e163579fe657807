"""Encoded pictures to pixels: any of Pillow's modes, any depth, no more memory than the picture's size tells.

The header is judged before anything is decoded, and conversions go strip by strip. Knows Pillow; knows nothing of data
sets or networks.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from filterscope.analyzer.data.limits import MOST_DEEP_PIXELS, MOST_PIXELS
from filterscope.analyzer.data.white import White, check_range, highest_of, stated_white, to_8_bit, white_of
from filterscope.converters.errors import InputError

# Pillow opens more, some of it by running other programs (EPS: Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000", "AVIF", "TGA")
STRIP = 1 << 20  # pixels converted at a time
TALLEST_SCALE = 8  # by which a JPEG can be decoded smaller
BITS, PHOTOMETRIC, MAXIMUM, TILE_WIDTH, TILE_LENGTH, PLANAR, S_MAXIMUM = 258, 262, 281, 322, 323, 284, 341  # TIFF 6.0
WHITE_IS_ZERO, SEPARATE = 0, 2  # of PHOTOMETRIC, of PLANAR
OTHER_HALF = {"L": "B", "B": "L"}  # raw modes by byte order: each takes the byte that the other leaves


@dataclass(frozen=True, slots=True, eq=False)
class DecodedPicture:
    """A picture's pixels, and what they were before they had 8 bits."""

    pixels: np.ndarray  # (H, W, 1 or 3) uint8
    size: tuple[int, int]  # height and width in the file, as the picture is meant to be seen
    white: float  # the number that became 255
    highest: float  # of the file's own numbers
    deep: bool  # whether they had more than 8 bits


def decode(file: BinaryIO | io.BytesIO, name: str, white: float | None = None) -> DecodedPicture:
    """Decode a picture.

    The EXIF rotation is applied, transparent parts are blended on white, of an animation the first frame is taken.

    Args:
        file: opened for reading.
        name: for messages.
        white: of pixels of more than 8 bits, where the file does not say; None: the most that their type holds.

    Raises:
        InputError: it is no image, truncated, or too large, or its pixels lie outside black and white.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities in metadata, of which the user can mend nothing
            if file.read(2) != b"\xff\xd8":  # all but JPEGs, which can be decoded smaller
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            file.seek(0)
            with Image.open(file, formats=FORMATS) as image:
                return _decoded(image, file, name, white)
    except InputError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = min(Image.MAX_IMAGE_PIXELS or MOST_PIXELS, MOST_PIXELS) / 1e6
        raise InputError(f"{name}: too large to be opened safely (above {limit:.0f} megapixels); shrink it") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image, or of a kind that cannot be read") from error
    except MemoryError:
        raise
    except Exception as error:  # on damaged files Pillow's decoders raise nearly every kind there is
        raise InputError(f"{name}: truncated or damaged ({_first_line(error)})") from error


def _decoded(image: Image.Image, file: BinaryIO | io.BytesIO, name: str, white: float | None) -> DecodedPicture:
    width, height = image.size
    if min(image.size) < 1:
        raise InputError(f"{name}: the image has no pixels")
    _check_size(image, name)
    scaled = image.size != (width, height)
    stated = _stated(image)
    halves = [_other_half(raw) for raw in _deep_modes(image)]
    if halves and (white or stated) and None in halves:
        raise InputError(f"{name}: 16-bit pixels of which only the upper bytes can be read; save it as 16-bit RGB")
    deep = True
    if halves and None not in halves:
        significant = _significant_bits(file) if image.format == "PNG" else None
        hints = _WhiteHints(significant, stated, white)
        pixels, used, highest = _deep_colour(image, _low_halves(image, file, name), hints)
        pixels = _turned(pixels, image)
    elif image.mode in ("I", "F") or image.mode.startswith("I;16"):
        significant = _significant_bits(file) if image.format == "PNG" else None
        pixels, used, highest = _deep_grey(image, name, _WhiteHints(significant, stated, white))
        pixels = _turned(pixels, image)
    else:
        ImageOps.exif_transpose(image, in_place=True)
        pixels, used, deep = _eight_bit(image), White(255.0), False
        highest = highest_of(pixels)
    size = pixels.shape[:2]
    if scaled:  # as the file has it
        size = (height, width) if (size[0] > size[1]) == (height > width) else (width, height)
    return DecodedPicture(pixels, (size[0], size[1]), white=used.value, highest=highest, deep=deep)


def _check_size(image: Image.Image, name: str) -> None:
    """Refuse a picture whose header says that it is too large; a large JPEG is decoded smaller."""
    if image.width * image.height > MOST_PIXELS:
        scale = next((s for s in (2, 4, TALLEST_SCALE) if image.width * image.height <= MOST_PIXELS * s * s), 0)
        if image.format == "JPEG" and scale:
            image.draft(None, (-(-image.width // scale), -(-image.height // scale)))
        if image.width * image.height > MOST_PIXELS:
            raise Image.DecompressionBombError
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        tile = [int(tags.get(tag, 0) or 0) for tag in (TILE_WIDTH, TILE_LENGTH)]
        if tile[0] * tile[1] > MOST_PIXELS:
            raise InputError(f"{name}: a tile has {tile[1]:,} × {tile[0]:,} pixels; save it in smaller tiles")


def _stated(image: Image.Image) -> float | None:
    """The largest value that a TIFF's tags state for its pixels; None: it states none."""
    if image.format != "TIFF":
        return None
    tags = image.tag_v2  # type: ignore[attr-defined]
    for tag in (S_MAXIMUM, MAXIMUM):
        value = stated_white(tags.get(tag))
        if value is not None:
            return value
    bits = tags.get(BITS)
    if isinstance(bits, tuple) and len(set(bits)) == 1 and 8 < bits[0] < 16:
        return float((1 << bits[0]) - 1)
    return None


def _stated_by_bits(strips: Iterator[np.ndarray], significant: int | None) -> float | None:
    """White of a 16-bit PNG with fewer significant bits (chunk sBIT); None where it is 65535.

    PNG (third edition, 13.12) wants such samples scaled up to 16 bits, where white is 65535; cameras often leave them
    as they are, where it is the largest number of so many bits. Samples that are scaled up repeat their upper bits
    below, or have zeros there; others are as they are.
    """
    if significant is None or not 8 < significant < 16:
        return None
    most, as_they_are = (1 << significant) - 1, False
    for values in strips:
        if int(values.max()) > most:
            return None
        below = values & ((1 << (16 - significant)) - 1)
        as_they_are |= bool(np.any((below != 0) & (below != values >> significant)))
    return float(most) if as_they_are else None


def _significant_bits(file: BinaryIO | io.BytesIO) -> int | None:
    place = file.tell()
    try:
        file.seek(8)
        for _ in range(64):  # sBIT stands before the palette and the pixels
            head = file.read(8)
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if len(head) < 8 or kind == b"IDAT":
                return None
            if kind == b"sBIT" and 1 <= length <= 4:
                return max(file.read(length))
            file.seek(length + 4, io.SEEK_CUR)
        return None
    finally:
        file.seek(place)


@dataclass(frozen=True, slots=True)
class _WhiteHints:
    """What file and user say of a picture's white."""

    significant: int | None  # bits of a PNG's samples that mean something
    stated: float | None  # by the file's tags
    white: float | None  # by the user


def _deep_grey(image: Image.Image, name: str, hints: _WhiteHints) -> tuple[np.ndarray, White, float]:
    """(H, W, 1) uint8 of a grey picture of more than 8 bits, its white, and its highest number."""
    tags = image.tag_v2 if image.format == "TIFF" else {}  # type: ignore[attr-defined]
    dtype = {"I": np.dtype(np.int32), "F": np.dtype(np.float32)}.get(image.mode, np.dtype(np.uint16))
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # 16 bits, as Pillow opens them
        dtype = np.dtype(np.uint16)
    image.load()
    stated = hints.stated
    if hints.significant is not None:
        stated = _stated_by_bits((np.asarray(strip).astype(np.uint16) for strip in _strips(image)), hints.significant)
    used = white_of(dtype, stated, hints.white)
    pixels = np.empty((image.height, image.width, 1), np.uint8)
    low, highest, top = np.inf, -np.inf, 0
    for strip in _strips(image):
        values = np.asarray(strip)
        low, highest = min(low, float(values.min())), max(highest, float(values.max()))
        if not np.isfinite(low + highest):  # NaN too
            raise ValueError("pixels that are not finite numbers")
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO and dtype.kind != "f":
            values = used.value - np.minimum(values, used.value)
        pixels[top : top + strip.height, :, 0] = to_8_bit(values, used)
        top += strip.height
    check_range((low, highest), used, name, floats=dtype.kind == "f")
    return pixels, used, highest


def _deep_modes(image: Image.Image) -> list[str]:
    """How the tiles of a picture with 16-bit channels are stored, of which Pillow would leave out the lower bytes."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return []
    return [raw for tile in getattr(image, "tile", ()) if ";16" in (raw := _raw_mode(tile.args))]


def _raw_mode(args: object) -> str:
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def _low_halves(image: Image.Image, file: BinaryIO | io.BytesIO, name: str) -> Image.Image:
    """The same picture of lower bytes: decoded as if the bytes of each number were swapped."""
    if image.width * image.height > MOST_DEEP_PIXELS:
        raise InputError(
            f"{name}: a colour picture with 16 bits a channel and {image.width * image.height / 1e6:.0f} megapixels; "
            f"at most {MOST_DEEP_PIXELS / 1e6:.0f} are read, shrink it or save it with 8 bits"
        )
    if image.format == "TIFF" and image.tag_v2.get(PLANAR) == SEPARATE:  # type: ignore[attr-defined]
        raise InputError(f"{name}: 16-bit channels one after the other; save it with interleaved channels")
    here = file.tell()
    file.seek(0)
    other = Image.open(io.BytesIO(file.read()), formats=FORMATS)
    file.seek(here)
    swapped = []
    for tile in other.tile:
        half = _other_half(_raw_mode(tile.args))
        args = (half, *tile.args[1:]) if isinstance(tile.args, tuple) else half
        swapped.append(tile._replace(args=args))
    other.tile = swapped
    return other


def _other_half(raw: str) -> str | None:
    kind, _, order = raw.partition(";16")
    if kind not in ("RGB", "RGBA", "RGBX", "RGBa"):
        return None
    if order == "N":
        order = "L" if np.little_endian else "B"
    return f"{kind};16{OTHER_HALF[order]}" if order in OTHER_HALF else None


def _deep_colour(image: Image.Image, low: Image.Image, hints: _WhiteHints) -> tuple[np.ndarray, White, float]:
    """(H, W, 3) uint8 of a picture with 16-bit colours, its white, and its highest number."""
    key = image.info.get("transparency")
    image.load()
    low.load()
    stated = hints.stated or _stated_by_bits((values[..., :3] for values in _joined(image, low)), hints.significant)
    used = white_of(np.dtype(np.uint16), stated, hints.white)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    highest, top = 0.0, 0
    for values in _joined(image, low):
        colours = values[..., :3]
        highest = max(highest, highest_of(colours))
        eight = to_8_bit(colours, used)
        if values.shape[2] == 4:
            alpha = values[..., 3:].astype(np.float64) / 65535
            eight = np.rint(eight * alpha + 255 * (1 - alpha)).astype(np.uint8)
        elif isinstance(key, tuple) and len(key) == 3:
            eight[np.all(colours == np.array(key), axis=2)] = 255
        pixels[top : top + len(values)] = eight
        top += len(values)
    return pixels, used, highest


def _joined(upper: Image.Image, lower: Image.Image) -> Iterator[np.ndarray]:
    """Strips of the numbers whose upper and lower bytes two pictures are, (H, W, 3 or 4) uint16."""
    for high, low in zip(_strips(upper), _strips(lower), strict=True):
        yield np.asarray(high).astype(np.uint16) << 8 | np.asarray(low)


def _eight_bit(image: Image.Image) -> np.ndarray:
    """(H, W, C) uint8 of a picture of 8 bits a channel or less: C is 1 for the grey ones and 3 for the others."""
    image.load()
    colours = "L" if image.mode in ("1", "L", "LA") else "RGB"
    transparent = image.has_transparency_data
    pixels = np.empty((image.height, image.width, 1 if colours == "L" else 3), np.uint8)
    top = 0
    for strip in _strips(image):
        opaque = _on_white(strip) if transparent else strip
        eight = opaque if opaque.mode == colours else opaque.convert(colours)
        pixels[top : top + strip.height] = np.asarray(eight).reshape(strip.height, strip.width, -1)
        top += strip.height
    return pixels


def _on_white(image: Image.Image) -> Image.Image:
    picture = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    """The picture in strips of whole rows, from the top; one at a time is in memory."""
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        strip.info = image.info  # a palette's or a colour's transparency
        yield strip


def _turned(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """Pixels after the EXIF rotation (EXIF 2.32, tag 274)."""
    how = image.getexif().get(274, 1)
    if how in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if how in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if how in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
