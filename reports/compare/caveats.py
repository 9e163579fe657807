"""What two runs have in common and what differs beside the networks themselves, in sentences.

Somebody who reads that a unit changed has to know what was compared with what. Knows the run's record; knows nothing
of pictures or HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from filterscope.analyzer.run.reader import Run
from filterscope.reports.compare.words import ALIKE, alike
from filterscope.reports.page import words

if TYPE_CHECKING:
    from filterscope.reports.compare.comparison import Comparison, LayerPair
    from filterscope.reports.compare.matching import Layers


def statements(a: Run, b: Run, matched: Layers, layers: Sequence[LayerPair], images: int, match: str) -> Iterator[str]:
    """What is compared, a sentence each.

    Args:
        a: one run.
        b: the other.
        matched: which layers are comparable.
        layers: with their units.
        images: that both runs hold.
        match: index or activation.
    """
    hashes = [(run.info.get("model") or {}).get("sha256") for run in (a, b)]
    if hashes[0] and hashes[0] == hashes[1]:
        yield "Both runs analysed the same file: what differs comes from their settings."
    else:
        yield "The runs analysed two different files."
    yield from _of_layers(matched)
    if match == "index":
        yield "Units were matched by their number."
    else:
        yield "Units were matched by what they answer to the same images, so that the sum of correlations is largest."
    if not images:
        yield "The runs hold no image in common, so that nothing is known of what their units answer."
    elif any(layer.images for layer in layers):
        of_places = any(layer.of_places for layer in layers)
        over = "the places of their maps" if of_places else "their mean and their maximum on each image"
        used = max(layer.images for layer in layers)
        yield f"Correlations are over {over} on {words.count(used, 'image')} that both runs hold, pixel by pixel."
    rounded = [_eight_bit(run) for run in (a, b)]
    if any(rounded):
        which = "Both networks compute" if all(rounded) else f"Network {'A' if rounded[0] else 'B'} computes"
        yield (
            f"{which} in 8 bits: what is compared are the values of its convolutions in floats, before the file "
            "rounds them. Weights and parameters are not compared."
        )


def cautions(a: Run, b: Run, *, compared_data: bool) -> Iterator[str]:
    """What differs beside the networks themselves, a sentence each.

    Args:
        a: one run.
        b: the other.
        compared_data: whether their passes over a data set are compared.
    """
    yield from _of_settings(a, b)
    inputs = [run.info.get("input") or {} for run in (a, b)]
    sizes = [words.times([part.get("height") or 0, part.get("width") or 0]) for part in inputs]
    if sizes[0] != sizes[1]:
        yield f"The inputs differ in size: {sizes[0]} against {sizes[1]} pixels."
    if inputs[0].get("preprocessing") != inputs[1].get("preprocessing"):
        named = [(part.get("preprocessing") or {}).get("name") or "another" for part in inputs]
        told = f"{named[0]} against {named[1]}" if named[0] != named[1] else f"both are called {named[0]}"
        yield f"The preprocessing differs ({told}): the same pixels are other numbers to each network."
    for which, run in zip("AB", (a, b), strict=True):
        if run.info.get("status") != "complete":
            yield f"Run {which} is not finished: what it lacks is missing here too."
    for which, run in zip("AB", (a, b), strict=True):
        parity = (run.info.get("model") or {}).get("parity") or {}
        if (parity.get("alone") or {}).get("one_at_a_time"):
            yield f"Network {which} was computed one picture at a time, since a picture's values may depend on others."
    if not compared_data and a.study("examples") and b.study("examples"):
        yield "The runs passed over different data, so that fractions of active places are not compared."
    versions = [run.info.get("filterscope") for run in (a, b)]
    if versions[0] != versions[1]:
        yield f"The runs were made by filterscope {_plain(versions[0])} and {_plain(versions[1])}."


def _of_layers(matched: Layers) -> Iterator[str]:
    number = words.count(len(matched.pairs), "layer")
    if matched.how == "order":
        yield f"{number} were matched by order: names differ, but both networks have the same convolutions in a row."
    else:
        yield f"{number} were matched by name."
    if matched.only_a or matched.only_b:
        larger = len(matched.pairs) + len(matched.differing) + max(len(matched.only_a), len(matched.only_b))
        share = words.percent(len(matched.pairs) / larger)
        yield f"The networks are not of one architecture: {share} of their layers could be compared."
    elif matched.differing:
        yield f"{words.count(len(matched.differing), 'layer')} could not be compared, as listed below."


def _of_settings(a: Run, b: Run) -> Iterator[str]:
    told = []
    for name in ("quality", "preset", "steps", "objectives", "channels", "time_budget"):
        one, other = ((run.info.get("settings") or {}).get(name) for run in (a, b))
        if one != other:
            told.append(f"{name.replace('_', ' ')} {_plain(one)} against {_plain(other)}")
    seeds = [run.info.get("seed") for run in (a, b)]
    if seeds[0] != seeds[1]:
        told.append(f"seed {_plain(seeds[0])} against {_plain(seeds[1])}")
    if told:
        yield f"Pictures were made with other settings: {'; '.join(told)}. Their activations depend on them."


def _eight_bit(run: Run) -> bool:
    """Whether the file's network computes in 8 bits, as its notes say."""
    notes = (run.info.get("model") or {}).get("notes") or []
    return any("8-bit" in str(note) or "8 bits" in str(note) for note in notes)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def verdict(comparison: Comparison) -> Iterator[str]:
    """What came of it, in a few sentences."""
    pairs = [pair for _, pair in comparison.pairs]
    of = f"{words.count(len(pairs), 'unit')} of {words.count(len(comparison.layers), 'layer')}"
    if comparison.unchanged:
        yield f"Nothing changed: every number and picture that both runs hold is the same, in {of}."
        return
    known = [layer for layer in comparison.layers if len(layer.correlations)]
    lowest = min((layer.quantile(0.0) or 0.0 for layer in known), default=0.0)
    if lowest > ALIKE:
        yield f"{of} were compared; all that could be measured answer to the same images alike."
    elif known:
        yield (
            f"{of} were compared; half of them answer to the same images with a correlation of "
            f"{alike(comparison.median)} or more{_against(known)}."
        )
    else:
        yield f"{of} were compared."
    if known:
        worst = min(known, key=lambda layer: layer.quantile(0.5) or 0.0)
        if len(known) > 1 and (worst.quantile(0.5) or 0.0) < (comparison.median or 0.0):
            yield (
                f"The networks part most in {words.shortened(str(worst.a['name']))}, "
                f"where half stay below {alike(worst.quantile(0.5))}."
            )
    changes = sorted(pair.change for pair in pairs if pair.change is not None)
    if changes:
        middle = changes[len(changes) // 2]
        yield f"Half of the {len(changes):,} maximised activations changed by {words.percent(middle)} or more."
    turned = sum(sum(layer.turned.values()) for layer in comparison.layers)
    if turned:
        yield f"{words.count(turned, 'picture')} changed in status."


def _against(layers: Sequence[LayerPair]) -> str:
    """What chance would give, of half of the layers."""
    chances = sorted(layer.chance for layer in layers if layer.chance is not None)
    return f", where chance gives {alike(chances[len(chances) // 2], 2)}" if chances else ""


def facts(a: Run, b: Run) -> Iterator[tuple[str, str, str]]:
    """What each run is: a name, then its value in A and in B."""
    sides = [_facts(run) for run in (a, b)]
    for name in sides[0]:
        one, other = sides[0][name], sides[1][name]
        if one != words.NOTHING or other != words.NOTHING:
            yield name, one, other


def _facts(run: Run) -> dict[str, str]:
    model, settings, given = (run.info.get(name) or {} for name in ("model", "settings", "input"))
    told = {
        "Run": run.folder.resolve().name,
        "Network": model.get("name"),
        "Its SHA-256": str(model.get("sha256") or "")[:16] or None,
        "Parameters": None if model.get("parameters") is None else f"{model['parameters']:,}",
        "Convolutions": None if model.get("conv_layers") is None else f"{model['conv_layers']:,}",
        "Input": words.times([given["height"], given["width"]]) + " px" if given.get("height") else None,
        "Preprocessing": (given.get("preprocessing") or {}).get("name"),
        "Quality": settings.get("quality"),
        "Preset": settings.get("preset"),
        "Channels": settings.get("channels"),
        "Seed": run.info.get("seed"),
        "Images": f"{len(run.images):,}",
        "Status": run.info.get("status"),
        "Rewritten": " ".join(map(str, model.get("notes") or [])) or None,
    }
    return {name: words.NOTHING if value is None else str(value) for name, value in told.items()}
