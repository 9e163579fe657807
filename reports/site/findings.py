"""What a reader wants to know of a network first: what it is, how often it is right, and what is odd about it.

Knows the run's reader; knows nothing of HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import RunInfo
from filterscope.analyzer.run.rows import ConfusionRow, DataClassRow, rows_of
from filterscope.reports.page import words
from filterscope.reports.site import doubles
from filterscope.reports.site.details import Studies
from filterscope.reports.site.layer_page import LayerEntry

SATURATED = 0.5  # share of an image's values at 0 or 255, above which it is mostly black or white
NAMED = 4  # classes named in a sentence
FEWEST = 10  # images of a class, from which it is named as the best or the worst


@dataclass(frozen=True, slots=True)
class Place:
    """A layer in which something was found."""

    layer: str
    page: str | None
    channels: tuple[int, ...]  # in which it was found; empty where it is the layer as a whole
    on_page: frozenset[int]  # channels with a view
    note: str = ""
    groups: tuple[doubles.Group, ...] = ()  # of channels, where it was found between channels


@dataclass(frozen=True, slots=True)
class Finding:
    """One odd thing, and where."""

    title: str
    anchor: str  # section of the method page
    text: str
    places: tuple[Place, ...] = ()


def class_results(run: Run) -> list[DataClassRow]:
    """The classes of the run's data of which there are images; none where the data has none."""
    return [row for row in rows_of(run.table("examples/classes.parquet"), DataClassRow) if row.images]


def network_sentence(info: RunInfo, results: Sequence[DataClassRow] = ()) -> str:
    """What the network is: what it takes, what it answers, and how large it is.

    Args:
        info: of the run.
        results: the classes of its data, which may name those of the network.
    """
    model, spec = info.model, info.input
    outputs = [output.shape[1:] for output in model.outputs]
    has_scores = len(outputs) == 1 and len([side for side in outputs[0] if side != 1]) == 1
    of_data = [row.name for row in results if row.name and row.name != f"class {row.index}"]
    is_whole = has_scores and len(of_data) == int(np.prod(outputs[0]))
    names = list(info.labels) or (of_data if is_whole else [])
    parts = [_answer(names, outputs) if names or has_scores else _outputs(outputs)]
    if spec:
        bands = {"rgb": "RGB images", "grey": "grey images", "multi": f"images of {spec.channels} bands"}[spec.bands]
        parts.append(f"It takes {bands} of {words.times([spec.height, spec.width])} pixels.")
    if model.conv_layers is not None:
        size = [words.count(model.conv_layers, "convolution layer")]
        size += [words.count(model.conv_channels, "channel")] if model.conv_channels is not None else []
        size += [f"{words.large(model.parameters)} parameters"] if model.parameters is not None else []
        parts.append(f"Inside: {words.listed(size)}.")
    return " ".join(filter(None, parts))


def _answer(labels: Sequence[str], outputs: Sequence[tuple[int, ...]]) -> str:
    count = len(labels) or int(np.prod(outputs[0]))
    names = [words.shortened(name, 24) for name in labels]
    if len(names) > 12:
        return f"A classifier of {count:,} classes, from {names[0]} to {names[-1]}."
    if names:
        return f"A classifier of {words.count(count, 'class', 'classes')}: {words.listed(names, 12)}."
    return f"A network with {words.count(count, 'score')}, one a class if it is a classifier."


def _outputs(outputs: Sequence[tuple[int, ...]]) -> str:
    if not outputs:
        return ""
    sizes = [words.times(shape) for shape in outputs]
    return f"A network with {words.count(len(outputs), 'output')}, of {words.listed(sizes)} numbers."


def accuracy_sentences(results: Sequence[DataClassRow], confusions: Sequence[ConfusionRow] = ()) -> list[str]:
    """How often the network is right on the labelled data, in which classes most and least, and what it mixes up."""
    images = sum(row.images for row in results)
    if not images:
        return []
    share = sum(row.right for row in results) / images
    text = f"It is right on {words.percent(share)} of the {words.count(images, 'image')} of the data set"
    if all(row.right_of_five is not None for row in results):
        among = sum(row.right_of_five or 0 for row in results) / images
        text += f"; the right class is among its first five answers for {words.percent(among)}"
    sentences = [f"{text}."]
    largest = max(results, key=lambda row: (row.images, -row.index))
    if share <= largest.images / images < 1:
        sentences.append(
            f"Always answering {_class(largest)} would be right as often: "
            "the preprocessing may be wrong, or the labels."
        )
    ranked = sorted((row for row in results if row.images >= FEWEST), key=lambda row: (_share(row), row.index))
    if ranked and _share(ranked[0]) < _share(ranked[-1]):
        best, worst = (f"{_class(row)} ({words.percent(_share(row))})" for row in (ranked[-1], ranked[0]))
        sentences.append(f"Best at {best}, worst at {worst}.")
    of_index = {row.index: row for row in results}
    mixed = [one for one in confusions if one.label != one.predicted and one.label in of_index]
    most = max(mixed, key=lambda one: (one.images, -one.label, -one.predicted), default=None)
    if most and most.images > 1:  # once says nothing of how often
        answer = of_index.get(most.predicted)
        other = _class(answer) if answer else f"class {most.predicted}"
        sentences.append(
            f"Most often mixed up: {_class(of_index[most.label])} taken for {other}, "
            f"{most.images:,} of {words.count(of_index[most.label].images, 'time')}."
        )
    return sentences


