"""What the first page shows of the network as a whole: plots by depth, and what a run still lacks.

Knows the run's reader; knows nothing of HTML.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import pyarrow as pa

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.rows import DepthRow, UnitClassRow, rows_of
from filterscope.reports.page import words
from filterscope.reports.site.layer_page import LayerEntry
from filterscope.reports.site.plots import DepthPlot, by_depth

CHANCE = 0.5  # AUC of a channel that says nothing of a class
NEAR = 1 / 3  # share of a bound from which it tells something


def plots(run: Run, entries: Sequence[LayerEntry], channel_classes: pa.Table) -> list[DepthPlot]:
    """One plot a quantity that at least two layers have.

    Args:
        run: to read from.
        entries: of all layers.
        channel_classes: as `details.classes_of_channels` gives them.
    """
    layers = [entry.layer for entry in entries]
    rows = {row.layer: row for row in rows_of(run.table("examples/layers.parquet"), DepthRow)}

    def of_data(quantity: Callable[[DepthRow], float | None]) -> list[tuple[int, str, float | None]]:
        return [(la.position, la.name, quantity(rows[la.name]) if la.name in rows else None) for la in layers]

    fields = [(la.position, la.name, float(max(la.field.size)) if la.field.size else None) for la in layers]
    reached = [(e.layer.position, e.layer.name, e.reached) for e in entries]
    dead = [(e.layer.position, e.layer.name, float(e.dead) if e.page and e.layer.analysed else None) for e in entries]
    sparsity, active = of_data(lambda row: row.sparsity), of_data(lambda row: row.active)
    silent = of_data(lambda row: row.dead)
    telling = _telling(channel_classes)
    classes = [(la.position, la.name, telling.get(la.name)) for la in layers]
    drawn = [
        by_depth(
            "Receptive field",
            "field",
            "Side in pixels of what one neuron sees; logarithmic.",
            fields,
            logarithmic=True,
        ),
        by_depth(
            "Share of the upper bound",
            "bound",
            "Median over the channels: the picture’s number as a share of what no picture of its size can exceed.",
            reached,
            share=True,
        )
        if _says_something(entries)
        else None,
        by_depth("Sparsity", "sparsity", "On the data set: 0 dense, 1 sparse.", sparsity, share=True),
        by_depth(
            "Active",
            "active",
            "Share of all places with an activation above 0.",
            active,
            share=True,
        ),
        by_depth(
            "Tells classes",
            "auc",
            "The highest AUC that a channel of the layer has for a class, on average over the classes.",
            classes,
            share=True,
        ),
        by_depth("Proven dead", "dead", "Channels that no image can raise above 0.", dead, bars=True)
        if any(value for *_, value in dead)
        else None,
        by_depth(
            "Silent on the data",
            "silent",
            "Channels never above 0 on the data set.",
            silent,
            bars=True,
        ),
    ]
    return [plot for plot in drawn if plot is not None]


def _telling(channel_classes: pa.Table) -> dict[str, float]:
    """For each layer the highest AUC of its channels for a class, averaged over the classes of the data.

    A class that none of a layer's channels names among its best counts as one half: nothing tells it there.
    """
    best: dict[str, dict[int, float]] = defaultdict(dict)
    for row in rows_of(channel_classes, UnitClassRow):
        best[row.layer][row.index] = max(row.auc, best[row.layer].get(row.index, CHANCE))
    classes = {index for aucs in best.values() for index in aucs}
    return {layer: sum(aucs.get(index, CHANCE) for index in classes) / len(classes) for layer, aucs in best.items()}


def _says_something(entries: Sequence[LayerEntry]) -> bool:
    """Whether at least half of the layers come within a factor of three of their bounds: others are far too high."""
    shares = [entry.reached for entry in entries if entry.reached is not None]
    return 2 * sum(share >= NEAR for share in shares) >= len(shares)


def left_out(
    entries: Sequence[LayerEntry], *, channels: int, images: tuple[int, int], patches: int | None, examples: bool
) -> list[str]:
    """What an excerpt in one file lacks of its run, in words; nothing where it holds everything.

    Args:
        entries: of the layers.
        channels: a layer, at most.
        images: with a page, and in all.
        patches: of the data a channel, at most, where there are fewer than the folder has.
        examples: whether pictures of the data set are left out.
    """
    shown, planned = sum(entry.shown for entry in entries), sum(entry.planned for entry in entries)
    parts = []
    if shown < planned:
        parts.append(
            f"{shown:,} of {planned:,} channels, at most {words.count(channels, 'channel')} a layer: those whose "
            "pictures rise highest above random images; of all others the first sentence"
        )
    if images[0] < images[1]:
        parts.append(f"{images[0]:,} of {images[1]:,} images")
    if examples:
        parts.append("no pictures of the data set")
    elif patches is not None:
        parts.append(f"{patches} strongest places of the data a channel")
    return parts


def missing(run: Run, entries: Sequence[LayerEntry]) -> list[LayerEntry]:
    """Layers of which an unfinished run lacks something."""
    return [] if run.info.status == "complete" else [entry for entry in entries if entry.absent]
