"""What a channel responds to and how sure that is, in sentences: the answer that the reader of its page came for.

Words are used only where numbers carry them; every threshold stands here and on the method page. Knows the rows of a
run; knows no HTML.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from filterscope.analyzer.run.records import LayerInfo
from filterscope.analyzer.run.rows import ExampleRow, PathRow, StatisticsRow, TruthRow
from filterscope.reports.page import words
from filterscope.reports.page.units import Picture, Unit, finite

TELLING = 0.8  # AUC from which a class is named
NEAR = 0.05  # AUC below the best class's up to which others are named with it
MOST_CLASSES = 3
MAJORITY = 5  # of nine strongest images that share a label
SAME_PLACE = 7 / 9  # of the strongest places that lie in the same third of the image
ROBUST = 0.7  # share of its activation that a picture keeps when it is shifted
FRAGILE = 0.3  # share below which it says little by itself
APART = 0.1  # rank correlation by which a picture's way falls short of the natural one
WORTH = 1 / 3  # share of a bound from which the bound says something
MOST_TIMES = 10  # a natural image's activation, beyond which the number is left out
BARELY = 1.2  # times the best random image
NAME_LENGTH = 60  # of a class, characters

WELL, PARTLY, WEAKLY = "well supported", "partly supported", "weakly supported"


Strongest = Sequence[tuple[ExampleRow, str | None]]


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """What the run knows of one channel."""

    layer: LayerInfo
    unit: Unit
    images: int | None = None  # of the data set; null where that is not known
    of_a_label: int | None = None  # images that the most frequent label of the data has; null where that is not known
    classes: Sequence[tuple[str, float]] = ()  # name and AUC, best first
    strongest: Strongest = ()  # places of the data set, with the label of the image
    statistics: StatisticsRow | None = None
    tuning: str | None = None  # words
    truth: Sequence[TruthRow] = ()
    paths: Sequence[PathRow] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The first sentences of a channel's page."""

    lead: str  # what it responds to
    level: str  # how well its picture is supported; empty where the lead says it
    reasons: list[str] = field(default_factory=list)  # sentences: doubts last, but first where it is weakly supported


def answer(facts: UnitFacts) -> Answer:
    """What a channel responds to, and how sure one can be."""
    odd = _odd(facts)
    if odd:
        return Answer(odd, "")
    picture = main_picture(facts.unit)
    reasons, doubts = list(_reasons(facts, picture)), list(_doubts(facts, picture))
    silent = bool(facts.statistics and facts.statistics.dead)
    lead = _silence(facts) if silent else _responds(facts)
    if picture is None:
        return Answer(lead, "", ["No picture of it is there yet."])
    compared = bool(reasons)
    if not (compared or doubts):
        doubts = ["Nothing in this run compares it with natural images."]
    if silent:
        doubts.insert(0, "No image of the data raises it above 0, so none can say whether its picture is right.")
    says_nothing = str(picture.row.status) == "unraised" or silent or _is_fragile(picture)
    level = WEAKLY if says_nothing else (WELL, PARTLY, WEAKLY)[min(2, len(doubts))]
    unknown = _unknown_way(facts, picture) if level == WELL else ""
    if unknown:
        level = PARTLY
        doubts.append(unknown)
    return Answer(lead, level, doubts + reasons if level == WEAKLY else reasons + doubts)


def main_picture(unit: Unit) -> Picture | None:
    """The picture that stands for the channel: the first kind that has a finite activation."""
    there = [picture for picture in unit.pictures if picture is not None]
    return next((picture for picture in there if finite(picture.row.activation)), None)


def natural_ratio(facts: UnitFacts, picture: Picture | None = None) -> float | None:
    """The mean of the picture's map ÷ the highest on natural images; null where the latter is not above 0 or unknown.

    Natural images are the cuts of the study of truth and the user's images, whichever is higher.
    """
    shown = picture or main_picture(facts.unit)
    activation = shown.row.activation if shown else None
    if shown is None or shown.kind.objective != "channel" or not finite(activation):
        return None
    natural = [row.natural for row in facts.truth if row.objective == "channel" and finite(row.natural)]
    natural += [fact.mean for fact in facts.unit.maps if fact and math.isfinite(fact.mean)]
    highest = max((float(value) for value in natural if value is not None), default=0.0)
    return activation / highest if highest > 0 else None


def neuron_ratio(facts: UnitFacts) -> float | None:
    """The highest place of all its pictures' maps ÷ that of natural images, as the study of truth found it."""
    return next((row.ratio for row in facts.truth if row.objective == "neuron" and finite(row.ratio)), None)