def confusions(run: Run) -> list[ConfusionRow]:
    """How often each class of the run's data was taken for each; none where the data has none."""
    return rows_of(run.table("examples/confusion.parquet"), ConfusionRow)


def _share(row: DataClassRow) -> float:
    """Of a class's images that the network was right about."""
    return row.right / row.images


def _class(row: DataClassRow) -> str:
    return words.shortened(row.name) if row.name else f"class {row.index}"


def findings(run: Run, studies: Studies, entries: Sequence[LayerEntry], saturated: tuple[int, int]) -> list[Finding]:
    """Everything odd that the run shows, the most certain first.

    Args:
        run: to read from.
        studies: of the run.
        entries: of all layers.
        saturated: how many images are mostly black or white, and how many were looked at.
    """
    units = sum(entry.units for entry in entries)
    pictures = sum(entry.pictures for entry in entries)
    measured = [entry for entry in entries if entry.silent is not None]
    seen = sum(len(studies.statistics.of(entry.layer.name)) for entry in measured)
    pictured = [entry for entry in entries if entry.likeness is not None]
    alike = [entry for entry in pictured if entry.looks_alike]
    is_assumed = bool(run.info.input and run.info.input.certain is False)
    proven = f"This is proven{', if the preprocessing is as assumed' if is_assumed else ''}"
    data = studies.data_images
    of_data = f"of {words.count(data, 'image')} of the data set" if data else "image of the data set"
    odd = [
        _of_channels(
            "Dead",
            "dead",
            f"no image can raise them above 0. {proven}",
            units,
            places=[(e, e.dead_channels) for e in entries],
        ),
        _of_channels(
            "Silent on the data",
            "silent",
            f"never above 0 on any {of_data}",
            seen,
            places=[(entry, entry.silent or ()) for entry in measured],
        ),
        _of_channels(
            "Constant",
            "constant",
            "gave one number for everything that was measured",
            units,
            places=[(entry, entry.constant_channels) for entry in entries],
        ),
        _doubles(entries),
        _of_layers("unraised", "did not rise above random images", pictures, [(e, e.unraised) for e in entries]),
        _of_layers("diverged", "diverged: there is no result", pictures, [(e, e.diverged) for e in entries]),
    ]
    if alike:
        text = (
            f"{len(alike):,} of {words.count(len(pictured), 'layer')}: the pictures look alike, "
            "so they tell little about single channels."
        )
        places = [_whole(entry, f"median correlation {entry.likeness:.2f}") for entry in alike]
        odd.append(Finding("Alike", "likeness", text, tuple(places)))
    if saturated[0]:
        text = (
            f"{saturated[0]:,} of {words.count(saturated[1], 'image')} "
            f"{'is' if saturated[0] == 1 else 'are'} mostly black or white: more than half of the values are 0 or 255."
        )
        odd.append(Finding("Saturated", "saturated", text))
    return [finding for finding in odd if finding is not None]


def _of_channels(
    title: str, anchor: str, claim: str, total: int, *, places: Sequence[tuple[LayerEntry, Sequence[int]]]
) -> Finding | None:
    """A finding about channels; None where it holds for none."""
    there = [Place(entry.layer.name, entry.page, tuple(some), entry.on_page) for entry, some in places if some]
    number = sum(len(place.channels) for place in there)
    text = f"{number:,} of {words.count(total, 'channel')}: {claim}."
    return Finding(title, anchor, text, tuple(there)) if number else None


def _doubles(entries: Sequence[LayerEntry]) -> Finding | None:
    """Which channels do the same; None where no two do."""
    there = [entry for entry in entries if entry.doubles.groups]
    places = [Place(e.layer.name, e.page, (), e.on_page, groups=e.doubles.groups) for e in there]
    number = sum(len(entry.doubles.double) for entry in there)
    compared = sum(entry.doubles.compared for entry in entries)
    groups = words.count(sum(len(place.groups) for place in places), "group")
    text = (
        f"{number:,} of {words.count(compared, 'channel')}: do the same as another channel of their layer, "
        f"in {groups} (a correlation or cosine above {doubles.LIMIT}; in brackets the lowest that joins a group)."
    )
    return Finding("Double", "double", text, tuple(places)) if there else None


def _whole(entry: LayerEntry, note: str) -> Place:
    """A layer as a whole."""
    return Place(layer=entry.layer.name, page=entry.page, channels=(), on_page=frozenset(), note=note)


def _of_layers(status: str, claim: str, total: int, numbers: Sequence[tuple[LayerEntry, int]]) -> Finding | None:
    """A finding about pictures, counted by layer; None where it holds for none."""
    places = [_whole(entry, words.count(number, "picture")) for entry, number in numbers if number]
    number = sum(number for _, number in numbers)
    text = f"{number:,} of {words.count(total, 'picture')} {claim}."
    return Finding(status.capitalize(), status, text, tuple(places)) if number else None


def saturated_images(run: Run, images: int) -> int:
    """How many of the first images of a run are mostly black or white."""
    return sum(saturation(run.image(index)) > SATURATED for index in range(images))


def saturation(picture: np.ndarray) -> float:
    """Share of an image's values that are the least or the most that 8 bits hold; (H, W, C) uint8."""
    return float(np.mean((picture == 0) | (picture == 255)))


def unlooked(run: Run) -> list[str]:
    """What the run cannot tell, and the setting that would make it known."""
    return [] if run.holds("examples") else ["which channels are silent, or double, on real data (`examples`)"]
