"""Examples: what each unit of a network sees in a data set of the user's.

One pass measures (`pass_over_data`), a second one shows a little of it (`pictures`); here both become tables. Knows the
study's files; knows nothing of how maps are measured.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from filterscope.analyzer.data.dataset import DataSet, open_dataset
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.nonlinearity import PASSED
from filterscope.analyzer.run.tables import (
    DEPTH_SCHEMA,
    EXAMPLE_PICTURE_SCHEMA,
    EXAMPLE_SCHEMA,
    FIRING_SCHEMA,
    STATISTICS_SCHEMA,
)
from filterscope.analyzer.studies.examples.class_survey import fitting_labels, why_not
from filterscope.analyzer.studies.examples.class_tables import ClassTables, class_notes, mistakes, writable
from filterscope.analyzer.studies.examples.explained_mistakes import EXPLAINED, explain_mistakes
from filterscope.analyzer.studies.examples.pass_over_data import BATCH, NAMED, Survey
from filterscope.analyzer.studies.examples.pictures import AtlasTile, MapRequest, keep_pictures, row_of
from filterscope.analyzer.studies.examples.places import Places
from filterscope.analyzer.studies.examples.running_statistics import DUPLICATE, LayerStatistics
from filterscope.analyzer.studies.study import Context
from filterscope.converters import checks

TOP = 9
MOST_TOP = 1000
PICTURE_BYTES = 1 << 27  # of pixels that are kept, before compression
MAP_RANKS = 3  # strongest examples of a unit whose maps are kept
MISTAKES = 48  # images whose picture is kept because the network is wrong about them, and surest of it
CHECKPOINT = "examples/checkpoint.npz"
PAUSE = 20.0  # seconds between two checkpoints at least
PATIENCE = 20  # times what writing one takes


class Examples:
    """The study of a data set.

    Args:
        sources: folders (a picture's folder is its class), .npz and .npy files, files of CIFAR, MNIST and SVHN,
            pictures, globs.
        top: strongest places kept of each unit, at most one an image.
        picture_bytes: of the strongest images' pixels that are kept as pictures, before compression.
        white: the number that is white in 16-bit and float pictures and in arrays, as in `analyzer.data.images.find`.

    Raises:
        InputError: a source without images, or one that cannot be opened.
        SettingsError: `top` makes no sense.
    """

    name = "examples"

    def __init__(
        self,
        sources: str | Path | Sequence[str | Path],
        top: int = TOP,
        picture_bytes: int = PICTURE_BYTES,
        white: float | None = None,
    ) -> None:
        if checks.whole("top", top, least=1) > MOST_TOP:
            checks.refuse("top", top, f"give 1 to {MOST_TOP}")
        named = [checks.path("sources", one) for one in checks.several(sources)]
        self.data: DataSet = open_dataset(named, white)
        self.white = white
        self.top = top
        self.picture_bytes = checks.whole("picture_bytes", picture_bytes)

    def settings(self, context: Context) -> dict[str, Any]:
        """Everything that decides its results."""
        return {
            "images": len(self.data),
            "data": self.data.fingerprint(),
            "top": self.top,
            "picture_bytes": self.picture_bytes,
            "resize": context.settings.resize,
            "seed": context.settings.seed,
            **({} if self.white is None else {"white": self.white}),
            **({"classes": True} if fitting_labels(context.network, self.data, context.labels) else {}),
        }

    def run(self, context: Context) -> None:
        """Measure, show, write.

        Raises:
            InputError: no image can be used.
        """
        layers = [layer for layer in context.network.layers if layer.name in context.channels and layer.has_maps]
        survey = self._measure_data(context, layers)
        _write_statistics(context, layers, survey)
        _write_firing(context, layers, survey)
        self._write_examples(context, layers, survey)
        if survey.classes is not None:
            rows = range(len(survey.classes.answers.labels))
            ClassTables(survey.classes, layers).write(context.writer, [self.data.name(number) for number in rows])
        context.notes.extend(_notes(survey, context))
        if survey.classes is not None:
            explain_mistakes(context, self.data, mistakes(survey.classes.answers, EXPLAINED).tolist())
        context.writer.remove_file(CHECKPOINT)
        for warning in survey.levels.warnings():
            logging.getLogger("filterscope").warning("%s", warning)

    def _measure_data(self, context: Context, layers: Sequence[Layer]) -> Survey:
        """The whole pass, gone on with where a checkpoint of the same one is there."""
        identity = self._identity(context, layers)
        survey = self._new_survey(context, layers)
        checkpoint = _checkpoint(context, identity)
        if checkpoint is None:
            context.writer.remove_folder(self.name)  # what an interrupted study of other data has left
        else:
            try:
                survey.restore(checkpoint)
            except (KeyError, ValueError, IndexError):  # written by something else: begin again
                survey = self._new_survey(context, layers)
        context.progress.stage("measuring examples", len(self.data))
        context.progress.advance(survey.next)
        began = written = time.monotonic()
        took = 0.0
        for images in survey.run():
            context.progress.advance(images)
            now = time.monotonic()
            if now - written >= max(PAUSE, PATIENCE * took):
                _save(context, identity, survey)
                written = time.monotonic()
                took = written - now
        if time.monotonic() - began >= PAUSE:  # what comes next can be interrupted too
            _save(context, identity, survey)
        return survey

    def _new_survey(self, context: Context, layers: Sequence[Layer]) -> Survey:
        return Survey(
            context.network,
            layers,
            self.data,
            top=self.top,
            resize=context.settings.resize,
            seed=context.settings.seed,
            labels=context.labels,
        )

    def _identity(self, context: Context, layers: Sequence[Layer]) -> str:
        names = [layer.name for layer in layers]
        content = [context.writer.plan, self.settings(context), names, list(context.labels)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()

    def _write_examples(self, context: Context, layers: Sequence[Layer], survey: Survey) -> None:
        tops = [statistics.top for statistics in survey.statistics]
        mentioned = np.concatenate([*(top.images.ravel() for top in tops), _mistakes(survey)])
        numbers, first = np.unique(mentioned[mentioned >= 0], return_index=True)
        examples = numbers[np.argsort(first)]  # in the order of first mention
        pictures = self._worth_keeping(context, layers, survey)
        maps = [
            _map_request(layer, context.slugs[layer.name], context.channels[layer.name], statistics)
            for layer, statistics in zip(layers, survey.statistics, strict=True)
        ]
        resize = context.settings.resize
        shown, map_places = keep_pictures(
            context.network,
            self.data,
            resize,
            pictures=pictures,
            maps=maps,
            writer=context.writer,
            progress=context.progress,
        )
        places = Places(context.network)
        for layer, statistics, request in zip(layers, survey.statistics, maps, strict=True):
            table = _example_table(
                layer,
                statistics,
                examples,
                places,
                request=request,
                tiles=map_places.get(layer.name, []),
            )
            context.writer.write_table(f"examples/{context.slugs[layer.name]}.parquet", table)
        table = self._picture_table(context, examples, shown, survey)
        context.writer.write_table("examples/pictures.parquet", table)
        strange = sorted({label for label in table["label"].to_pylist() if label is not None} - set(context.labels))
        if context.labels and strange:
            more = ", …" if len(strange) > NAMED else ""
            context.notes.append(
                f"Classes of the data set that are none of the network's labels: {', '.join(strange[:NAMED])}{more}."
            )
        if len(shown) < len(examples):
            mib = self.picture_bytes / 2**20
            context.notes.append(
                f"Pictures are kept of {len(shown):,} of the {len(examples):,} images among the strongest of a unit"
                f"{' or answered wrong' if len(_mistakes(survey)) else ''}: "
                f"{mib:.0f} MiB of pixels are the budget, given to analysed channels, low ranks and images that many "
                "units name first."
            )

    def _worth_keeping(self, context: Context, layers: Sequence[Layer], survey: Survey) -> np.ndarray:
        """Numbers of the images whose pictures are kept: low ranks of analysed units first, then many mentions."""
        spec = context.network.input
        most = self.picture_bytes // (spec.height * spec.width * spec.channels)
        mentions, ranks = [], []
        for layer, statistics in zip(layers, survey.statistics, strict=True):
            rank = np.tile(np.arange(self.top), (layer.out_channels, 1))
            analysed = np.isin(np.arange(layer.out_channels), context.channels[layer.name])
            rank[~analysed] += self.top
            there = statistics.top.images >= 0
            mentions.append(statistics.top.images[there])
            ranks.append(rank[there])
        wrong = _mistakes(survey)
        mentions.append(wrong)
        ranks.append(np.zeros(len(wrong), np.int64))
        images, which, counts = np.unique(np.concatenate(mentions), return_inverse=True, return_counts=True)
        best = np.full(len(images), 2 * self.top)
        np.minimum.at(best, which, np.concatenate(ranks))
        return np.asarray(images[np.lexsort((images, -counts, best))[:most]])

    def _picture_table(
        self, context: Context, examples: np.ndarray, shown: dict[int, AtlasTile], survey: Survey
    ) -> pa.Table:
        bands = context.network.input.channels
        rows = []
        for example, image in enumerate(examples.tolist()):
            source = self.data.source(image)
            label = survey.classes.labels.own_name(image) if survey.classes is not None else None
            label = label or self.data.label(image, context.labels)
            tile = shown.get(image)
            rows.append(
                {
                    "example": example,
                    "image": image,
                    "source": writable(source),
                    "name": writable(self.data.name(image)),
                    "label": None if label is None else writable(label),
                    "bands": None if tile is None else bands,
                    **row_of(tile),
                }
            )
        return pa.Table.from_pylist(rows, EXAMPLE_PICTURE_SCHEMA)


def _mistakes(survey: Survey) -> np.ndarray:
    return np.zeros(0, np.int64) if survey.classes is None else mistakes(survey.classes.answers, MISTAKES)


def _map_request(layer: Layer, slug: str, channels: Sequence[int], statistics: LayerStatistics) -> MapRequest:
    units = np.repeat(np.array(channels, np.int64), min(MAP_RANKS, statistics.top.images.shape[1]))
    images = statistics.top.images[list(channels), :MAP_RANKS].ravel()
    return MapRequest(layer, slug, units[images >= 0], images[images >= 0])


def _example_table(
    layer: Layer,
    statistics: LayerStatistics,
    examples: np.ndarray,
    places: Places,
    request: MapRequest,
    tiles: Sequence[AtlasTile],
) -> pa.Table:
    top = statistics.top
    channel, rank = np.nonzero(top.images >= 0)
    image = top.images[channel, rank]
    row, column = np.divmod(top.places[channel, rank], layer.output_shape[2])
    seen = places.fields(layer, row, column)
    by_image = np.argsort(examples)
    tile_of = {(c, i): t for c, i, t in zip(request.channels.tolist(), request.images.tolist(), tiles, strict=True)}
    shown = [row_of(tile_of.get(key)) for key in zip(channel.tolist(), image.tolist(), strict=True)]
    columns = {
        "channel": channel,
        "rank": rank,
        "example": by_image[np.searchsorted(examples, image, sorter=by_image)],
        "activation": top.values[channel, rank],
        "row": row,
        "column": column,
        **{name: seen[:, i] for i, name in enumerate(("top", "left", "field_height", "field_width"))},
        **{name: pa.array([one[name] for one in shown]) for name in ("atlas", "tile", "height", "width")},
    }
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in EXAMPLE_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=EXAMPLE_SCHEMA)


def _write_statistics(context: Context, layers: Sequence[Layer], survey: Survey) -> None:
    units, depths = [], []
    for index, (layer, statistics) in enumerate(zip(layers, survey.statistics, strict=True)):
        rows = _unit_rows(layer, statistics)
        if survey.classes is not None:
            for row, share in zip(rows, survey.classes.units.selectivity(index).tolist(), strict=True):
                row["selectivity"] = None if math.isnan(share) else share
        units.extend(rows)
        images = max(statistics.images, 1)
        alike = [row["correlation"] for row in rows if row.get("correlation") is not None]
        depths.append(
            {
                "layer": writable(layer.name),
                "depth": layer.depth,
                "active": float(statistics.active.mean()) / (images * statistics.places) if statistics.images else None,
                "sparsity": statistics.sparsity / images if statistics.images else None,
                "dead": sum(row["dead"] for row in rows),
                "duplicates": sum(how > DUPLICATE for how in alike),
            }
        )
    context.writer.write_table("examples/units.parquet", pa.Table.from_pylist(units, STATISTICS_SCHEMA))
    context.writer.write_table("examples/layers.parquet", pa.Table.from_pylist(depths, DEPTH_SCHEMA))


def _unit_rows(layer: Layer, statistics: LayerStatistics) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"layer": writable(layer.name), "channel": c} for c in range(layer.out_channels)]
    if statistics.histograms is None:  # not one finite answer
        return [row | {"dead": False, "firsts": 0} for row in rows]
    near, how = (np.full(layer.out_channels, -1), np.full(layer.out_channels, np.nan))
    if statistics.covariance is not None:
        near, how = statistics.covariance.nearest()
    counts, low, high = statistics.histograms.within(statistics.minimum, statistics.maximum)
    dead = (statistics.maximum <= 0) & (layer.nonlinearity in PASSED)  # nothing of it is let through
    for channel, row in enumerate(rows):
        row |= {
            "minimum": statistics.minimum[channel],
            "mean": statistics.total[channel] / statistics.images,
            "maximum": statistics.maximum[channel],
            "active": statistics.active[channel] / (statistics.images * statistics.places),
            "active_images": statistics.active_images[channel] / statistics.images,
            "dead": bool(dead[channel]),
            "histogram": counts[channel],
            "histogram_low": low[channel],
            "histogram_high": high[channel],
            "firsts": int(statistics.firsts[channel]),
            "nearest": int(near[channel]) if near[channel] >= 0 else None,
            "correlation": float(how[channel]) if near[channel] >= 0 else None,
        }
    return rows


def _write_firing(context: Context, layers: Sequence[Layer], survey: Survey) -> None:
    firing = survey.firing
    tables = []
    for index, layer in enumerate(layers):
        images = np.nonzero(firing.channels[index] >= 0)[0]
        batches = np.nonzero(firing.batch_images[index])[0]
        columns = {
            "layer": pa.array([writable(layer.name)] * (len(images) + len(batches))),
            "image": np.concatenate([images, batches * BATCH]),
            "images": np.concatenate([np.ones(len(images), np.int32), firing.batch_images[index, batches]]),
            "channel": np.concatenate([firing.channels[index, images], firing.batch_channels[index, batches]]),
            "mean": np.concatenate([firing.means[index, images], firing.batch_means[index, batches]]),
        }
        tables.append(pa.Table.from_pydict(columns, FIRING_SCHEMA))
    context.writer.write_table("examples/firing.parquet", pa.concat_tables(tables))


def _notes(survey: Survey, context: Context) -> list[str]:
    """What was left out, and how; sentences."""
    data, spec = survey.data, context.network.input
    notes = [f"{survey.measured:,} images were measured.", *survey.levels.warnings()]
    if survey.broken_images:
        left = survey.broken_images - len(survey.broken)
        more = f"; and {left} more" if left else ""
        named = "; ".join(writable(text) for text in survey.broken)
        notes.append(f"{survey.broken_images:,} of {len(data):,} images were skipped: {named}{more}.")
    if survey.resized:
        how = context.settings.resize
        notes.append(
            f"{survey.resized:,} images had another size than {spec.height}×{spec.width} and were resized ({how})."
        )
    notes.append(
        f"Histograms and correlations are of {survey.sampled} places of each map, drawn at random for each batch of "
        "images, or of all places where there are no more; all other numbers are of every place."
    )
    if survey.firing.limit < len(data):
        notes.append(f"Which channel fires most is kept for the first {survey.firing.limit:,} images.")
    if survey.classes is not None:
        notes += class_notes(survey.classes)
    else:
        notes += list(filter(None, [why_not(context.network, data, context.labels)]))
    of_layers = list(zip(survey.layers, survey.statistics, strict=True))
    wide = [layer.name for layer, statistics in of_layers if statistics.covariance is None]
    if wide:
        notes.append(f"Correlations were not measured, for want of memory: {', '.join(map(writable, wide))}.")
    refused = {layer.name: statistics.broken for layer, statistics in of_layers if statistics.broken}
    if refused:
        listed = ", ".join(f"{writable(name)} ({count:,})" for name, count in refused.items())
        notes.append(f"Images to which a layer's answer is not finite are left out of its numbers: {listed}.")
    return notes


def _checkpoint(context: Context, identity: str) -> dict[str, np.ndarray] | None:
    """What an interrupted pass of the same identity has saved."""
    path = context.writer.folder / CHECKPOINT
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception:  # missing or damaged, in any of the ways that zip archives can be: begin again
        return None
    return arrays if str(arrays.pop("identity", "")) == identity else None


def _save(context: Context, identity: str, survey: Survey) -> None:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {"identity": np.array(identity), **survey.state()}
    np.savez(buffer, **arrays)
    context.writer.write_bytes(CHECKPOINT, buffer.getvalue())
