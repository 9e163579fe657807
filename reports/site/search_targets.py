"""What the search of every page leads to beside layers and channels, and what it says where it finds nothing.

Knows the run's reader and the layers' entries; knows no HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import ImageInfo
from filterscope.analyzer.run.rows import ClassRow
from filterscope.reports.page import words
from filterscope.reports.site.layer_page import LayerEntry
from filterscope.reports.site.search_index import Odd, Target

NAME = 60  # letters of a name


def odd_of(entry: LayerEntry) -> Odd:
    """Trait → the channels of a layer that have it, or groups of them."""
    return {
        "silent": entry.silent or (),
        "dead": entry.dead_channels,
        "constant": entry.constant_channels,
        "double": [group.channels for group in entry.doubles.groups],
        "alike": entry.groups,
    }


def targets(
    images: Sequence[ImageInfo], classes: Sequence[ClassRow], labels: Sequence[str], entries: Sequence[LayerEntry]
) -> list[Target]:
    """The pages that a word may lead to: what is odd as a whole, classes with a picture, images by name and answer.

    Args:
        images: that have a page, in order.
        classes: that have a picture.
        labels: names of the network's classes, in order; empty where unknown.
        entries: of all layers.
    """
    return [*_of_odd(entries), *map(_of_class, classes), *_of_images(images, labels)]


def _of_odd(entries: Sequence[LayerEntry]) -> Iterator[Target]:
    counts = {
        "Silent on the data": (sum(len(entry.silent or ()) for entry in entries), "silent inactive"),
        "Dead": (sum(len(entry.dead_channels) for entry in entries), "dead"),
        "Constant": (sum(len(entry.constant_channels) for entry in entries), "constant"),
        "Double": (sum(len(entry.doubles.double) for entry in entries), "double duplicate doubles duplicates"),
    }
    for title, (number, found_by) in counts.items():
        if number:
            all_of_them = words.count(number, "channel")
            yield Target(f"{title}: {all_of_them}", "listed on the first page", "index.html#odd", found_by)


def _of_class(row: ClassRow) -> Target:
    name = words.shortened(row.label, NAME) if row.label else f"class {row.klass}"
    return Target(f"Class {name}", "the picture that raises its score", f"classes.html#class-{row.klass}", name)


def _of_images(images: Sequence[ImageInfo], labels: Sequence[str]) -> Iterator[Target]:
    for index, image in enumerate(images):
        name = words.shortened(str(image.name), NAME)
        best = image.prediction.top[0] if image.prediction and image.prediction.top else None
        answer = words.shortened(best.label, NAME) if best and best.label else ""
        own = labels[image.label] if image.label is not None and 0 <= image.label < len(labels) else ""
        answered = f"answered {answer}: " if answer else ""
        why = f"{answered}the channels that fire most on it"
        yield Target(f"Image {name}", why, f"image-{index}.html#fire", f"{name} {answer} {own}".strip())


def lacks(run: Run, entries: Sequence[LayerEntry], *, has_classes: bool) -> dict[str, str]:
    """Why a trait, or "classes", finds no channel: a sentence each; what finds some is left out.

    Args:
        run: to read from.
        entries: of all layers.
        has_classes: whether any channel can be found by a class of the data.
    """
    there = {trait for entry in entries for trait, some in odd_of(entry).items() if some}
    has_data, compared = any(entry.silent is not None for entry in entries), any(e.doubles.compared for e in entries)
    unknown = "is not known: that takes a data set (`examples`)."
    sentences = {
        "silent": "No channel is silent on the data." if has_data else f"Which channels are silent {unknown}",
        "dead": "No channel is proven dead.",
        "constant": "No channel is constant.",
        "double": "No two channels are doubles." if compared else f"Which channels are doubles {unknown}",
        "alike": "No channels are look-alikes." if compared else f"Which channels are look-alikes {unknown}",
        "classes": "" if has_classes else _no_classes(run),
    }
    return {name: text for name, text in sentences.items() if text and name not in there}


def _no_classes(run: Run) -> str:
    """Why no channel is found by a class of the data, and what would do it."""
    how = "a data set with a folder a class (`examples`)"
    if run.holds("examples"):
        has_labels = len(run.table("examples/classes.parquet")) > 0
        unfit = "the images of the data set have no labels that fit"
        why = "no channel tells a class, or no class has enough images" if has_labels else unfit
        return f"No channel is found by class here: {why}. It takes {how}, three images of each or more."
    names = "" if run.info.labels else " Images are found by their answers where the classes have names (`labels`)."
    return f"No channel is found by class here: that takes {how}, for the classes that each channel tells.{names}"
