"""The settings of a run and of its studies in plain words.

run.json and study.json hold them under short names; a reader wants to know what each decided. Knows the run's
vocabulary; knows nothing of HTML. A setting without a row here is shown by its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from filterscope.analyzer.run.records import RunInfo, StudyInfo
from filterscope.reports.page import words

Facts = list[tuple[str, str]]  # (name, words)


@dataclass(frozen=True, slots=True)
class SettingWords:
    """How one setting is said."""

    title: str
    say: Callable[[object], str]


def plain(value: object) -> str:
    """A value as people write it: a list with commas, yes or no, nothing as a dash."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return words.NOTHING
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value)) or "none"
    if isinstance(value, int):
        return f"{value:,}"
    return words.figure(value) if isinstance(value, float) else str(value)


def _chosen(value: object) -> str:
    """Which channels of a layer, as `channels` says it."""
    text = str(value)
    if text == "auto":
        return "chosen by itself: all of a network with at most 1,024, otherwise 16 a layer"
    number, slash, _ = text.partition("/")
    return f"{number} of each layer" if slash else text


def _named(names: Mapping[str, str]) -> Callable[[object], str]:
    """A value by its meaning; one without any as it is."""
    return lambda value: names.get(str(value), plain(value))


def _or(nothing: str, say: Callable[[object], str] = plain) -> Callable[[object], str]:
    """`nothing` for no value, an empty list and 0; otherwise `say`."""
    return lambda value: say(value) if value else nothing


def _seconds(value: object) -> str:
    return words.duration(value) if isinstance(value, (int, float)) else plain(value)


def _pixels(value: object) -> str:
    return f"{plain(value)} px"


def _operations(value: object) -> str:
    return f"{words.large(value)} multiply-adds" if isinstance(value, (int, float)) else "no limit"


def _share(value: object) -> str:
    return words.percent(value) if isinstance(value, (int, float)) else plain(value)


def _bytes(value: object) -> str:
    return words.mebibytes(value / 2**20) if isinstance(value, (int, float)) else plain(value)


OBJECTIVES = {
    "channel": "the mean of a channel’s map",
    "neuron": "one neuron",
    "negative": "the lowest mean of a channel’s map",
    "diversity": "four different pictures of a channel",
    "layer": "a layer as a whole",
}
RESIZES = {
    "auto": "chosen by itself: untouched where the size is right; otherwise the middle of the image",
    "crop": "the middle of the image, seven eighths of its side",
    "cover": "the middle of the smallest image that covers the input",
    "squash": "stretched to the input, whatever its shape",
    "fit": "all of the image, on mid grey",
    "none": "refused unless the size is right",
}
RESIZED = SettingWords("Images of another size", _named(RESIZES))
SEED = SettingWords("Seed of all random numbers", str)
PHOTOS = SettingWords("Images that were taken, at most", plain)

RUN = {
    "quality": SettingWords("Quality", plain),
    "preset": SettingWords("Recipe of the pictures", plain),
    "source": SettingWords("Source of the recipe", plain),
    "objectives": SettingWords(
        "What pictures raise",
        lambda value: (
            words.listed([OBJECTIVES.get(str(one), str(one)) for one in value])
            if isinstance(value, (list, tuple))
            else plain(value)
        ),
    ),
    "layers": SettingWords("Layers", _or("all")),
    "kinds": SettingWords("Kinds of layer", plain),
    "channels": SettingWords("Channels", _chosen),
    "seed": SEED,
    "map_pictures": SettingWords("Images whose maps are kept as pictures", plain),
    "resize": RESIZED,
    "time_budget": SettingWords("Time for the pictures", _or("no limit", _seconds)),
    "steps": SettingWords("Steps of ascent, a picture", plain),
    "patience": SettingWords("Steps without progress that end an ascent", plain),
    "rate": SettingWords("Size of a step", plain),
    "canvas_cap": SettingWords("Longest side of a picture, at most", _or("no limit", _pixels)),
    "stretched": SettingWords("Contrast of the pictures stretched", plain),
    "images_of_prior": SettingWords("Your images that lent colours and spectrum", _or("none")),
    "recipe": SettingWords("Hash of how pictures are made", str),
}
STUDIES = {
    "weights": {
        "inputs": SettingWords("Inputs shown of a kernel, at most", plain),
        "alike": SettingWords("Most similar channels named of each", plain),
    },
    "examples": {
        "images": SettingWords("Images of the data set", plain),
        "data": SettingWords("Hash of the data set", str),
        "top": SettingWords("Strongest places of each channel", plain),
        "picture_bytes": SettingWords("Memory for pictures, at most", _bytes),
        "resize": RESIZED,
        "seed": SEED,
        "white": SettingWords("White", plain),
    },
    "attribution": {
        "methods": SettingWords("Methods", plain),
        "targets": SettingWords("What is explained", _or("the network’s own answer")),
        "layer": SettingWords("Layer of the targets", _or("none: classes are explained")),
        "contrast": SettingWords("The answer against the class that is next", plain),
        "sanity": SettingWords("Sanity check", plain),
        "images": PHOTOS,
        "samples": SettingWords("Noisy copies of an image (SmoothGrad)", plain),
        "noise": SettingWords("Noise in them, as a share of the range", _share),
        "steps": SettingWords("Steps on the way from the baseline (integrated gradients)", plain),
        "windows": SettingWords("Windows a side (occlusion)", plain),
        "stages": SettingWords("Stages of the sanity check", plain),
    },
    "classes": {"classes": SettingWords("Classes drawn, by number", plain)},
    "inversion": {
        "layers": SettingWords("Layers", plain),
        "images": PHOTOS,
        "evaluations": SettingWords("Steps of an inversion, at most", plain),
        "caricature_steps": SettingWords("Steps of a caricature", _or("none")),
        "power": SettingWords("Power of a caricature", plain),
    },
    "groups": {
        "layers": SettingWords("Layers", plain),
        "groups": SettingWords("Groups of a layer", plain),
        "images": PHOTOS,
        "grid": SettingWords("Places of a grid, a side", _or("no grid")),
    },
    "tuning": {
        "budget": SettingWords("Work, at most", _operations),
        "examples": SettingWords("Hash of the natural images that it compares with", _or("none")),
    },
    "truth": {
        "units": SettingWords("Channels of a layer whose paths are compared", plain),
        "layers": SettingWords("Earlier layers that are compared", plain),
        "examples": SettingWords("Hash of the natural images that it compares with", _or("your images")),
    },
    "values": {"values": SettingWords("Values shown", plain)},
}


def settings_facts(info: RunInfo) -> Facts:
    """Every setting of the run, in plain words."""
    return _in_words(info.settings, RUN)


def study_facts(study: StudyInfo) -> Facts:
    """The settings of a study in plain words, and what it cost."""
    facts = _in_words(study.settings, STUDIES.get(str(study.name), {}))
    return [*facts, ("Time it took", words.duration(study.seconds))]


def _in_words(settings: Mapping[str, object], sayings: Mapping[str, SettingWords]) -> Facts:
    facts = []
    for name, value in settings.items():
        title = name.replace("_", " ").capitalize()
        row = sayings.get(name, SettingWords(title, plain))
        facts.append((row.title, row.say(value)))
    return facts
