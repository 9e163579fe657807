"""What a layer does, in a few sentences that its numbers carry: the answer that the reader of its page came for.

Knows a layer's page as it was gathered; knows no HTML.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from filterscope.reports.page import words
from filterscope.reports.site import ranking
from filterscope.reports.site.answer import NAME_LENGTH, TELLING
from filterscope.reports.site.layer_page import LayerPage

Count = tuple[str, str, int | None]  # what one channel is, what several are, how many; null where unknown

NAMED = 3  # classes in a sentence
STIMULI = 2  # kinds of simple stimulus
PLURALS = {"opponent": "opposed colours", "colour": "plain colours"}  # of kinds of stimulus; others end in s


def layer_answer(page: LayerPage, layers: int, *, has_classes: bool) -> list[str]:
    """What a layer's channels respond to, how they compare with nature, what is odd of them, and where it stands.

    Args:
        page: of the layer.
        layers: of the network.
        has_classes: whether the data set has classes that its channels could tell.
    """
    if not page.units:
        return []
    first = [*(_by_class(page) if has_classes else ()), *_by_stimulus(page)]
    if first and not any(auc >= TELLING for best in page.classes.values() for _, auc in best):
        first.reverse()  # what it prefers says more than that no class names it
    return [*first, *_against_nature(page), *_odd(page), _place(page, layers)]


def _of_all(number: int, total: int) -> str:
    """A number of channels as the subject of a sentence."""
    if total == 1:
        return "Its channel" if number else "Not its channel"
    return f"All {total:,} channels" if number == total else f"{number:,} of its {total:,} channels"


def _by_class(page: LayerPage) -> Iterator[str]:
    """How many channels a class of the data names, and which classes most often."""
    best = [page.classes[unit.channel][0] for unit in page.units if page.classes.get(unit.channel)]
    often = Counter(name for name, auc in best if auc >= TELLING)
    number, total = often.total(), len(page.units)
    if not number:
        yield f"None of its {words.count(total, 'channel')} tells a class of the data well (an AUC of {TELLING})."
        return
    names = [words.shortened(name, NAME_LENGTH) for name, _ in often.most_common(NAMED)]
    most = ", most often " if len(often) > NAMED else ": "
    tells = "tells" if number == 1 else "tell"
    yield f"{_of_all(number, total)} {tells} a class of the data{most}{words.listed(names)}."


def _by_stimulus(page: LayerPage) -> Iterator[str]:
    """Which simple stimuli most channels prefer."""
    kinds = Counter(row.best for row in page.details.tuning.values() if row.best)
    if kinds:
        some = [f"{PLURALS.get(kind, f'{kind}s')} ({number:,})" for kind, number in kinds.most_common(STIMULI)]
        yield f"Of simple stimuli most prefer {words.listed(some)}."


def _against_nature(page: LayerPage) -> Iterator[str]:
    """How many pictures outdo natural images, or else random ones."""
    compared = ranking.outdoing(page.units, page.kinds, page.details.truth, page.details.statistics)
    there = [one for one in compared if one is not None]
    if there:
        number, of = sum(there), len(there)
        who = words.count(of, "picture") + ("" if of == len(page.units) else " that were compared")
        which = f"All {who}" if number == of > 1 else f"{number:,} of {who}"
        excite = "excites its channel" if number == 1 else "excite their channels"
        yield f"{which} {excite} more than any natural image."
        return
    first = [(unit, ranking.first_picture(unit)) for unit in page.units]
    fine = sum(picture is not None and unit.status(picture) == "ok" for unit, picture in first)
    if fine:
        which = "All pictures rise" if fine == len(page.units) else f"Pictures of {words.count(fine, 'channel')} rise"
        yield f"{which} above random images."


def _odd(page: LayerPage) -> Iterator[str]:
    """What is odd of its channels, and what was looked for in vain; of all of them, then of those analysed alone."""
    entry = page.entry
    alike = max(sum(map(len, entry.groups)), len(entry.doubles.double))  # doubles also of channels not on the page
    of_all: list[Count] = [
        ("silent on the data", "silent on the data", None if entry.silent is None else len(entry.silent)),
        ("like another", "look-alikes", alike if page.details.weights or page.details.statistics else None),
    ]
    of_analysed: list[Count] = [("dead", "dead", entry.dead), ("constant", "constant", entry.constant)]
    analysed, total = len(page.units), page.layer.out_channels
    if analysed == total:
        texts = [_counted([of_all[0], *of_analysed, *of_all[1:]])]
    else:
        texts = [f"of its {total:,} channels {_counted(of_all)}" if _counted(of_all) else ""]
        texts.append(f"of the {analysed:,} analysed {_counted(of_analysed)}")
    text = "; ".join(filter(None, texts))
    if text:
        yield f"{text[0].upper()}{text[1:]}."


def _counted(counts: Sequence[Count]) -> str:
    """How many are so, and what none is; empty where nothing is known."""
    some = [f"{number:,} {'is' if number == 1 else 'are'} {many}" for _, many, number in counts if number]
    none = [one for one, _, number in counts if number == 0]
    return words.listed([*some, *([f"none is {_or(none)}"] if none else [])])


def _or(some: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(some[:-1]), *some[-1:]]))


def _place(page: LayerPage, layers: int) -> str:
    """Where it stands in the network, and how much of the image it sees."""
    layer = page.layer
    seen = words.field(layer, page.input_size)
    sees = "" if seen == words.NOTHING else f", and a neuron of it sees {seen}"
    what = "convolution" if layer.is_convolution and layer.position == layer.index else "layer"
    return f"It is {what} {layer.position + 1} of {layers}{sees}."
