"""Which pixels speak for the wrong answers that a network is surest of.

A few images of the data set are explained as the user's own images are (`analyzer.studies.attribution`), by one method
that costs one gradient. Knows explanations and the study's files; knows nothing of how mistakes are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from filterscope.analyzer.attribution.explain import Explainer
from filterscope.analyzer.attribution.pictures import signed_tile
from filterscope.analyzer.data.dataset import DataSet, read_batch
from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.tables import MISTAKE_SCHEMA
from filterscope.analyzer.studies.study import Context
from filterscope.converters.errors import FilterscopeError

METHODS = ("grad-cam", "input-x-gradient")  # of one gradient each; the first that suits the network
EXPLAINED = 12  # images
TABLE, ATLAS = "examples/mistakes.parquet", "examples/mistakes.png"


def explain_mistakes(context: Context, data: DataSet, numbers: Sequence[int]) -> None:
    """Write the attributions of the wrong answers to some images; a note where the network gives none.

    Args:
        context: of the study.
        data: the images.
        numbers: of the images, each of which could be read before.
    """
    rows: list[dict[str, Any]] = []
    tiles: list[np.ndarray] = []
    try:
        if len(numbers):
            explainer = Explainer(context.network, context.labels, context.shop.device, context.settings.seed)
            batch = read_batch(data, list(numbers), context.network.input, context.settings.resize)
            for number, pixels in zip(batch.numbers.tolist(), batch.pixels, strict=True):
                target = explainer.target(pixels)
                if target.layer is not None:  # the scores cannot be explained: a channel would be
                    break
                method = next(name for name in METHODS if explainer.why_not(name, target) is None)
                signed = explainer.explain(pixels, target, method).signed
                rows.append({"image": number, "method": method, "target": target.channel, "tile": len(tiles)})
                tiles.append(signed_tile(signed))
    except FilterscopeError as error:
        context.notes.append(f"Wrong answers are not explained: {error}.")
    if tiles:
        context.writer.write_bytes(ATLAS, atlas.to_png(atlas.pack(np.stack(tiles))))
    place = {"atlas": ATLAS, "height": tiles[0].shape[0], "width": tiles[0].shape[1]} if tiles else {}
    context.writer.write_table(TABLE, pa.Table.from_pylist([row | place for row in rows], MISTAKE_SCHEMA))
