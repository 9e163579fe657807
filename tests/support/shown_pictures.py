"""Every picture of a page as Chromium draws it: what it claims to be, and its pixels from a screenshot.

Reads a page as a person does, by headings, captions, labels and links; knows no class of the generated style sheets and
no code of the report.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# What would cover a picture's edge or change its colours is taken away; white stands behind clear pixels.
PLAIN = """
*, *::before { border-radius: 0 !important; box-shadow: none !important; outline: none !important;
  opacity: 1 !important; content-visibility: visible !important; mix-blend-mode: normal !important;
  filter: none !important; background-color: #fff !important; }
.twin .field, .cells, .u i, input { visibility: hidden !important; }
.map-heat, .ex .u::before, .pic { image-rendering: pixelated !important; }
.patches .twin .overlay { position: relative !important; transform: none !important; }
.ex .u b::before { content: none !important; }
.architecture .canvas, .strip { overflow: visible !important; max-height: none !important; }
"""
LAYERS = {  # what lies over another picture is looked at by itself
    "under": ".map-heat, .stack .over { visibility: hidden !important; }",
    "over": ".twin .pic:not(.map-heat), .thumb, .stack img:not(.over) { background-image: none !important; }"
    " .stack img:not(.over) { visibility: hidden !important; }",
}
COLLECT = (Path(__file__).parent / "shown_pictures.js").read_text(encoding="utf-8")
STYLE = """(css) => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  document.adoptedStyleSheets = [sheet];
}"""


@dataclass(frozen=True, slots=True, eq=False)
class ShownPicture:
    """One picture on a page."""

    claim: tuple[Any, ...]  # what the page says that it is: a word, then what identifies it
    pixels: tuple[np.ndarray, ...]  # (H, W, 3) uint8, as drawn; several where its box lies between whole pixels


def shown_pictures(page: Any) -> list[ShownPicture]:
    """All visible pictures of a page, those under others too."""
    found = []
    for layer, hidden in LAYERS.items():
        page.evaluate(STYLE, PLAIN + hidden)
        records = page.evaluate(COLLECT, layer)
        if not records:
            continue
        with Image.open(io.BytesIO(page.screenshot(full_page=True, animations="disabled"))) as screenshot:
            whole = np.asarray(screenshot.convert("RGB"))
        for record in records:
            x, y, width, height = record["box"]
            assert y + height <= whole.shape[0], f"{record} lies outside the page"
            pixels = tuple(
                whole[round(y) + down : round(y + height) + down, round(x) + across : round(x + width) + across]
                for down in _shifts(y)
                for across in _shifts(x)
            )
            found.append(ShownPicture(tuple(record["claim"]), pixels))
    page.evaluate(STYLE, "")
    return found


def _shifts(side: float) -> tuple[int, ...]:
    """Pixels by which a browser may draw a box beside the nearest whole pixel."""
    return (0,) if abs(side - round(side)) < 0.02 else (0, -1, 1)
