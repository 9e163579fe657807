"""One page of pictures and text as PDF: pixels as they are, the font embedded, the same bytes for the same page.

Pillow writes a page as one raster, whose labels would be pixels. PDF libraries take megabytes and put a date and a
random number into each file, while a figure needs six kinds of object. The font comes with Pillow (Aileron, in the
public domain) and is embedded, because journals refuse fonts that are not. Knows PDF 1.7
(ISO 32000-1); knows nothing of runs or units.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import ImageFont

POINTS = 72 / 25.4  # a millimetre
FIRST, LAST = 32, 126  # characters that the font has
EM = 1000  # in which PDF measures glyphs


@dataclass(frozen=True, slots=True, eq=False)
class PlacedPicture:
    """A picture on the page; millimetres from the left and from the top."""

    left: float
    top: float
    width: float
    height: float
    pixels: np.ndarray  # (H, W, 1 or 3) uint8


@dataclass(frozen=True, slots=True)
class PlacedText:
    """A line of printable ASCII on the page; millimetres from the left and from the top, to its base line."""

    left: float
    base: float
    size: float  # points
    text: str


def font(size: float) -> ImageFont.FreeTypeFont:
    """The font of all forms of a figure, `size` pixels an em."""
    loaded = ImageFont.load_default(size)
    if not isinstance(loaded, ImageFont.FreeTypeFont):
        raise RuntimeError("this Pillow was built without FreeType; install the wheel from PyPI")
    return loaded


def text_width(text: str) -> float:
    """Width of a line, in em."""
    return font(EM).getlength(text) / EM


def page(extent: tuple[float, float], title: str, pictures: list[PlacedPicture], texts: list[PlacedText]) -> bytes:
    """A document of one page.

    Args:
        extent: (width, height) of the page, mm.
        title: of the document, any characters.
        pictures: each is an image object of its own, which readers can take out again without loss.
        texts: above the pictures, black.
    """
    width, height = extent
    content = [_picture_command(number, placed, height) for number, placed in enumerate(pictures)]
    content += [_text_command(placed, height) for placed in texts]
    size = f"{_number(width * POINTS)} {_number(height * POINTS)}"
    names = " ".join(f"/I{number} {9 + number} 0 R" for number in range(len(pictures)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R/ViewerPreferences<</DisplayDocTitle true>>>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        (
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {size}]/Contents 4 0 R"
            f"/Resources<</Font<</F 5 0 R>>/XObject<<{names}>>>>>>"
        ).encode(),
        _stream("", "\n".join(content).encode("ascii")),
        *_font_objects(),
        f"<</Title<feff{title.encode('utf-16-be', 'replace').hex()}>/Producer(filterscope)>>".encode(),
        *(_image(placed.pixels) for placed in pictures),
    ]
    return _file(objects, info=8)


def _file(objects: list[bytes], info: int) -> bytes:
    """Join the objects, numbered from 1, and the table of where each begins."""
    body = io.BytesIO()
    body.write(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")  # four high bytes: transfer it as binary
    places = []
    for number, content in enumerate(objects, 1):
        places.append(body.tell())
        body.write(b"%d 0 obj\n%b\nendobj\n" % (number, content))
    table = body.tell()
    count = len(objects) + 1
    entries = "".join(f"{place:010d} 00000 n \n" for place in places)
    body.write(f"xref\n0 {count}\n0000000000 65535 f \n{entries}".encode())
    body.write(f"trailer\n<</Size {count}/Root 1 0 R/Info {info} 0 R>>\nstartxref\n{table}\n%%EOF\n".encode())
    return body.getvalue()


def _font_objects() -> list[bytes]:
    """The font, its measures and its file: objects 5, 6 and 7."""
    measured = font(EM)
    file = measured.path
    data = file.getvalue() if isinstance(file, io.BytesIO) else b""
    if not data:
        raise RuntimeError("this Pillow keeps its font elsewhere; install another version")
    widths = " ".join(f"{measured.getlength(chr(code)):.0f}" for code in range(FIRST, LAST + 1))
    ascent, descent = measured.getmetrics()
    capital = -measured.getbbox("H", anchor="ls")[1]
    family = measured.getname()[0]
    return [
        (
            f"<</Type/Font/Subtype/TrueType/BaseFont/{family}/FirstChar {FIRST}/LastChar {LAST}/Widths[{widths}]"
            "/Encoding/WinAnsiEncoding/FontDescriptor 6 0 R>>"
        ).encode(),
        (
            f"<</Type/FontDescriptor/FontName/{family}/Flags 32/FontBBox[0 {-descent} {EM} {ascent}]/ItalicAngle 0"
            f"/Ascent {ascent}/Descent {-descent}/CapHeight {capital:.0f}/StemV 80/FontFile2 7 0 R>>"
        ).encode(),
        _stream(f"/Length1 {len(data)}", data),
    ]


def _image(pixels: np.ndarray) -> bytes:
    height, width, bands = pixels.shape
    space = "DeviceRGB" if bands == 3 else "DeviceGray"
    facts = f"/Type/XObject/Subtype/Image/Width {width}/Height {height}/ColorSpace/{space}/BitsPerComponent 8"
    return _stream(f"{facts}/Interpolate false", np.ascontiguousarray(pixels).tobytes())


def _stream(facts: str, content: bytes) -> bytes:
    packed = zlib.compress(content, 9)
    return b"<<%b/Filter/FlateDecode/Length %d>>\nstream\n%b\nendstream" % (facts.encode(), len(packed), packed)


def _picture_command(number: int, placed: PlacedPicture, page_height: float) -> str:
    bottom = page_height - placed.top - placed.height
    width, height, x, y = (_number(mm * POINTS) for mm in (placed.width, placed.height, placed.left, bottom))
    return f"q {width} 0 0 {height} {x} {y} cm /I{number} Do Q"


def _text_command(placed: PlacedText, page_height: float) -> str:
    x, y = _number(placed.left * POINTS), _number((page_height - placed.base) * POINTS)
    text = placed.text.encode("ascii").hex()  # a string in hexadecimal needs no escapes
    return f"BT /F {_number(placed.size)} Tf {x} {y} Td <{text}> Tj ET"


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")
