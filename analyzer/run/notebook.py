"""A picture with its caption, as a notebook shows it.

Knows pixels; knows nothing of networks or runs.
"""

from __future__ import annotations

import base64
from html import escape

import numpy as np

from filterscope.analyzer.run import atlas
from filterscope.converters.plain_text import visible

STYLE = "display:inline-block;margin:4px;vertical-align:top"


def figure(tile: np.ndarray | None, caption: str, side: int = 192) -> str:
    """HTML of one picture; text is escaped.

    Args:
        tile: (H, W, C) uint8; None: the caption alone.
        side: of the longer side on the screen, pixels.
    """
    label = escape(visible(caption))
    image = ""
    if tile is not None:
        data = base64.b64encode(atlas.to_png(atlas.pack(tile[None]))).decode("ascii")
        longer = "width" if tile.shape[1] >= tile.shape[0] else "height"
        source = f'src="data:image/png;base64,{data}"'
        image = f'<img {longer}="{side}" style="image-rendering:pixelated" alt="{label}" {source}>'
    return f'<figure style="{STYLE}">{image}<figcaption>{label}</figcaption></figure>'
