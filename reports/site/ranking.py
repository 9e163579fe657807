"""The order in which a layer's channels are shown: the most interesting first.

Interesting is a channel whose picture reaches far beyond what natural images reach; where the run does not tell, one
whose picture rises far above random images. The number that decides stands on each tile. Knows units and the studies'
rows; knows no HTML.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from filterscope.analyzer.run.rows import StatisticsRow, TruthRow
from filterscope.reports.page import words
from filterscope.reports.page.units import Kind, Picture, Unit, finite

NATURE, LIFT = "nature", "lift"  # orders, as the page and its script name them
TITLES = {NATURE: "strength against nature", LIFT: "height above random"}
NO_RATIO = "no ratio"  # of a unit that no natural image raises above 0, or that was not compared
ENOUGH = 0.5  # of the units must have a strength; otherwise the order would be that of a few


@dataclass(frozen=True, slots=True)
class Ranking:
    """An order of a layer's units."""

    order: str  # NATURE or LIFT
    places: Sequence[int]  # the units' indices, the most interesting first
    strengths: Sequence[float | None] = ()  # a unit, times the strongest natural activation; empty for LIFT
    position: int = 0  # of the kind of picture whose strengths they are

    @property
    def title(self) -> str:
        """The order in words."""
        return TITLES[self.order]


def ranking(
    units: Sequence[Unit],
    kinds: Sequence[Kind],
    truth: Mapping[int, Sequence[TruthRow]],
    statistics: Mapping[int, StatisticsRow],
) -> Ranking:
    """The order of a layer's units.

    Units that are unraised, constant, dead or diverged come last, and before them those without a strength. Ties go to
    the lower channel.

    Args:
        units: of the layer.
        kinds: of its pictures.
        truth: channel → its rows of the study of natural and maximised activations.
        statistics: channel → its row of the study of the data set.
    """
    position, strengths = strengths_against_nature(units, kinds, truth, statistics)
    there = sum(value is not None for value in strengths)
    if not there or there < ENOUGH * len(units):
        strengths = []

    def key(unit: Unit) -> tuple[bool, bool, float, float, int]:
        strength = strengths[unit.index] if strengths else None
        picture = first_picture(unit)
        is_fine = picture is not None and unit.status(picture) == "ok"
        lift = picture.lift if picture else -math.inf
        return not is_fine, strength is None, -(strength or 0), -lift, unit.channel

    places = [unit.index for unit in sorted(units, key=key)]
    return Ranking(NATURE if strengths else LIFT, places, strengths, position)


def number_of(order: Ranking, unit: Unit) -> str:
    """The number of a unit that its place in an order follows from, with what it is; empty where it has none."""
    if order.strengths:
        strength = order.strengths[unit.index]
        return NO_RATIO if strength is None else f"{words.figure(strength, 2)} × nature"
    picture = first_picture(unit)
    if picture is None or not math.isfinite(picture.lift):
        return ""
    return f"{words.figure(picture.lift, 2)} {'below' if picture.kind.objective == 'negative' else 'above'} random"


def first_picture(unit: Unit) -> Picture | None:
    """The picture that a unit is ordered by where nature is not known: its first one that is not diverse."""
    return next((picture for picture in unit.pictures if picture and not picture.kind.is_diverse), None)


def strengths_against_nature(
    units: Sequence[Unit],
    kinds: Sequence[Kind],
    truth: Mapping[int, Sequence[TruthRow]],
    statistics: Mapping[int, StatisticsRow],
) -> tuple[int, list[float | None]]:
    """How many times the strongest natural activation each unit's picture reaches.

    Like is compared with like (docs/truth.md): the ratios of the study, of one objective for the whole layer, that of
    its first pictures where it has any; without the study, one neuron's value on a picture against the highest place
    of the data set.

    Returns:
        The position of the kind of picture that is compared, and a ratio a unit, None where the run does not tell.
    """
    of_image = [kind for kind in kinds if kind.space == "image" and not kind.is_diverse]
    for kind in of_image:
        ratios = [_ratio(truth.get(unit.channel, ()), kind.objective) for unit in units]
        if any(ratio is not None for ratio in ratios):
            return kind.position, ratios
    of_neuron = [kind.position for kind in of_image if kind.objective == "neuron"]
    ratios = [_against_data(unit, of_neuron, statistics.get(unit.channel)) for unit in units]
    return next(iter(of_neuron), 0), ratios


def outdoing(
    units: Sequence[Unit],
    kinds: Sequence[Kind],
    truth: Mapping[int, Sequence[TruthRow]],
    statistics: Mapping[int, StatisticsRow],
) -> list[bool | None]:
    """Whether each unit's picture excites it more than every natural image; None where the run does not tell.

    As `strengths_against_nature`, but a natural value of 0 or less can be outdone too.
    """
    for kind in (kind for kind in kinds if kind.space == "image" and not kind.is_diverse):
        higher = [_is_higher(truth.get(unit.channel, ()), kind.objective) for unit in units]
        if any(one is not None for one in higher):
            return higher
    _, ratios = strengths_against_nature(units, kinds, {}, statistics)
    return [None if ratio is None else ratio > 1 for ratio in ratios]


def _is_higher(rows: Sequence[TruthRow], objective: str) -> bool | None:
    for row in rows:
        if row.objective == objective and finite(row.maximised) and finite(row.natural):
            return row.maximised > row.natural
    return None


def _ratio(rows: Sequence[TruthRow], objective: str) -> float | None:
    return next((row.ratio for row in rows if row.objective == objective and finite(row.ratio)), None)


def _against_data(unit: Unit, positions: Sequence[int], seen: StatisticsRow | None) -> float | None:
    """The highest of some pictures' activations ÷ the highest place of the data set; None where that is not above 0."""
    pictures = [unit.pictures[position] for position in positions]
    values = [picture.row.activation for picture in pictures if picture and finite(picture.row.activation)]
    natural = seen.maximum if seen else None
    return max(values) / natural if values and finite(natural) and natural > 0 else None