def quantile(value: float, statistics: StatisticsRow) -> float | None:
    """The share of the data set's sampled activations that lie below a value; null where there is no histogram."""
    counts = np.asarray(statistics.histogram or [], np.float64)
    low, high = statistics.histogram_low, statistics.histogram_high
    if not counts.sum() or low is None or high is None or not low < high:
        return None
    edges = np.linspace(low, high, len(counts) + 1)
    below = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    return float(np.interp(value, edges, below))


def _odd(facts: UnitFacts) -> str:
    """The sentence for a channel that responds to nothing, or of which there is no result."""
    statuses = facts.unit.statuses
    if "dead" in statuses:
        return "Dead: it is proven that no image raises it above 0, so the ReLU behind it always answers 0."
    if facts.unit.constant:
        return "Constant: it answered the same number to every picture and image that was measured."
    if statuses == ["diverged"]:
        return "No result: the ascent ended in infinite or undefined numbers."
    return ""


def _silence(facts: UnitFacts) -> str:
    images = f"{facts.images:,} images" if facts.images else "images"
    picture = main_picture(facts.unit)
    raises = picture is not None and finite(picture.row.activation) and picture.row.activation > 0
    rest = "Its picture shows what would." if raises else "The mean of its map is not above 0 on its picture either."
    return f"Silent on the data: none of its {images} raises it above 0. {rest}"


def _responds(facts: UnitFacts) -> str:
    """What it responds to, in words that the numbers carry."""
    tied = len({row.activation for row, _ in facts.strongest}) == 1  # whichever came first, not what it prefers
    strongest = () if tied else facts.strongest
    stimulus = f" Of simple stimuli it prefers {facts.tuning}." if facts.tuning else ""
    place = _place(facts.layer, strongest)
    best = [one for one in facts.classes[:MOST_CLASSES] if one[1] >= max(TELLING, facts.classes[0][1] - NEAR)]
    if best:
        named = words.listed([words.shortened(name, NAME_LENGTH) for name, _ in best])
        first, share = words.shortened(best[0][0], NAME_LENGTH), words.percent(best[0][1])
        chance = f"{share} of the time, an image of {first} excites it more than one of another class"
        return f"Responds most to {named}: {chance}.{stimulus}{place}"
    labels = Counter(label for _, label in strongest if label)
    label, often = labels.most_common(1)[0] if labels else ("", 0)
    count = len(strongest)
    if often >= MAJORITY:
        name = words.shortened(label, NAME_LENGTH)
        return f"Responds to {name}: {often} of its {count} strongest images are labelled so.{stimulus}{place}"
    if facts.tuning:
        return f"Responds to {facts.tuning}.{place}"
    if labels and facts.of_a_label is not None and facts.of_a_label < MAJORITY:
        few = words.count(facts.of_a_label, "image")
        return f"The pictures must say what it responds to: no label of the data has more than {few}.{place}"
    if labels:
        return f"No common label among its {count} strongest images: the pictures must say what it responds to.{place}"
    return f"What it responds to is shown below; nothing in this run names it.{place}"


