"""A plate of 48 units at all depths: natural patches, our first picture, our final ones, Lucent's.

The rule: of the 50 layers of telling.py 48, spread evenly; of the layer at place k the channel k mod 4 of its four.
Pictures are those that telling.py keeps. A natural patch is the one of the 50 photos of even number over which the mean
of the unit's map is highest, cut at the size of the layer's crops.

    python benchmarks/plate.py --keep pictures --out docs/telling-48.webp
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from telling import SUBJECTS, Photos, Subject, looked_at, pictures_in
from two_way_choice import choices

from filterscope.analyzer.network.layers import Layer

ROWS, COLUMNS = 12, 4
SIDE, GAP, LABEL = 96, 3, 16  # pixels
NATURAL = 2  # patches of a unit
WAYS = {"first": "first", "standard": "final", "accentuation": "accent.", "lucent": "Lucent"}
TITLES = (*["natural"] * NATURAL, *WAYS.values())


def units_of(subject: Subject) -> list[tuple[Layer, int]]:
    """The rule: layers spread evenly, their channels in turn."""
    places = np.linspace(0, len(subject.units) - 1, ROWS * COLUMNS).round().astype(int)
    return [
        (subject.units[place][0], subject.units[place][1][turn % len(subject.units[place][1])])
        for turn, place in enumerate(places)
    ]


def row_of(photos: dict[int, Photos], subject: Subject, layer: Layer, channel: int, keep: Path) -> list[np.ndarray]:
    """Natural patches, then a picture of each way."""
    own = photos[subject.side(layer)]
    task = choices(own.activations[layer.name][:, channel], own.numbers)
    return [
        *own.crops[task.exemplars[:NATURAL]],
        *(pictures_in(keep / subject.key / way, layer, channel)[0] for way in WAYS),
    ]


def plate(rows: list[tuple[str, list[np.ndarray]]]) -> Image.Image:
    """Rows of pictures with labels, in columns, the first of them on the left."""
    width, height = len(TITLES) * (SIDE + GAP), SIDE + LABEL + GAP
    sheet = Image.new("RGB", (COLUMNS * (width + 4 * GAP), LABEL + ROWS * height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for column in range(COLUMNS):
        for place, title in enumerate(TITLES):
            pen.text((column * (width + 4 * GAP) + place * (SIDE + GAP), 0), title, "black", font)
    for number, (label, pictures) in enumerate(rows):
        left, top = number // ROWS * (width + 4 * GAP), LABEL + number % ROWS * height
        pen.text((left, top), label, "black", font)
        for place, picture in enumerate(pictures):
            tile = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            sheet.paste(tile, (left + place * (SIDE + GAP), top + LABEL))
    return sheet


def main() -> None:
    """Draw the plate from pictures that telling.py keeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--out", type=Path, required=True, help="a WebP file")
    parser.add_argument("--quality", type=int, default=70, help="of WebP")
    options = parser.parse_args()
    subject = SUBJECTS["mobilenetv2"]
    photos = looked_at(subject)
    rows = [
        (f"{layer.name}, channel {channel}", row_of(photos, subject, layer, channel, options.keep))
        for layer, channel in units_of(subject)
    ]
    plate(rows).save(options.out, quality=options.quality, method=6)


if __name__ == "__main__":
    main()
