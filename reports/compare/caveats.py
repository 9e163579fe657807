"""Sentences on what two runs have in common, and on what differs apart from the networks.

Whoever reads that a unit changed must know what was compared with what. Knows the run's record; knows nothing
of pictures or HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import InputInfo
from filterscope.reports.compare.words import ALIKE, alike
from filterscope.reports.page import words

if TYPE_CHECKING:
    from filterscope.reports.compare.comparison import Comparison, LayerPair
    from filterscope.reports.compare.matching import LayerMatch


def statements(
    a: Run, b: Run, matched: LayerMatch, layers: Sequence[LayerPair], *, by_index: bool, images: int
) -> Iterator[str]:
    """What is compared, one sentence per fact.

    Args:
        a: one run.
        b: the other.
        matched: which layers are comparable.
        layers: with their units.
        by_index: whether units were matched by their number; else by their responses.
        images: how many images both runs hold.
    """
    hashes = [run.info.model.sha256 for run in (a, b)]
    if hashes[0] and hashes[0] == hashes[1]:
        yield "Both runs analysed the same file: what differs comes from their settings."
    else:
        yield "The runs analysed two different files."
    yield from _of_layers(matched)
    if by_index:
        yield "Channels were matched by their number."
    else:
        yield "Channels were matched by their responses to the same images, so that the sum of correlations is largest."
    if not images:
        yield "The runs have no image in common, so their channels’ responses could not be compared."
    elif any(layer.images for layer in layers):
        of_places = any(layer.of_places for layer in layers)
        over = "the places of their maps" if of_places else "their mean and their maximum on each image"
        used = max(layer.images for layer in layers)
        shared = words.count(used, "image")
        yield f"Correlations are computed over {over} on {shared} that both runs hold, pixel by pixel."
    rounded = [_eight_bit(run) for run in (a, b)]
    if any(rounded):
        which = "Both networks compute" if all(rounded) else f"Network {'A' if rounded[0] else 'B'} computes"
        yield (
            f"{which} in 8 bits. Its convolutions are compared by their values in floats, before the file "
            "rounds them. Weights and parameters are not compared."
        )


def cautions(a: Run, b: Run, *, compared_data: bool) -> Iterator[str]:
    """What differs apart from the networks, one sentence per difference.

    Args:
        a: one run.
        b: the other.
        compared_data: whether their passes over a data set are compared.
    """
    yield from _of_settings(a, b)
    inputs = [run.info.input or InputInfo.read({}) for run in (a, b)]
    sizes = [words.times([part.height or 0, part.width or 0]) for part in inputs]
    if sizes[0] != sizes[1]:
        yield f"The inputs differ in size: {sizes[0]} against {sizes[1]} pixels."
    if inputs[0].preprocessing != inputs[1].preprocessing:
        names = [(part.preprocessing and part.preprocessing.name) or "another" for part in inputs]
        which = f"{names[0]} against {names[1]}" if names[0] != names[1] else f"both are called {names[0]}"
        yield f"The preprocessing differs ({which}): the same pixels become different numbers in the two networks."
    for which, run in zip("AB", (a, b), strict=True):
        if run.info.status != "complete":
            yield f"Run {which} is not finished: what it lacks is missing here too."
    for which, run in zip("AB", (a, b), strict=True):
        parity = run.info.model.parity
        if parity and parity.alone and parity.alone.one_at_a_time:
            yield f"Network {which} was computed one picture at a time, since a picture's values may depend on others."
    if not compared_data and a.study("examples") and b.study("examples"):
        yield "The runs passed over different data, so fractions of active places are not compared."
    versions = [run.info.filterscope for run in (a, b)]
    if versions[0] != versions[1]:
        yield f"The runs were made by filterscope {_plain(versions[0])} and {_plain(versions[1])}."


def _of_layers(matched: LayerMatch) -> Iterator[str]:
    number = words.count(len(matched.pairs), "layer")
    if matched.how == "order":
        yield f"{number} were matched by order: names differ, but the convolutions are the same in both."
    else:
        yield f"{number} were matched by name."
    if matched.only_a or matched.only_b:
        larger = len(matched.pairs) + len(matched.differing) + max(len(matched.only_a), len(matched.only_b))
        share = words.percent(len(matched.pairs) / larger)
        yield f"The networks are not of one architecture: {share} of their layers could be compared."
    elif matched.differing:
        yield f"{words.count(len(matched.differing), 'layer')} could not be compared, as listed below."


def _of_settings(a: Run, b: Run) -> Iterator[str]:
    differences = []
    for name in ("quality", "preset", "steps", "objectives", "channels"):
        one, other = (run.info.settings.get(name) for run in (a, b))
        if one != other:
            differences.append(f"{name.replace('_', ' ')} {_plain(one)} against {_plain(other)}")
    seeds = [run.info.seed for run in (a, b)]
    if seeds[0] != seeds[1]:
        differences.append(f"seed {_plain(seeds[0])} against {_plain(seeds[1])}")
    if differences:
        yield f"Pictures were made with different settings: {'; '.join(differences)}. Their activations depend on them."
    priors = [run.info.settings.get("images_of_prior") for run in (a, b)]
    if None not in priors and bool(priors[0]) != bool(priors[1]):
        which = "A" if priors[0] else "B"
        yield (
            f"Run {which} took the colours and the spectrum of its pictures from its images, the other run had too few "
            "for it. Their activations depend on this too."
        )


def _eight_bit(run: Run) -> bool:
    """Whether the file's network computes in 8 bits, as its notes say."""
    return any("8-bit" in note or "8 bits" in note for note in run.info.model.notes)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def verdict(comparison: Comparison) -> Iterator[str]:
    """The result of the comparison, in a few sentences."""
    pairs = [pair for _, pair in comparison.pairs]
    of = f"{words.count(len(pairs), 'channel')} of {words.count(len(comparison.layers), 'layer')}"
    if comparison.unchanged:
        yield f"Nothing changed: every number and picture that both runs hold is the same, in {of}."
        return
    measured = [layer for layer in comparison.layers if len(layer.correlations)]
    lowest = min((layer.quantile(0.0) or 0.0 for layer in measured), default=0.0)
    if lowest > ALIKE:
        yield f"{of} were compared; all that could be measured respond alike to the same images."
    elif measured:
        yield (
            f"{of} were compared; half of them respond to the same images with a correlation of "
            f"{alike(comparison.median)} or more{_against(measured)}."
        )
    else:
        yield f"{of} were compared."
    if measured:
        worst = min(measured, key=lambda layer: layer.quantile(0.5) or 0.0)
        if len(measured) > 1 and (worst.quantile(0.5) or 0.0) < (comparison.median or 0.0):
            yield (
                f"The networks differ most in {words.shortened(worst.a.name)}, "
                f"where half of the channels stay below {alike(worst.quantile(0.5))}."
            )
    changes = sorted(pair.change for pair in pairs if pair.change is not None)
    if changes:
        middle = changes[len(changes) // 2]
        yield f"Half of the {len(changes):,} maximised activations changed by {words.percent(middle)} or more."
    turned = sum(sum(layer.status_changes.values()) for layer in comparison.layers)
    if turned:
        yield f"{words.count(turned, 'picture')} changed in status."


def _against(layers: Sequence[LayerPair]) -> str:
    """The correlation expected by chance, median over the layers, as a clause."""
    chances = sorted(layer.chance for layer in layers if layer.chance is not None)
    return f"; by chance it would be {alike(chances[len(chances) // 2], 2)}" if chances else ""


def facts(a: Run, b: Run) -> Iterator[tuple[str, str, str]]:
    """What each run is: a name, then its value in A and in B."""
    sides = [_facts(run) for run in (a, b)]
    for name in sides[0]:
        one, other = sides[0][name], sides[1][name]
        if one != words.NOTHING or other != words.NOTHING:
            yield name, one, other


def _facts(run: Run) -> dict[str, str]:
    info, model = run.info, run.info.model
    spec, settings = info.input or InputInfo.read({}), info.settings
    values = {
        "Run": run.folder.resolve().name,
        "Network": model.name,
        "Its SHA-256": (model.sha256 or "")[:16] or None,
        "Parameters": None if model.parameters is None else f"{model.parameters:,}",
        "Convolutions": None if model.conv_layers is None else f"{model.conv_layers:,}",
        "Input": words.times([spec.height, spec.width]) + " px" if spec.height else None,
        "Preprocessing": spec.preprocessing.name if spec.preprocessing else None,
        "Quality": settings.quality,
        "Preset": settings.get("preset"),
        "Channels": settings.get("channels"),
        "Seed": info.seed,
        "Images": f"{len(run.images):,}",
        "Status": info.status,
        "Rewritten": " ".join(model.notes) or None,
    }
    return {name: words.NOTHING if value is None else str(value) for name, value in values.items()}