def _place(layer: LayerInfo, strongest: Strongest) -> str:
    """Where its strongest places lie, if they lie together; empty otherwise."""
    rows, columns = layer.output_shape[1:] if len(layer.output_shape) == 3 else (1, 1)
    if min(rows, columns) < 3 or len(strongest) < MAJORITY:
        return ""
    enough = SAME_PLACE * len(strongest)
    thirds = [(3 * row.row // rows, 3 * row.column // columns) for row, _ in strongest]
    vertical, horizontal = (Counter(one[axis] for one in thirds).most_common(1)[0] for axis in (0, 1))
    parts = [("top", "", "bottom")[vertical[0]]] if vertical[1] >= enough else []
    parts += [("left", "", "right")[horizontal[0]]] if horizontal[1] >= enough else []
    where = " ".join(filter(None, parts))
    return f" Its strongest places lie at the {where} of the image." if where else ""


def _reasons(facts: UnitFacts, picture: Picture | None) -> Iterator[str]:
    """What speaks for the picture: how high it goes, in units that a reader can judge."""
    activation = picture.row.activation if picture else None
    if picture is None or not finite(activation):
        return
    ratio = natural_ratio(facts, picture)
    if ratio is not None and ratio >= 1:
        yield f"The mean of its map is {times(ratio)} that on the strongest natural image."
    elif ratio is None and picture.kind.objective == "channel" and activation > 0 and _has_natural(facts):
        yield f"The mean of its map is {words.figure(activation)} on its picture, and above 0 on no natural image."
    share = quantile(activation, facts.statistics) if facts.statistics else None
    if share is not None and share > 0.5:
        what = "The mean of its map" if picture.kind.objective == "channel" else "Its activation"
        most = "all" if share >= 1 else words.percent(share)
        yield f"{what} lies above {most} of the channel’s single activations on the data."
    yield from _bounded(picture)
    natural = _natural_way(facts.paths)
    if natural is not None:
        yield f"Its picture takes the path of natural images: {_compared(natural)}."


def _is_fragile(picture: Picture) -> bool:
    """Whether a picture loses most of its activation when it is shifted."""
    activation, robust = picture.row.activation, picture.row.robust
    return finite(activation) and finite(robust) and activation > 0 and robust < FRAGILE * activation


def _has_natural(facts: UnitFacts) -> bool:
    return any(facts.unit.maps) or any(row.objective == "channel" for row in facts.truth)


def times(ratio: float) -> str:
    """A ratio in words: beyond ten, the other side is near 0, and the number says nothing."""
    return f"{words.figure(ratio, 2)} times" if ratio <= MOST_TIMES else f"more than {MOST_TIMES} times"


def _bounded(picture: Picture) -> Iterator[str]:
    """What is proven of all pictures, where that says something."""
    share = picture.share
    if share is None:
        return
    if picture.row.bound_kind == "exact":
        most = words.figure(picture.row.bound)
        yield f"No picture can do better than {most}: it reaches {words.percent(share)} of that."
    elif WORTH <= share <= 1:
        yield f"No picture of its size can raise it more than {words.figure(1 / share, 2)} times as high."


def _doubts(facts: UnitFacts, picture: Picture | None) -> Iterator[str]:
    """What speaks against taking the picture at its word."""
    activation = picture.row.activation if picture else None
    if picture is None or not finite(activation):
        return
    random, robust, ratio = picture.row.random, picture.row.robust, natural_ratio(facts, picture)
    if str(picture.row.status) == "unraised":
        yield "Its picture does not beat random images, so it says nothing about what the channel responds to."
    elif finite(random) and 0 < random < activation < BARELY * random:
        yield "Its picture barely beats random images."
    if ratio is not None and ratio < 1:
        yield (
            f"Natural images excite it more: its picture reaches {words.percent(ratio)} of the strongest. "
            "Trust the natural patches first."
        )
    highest = neuron_ratio(facts)
    if highest is not None and highest < 1:
        yield f"At its strongest place its pictures reach {words.percent(highest)} of the strongest natural one."
    if finite(robust) and activation > 0 and robust < ROBUST * activation:
        rest = words.percent(robust / activation) if robust > 0 else "nothing"
        yield f"Shifted by a few pixels, its picture keeps {rest} of its activation."
    other = _other_way(facts.paths)
    if other is not None:
        yield f"Its picture takes another path than natural images: {_compared(other)}."
    if picture.is_first:
        yield "It is a first picture, quickly made; a finer one follows when the run goes on."


def _unknown_way(facts: UnitFacts, picture: Picture) -> str:
    """Why a picture of which nothing is doubted may still show something else than photos do; empty where it cannot.

    A high activation can be reached by patterns that no photo holds, so it alone says nothing of likeness.
    """
    if picture.row.bound_kind == "exact" or not facts.layer.depth or any(True for _ in _telling_ways(facts.paths)):
        return ""
    if facts.paths:
        return "No earlier layer tells whether its picture takes the path of natural images."
    how = "a higher quality measures more channels" if facts.truth else "the study of truth does"
    return f"Whether it takes the path of natural images through the network was not measured; {how}."


def _other_way(paths: Sequence[PathRow]) -> PathRow | None:
    """The last layer before it in which the picture's way falls short, where that layer tells natural ways apart."""
    return next((row for row, share in reversed(list(_telling_ways(paths))) if share < -APART), None)


def _natural_way(paths: Sequence[PathRow]) -> PathRow | None:
    """The last layer that tells natural ways apart, where the picture's way falls short in none."""
    ways = list(_telling_ways(paths))
    return ways[-1][0] if ways and _other_way(paths) is None else None


def _telling_ways(paths: Sequence[PathRow]) -> Iterator[tuple[PathRow, float]]:
    """The layers that tell natural ways apart, each with how far the picture's correlation lies above natural ones'."""
    for row in paths:
        numbers = (row.maximised_natural, row.natural_natural, row.random_natural)
        if all(map(finite, numbers)):
            picture, natural, random = (float(number) for number in numbers if number is not None)
            if natural > random + APART / 2:
                yield row, picture - natural


def _compared(row: PathRow) -> str:
    numbers = f"{words.figure(row.maximised_natural, 2)} against {words.figure(row.natural_natural, 2)}"
    return f"their rank correlation in {words.shortened(row.through)} is {numbers} among natural images"
