"""The index that the search field of every page reads: layers by name, channels by number, class, tuning, what is odd.

Beside them stand pages that a word may lead to, and sentences for what cannot be found.

A network has ten thousands of channels, so that each word and each name stands once and channels refer to it by number.
Knows the run's reader; knows no HTML.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from filterscope.analyzer.run.records import LayerInfo
from filterscope.analyzer.run.rows import UnitClassRow
from filterscope.reports.page import words

CLASSES = 3  # names a channel, those that it tells apart best

Speaks = Mapping[int, Sequence[tuple[str, float]]]  # channel → (name of a class, area under the curve), best first


def speaks(rows: Sequence[UnitClassRow]) -> Speaks:
    """The classes that the channels of a layer tell apart best; empty where there are none."""
    of_channel: dict[int, list[tuple[str, float]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.channel, row.rank)):
        if row.name and row.rank < CLASSES:
            of_channel[row.channel].append((words.shortened(row.name, 60), row.auc))
    return of_channel


@dataclass(frozen=True, slots=True)
class Trait:
    """What may be odd of a channel, to find it by."""

    name: str  # key of a layer's lists
    text: str  # said of a channel that has it; of doubles and look-alikes, before those that it is like
    also: str  # other words that find it


TRAITS = (
    Trait("silent", "silent on the data", "silent inactive"),
    Trait("dead", "dead: no image raises it above 0", "dead"),
    Trait("constant", "constant", "constant"),
    Trait("double", "double of", "double duplicate doubles duplicates"),
    Trait("alike", "look-alike of", "look-alike look-alikes alike similar"),
)

Odd = Mapping[str, Sequence[int] | Sequence[Sequence[int]]]  # trait → channels, or groups of them


@dataclass(frozen=True, slots=True)
class Target:
    """A page that the search may lead to, beside layers and channels."""

    title: str
    why: str  # what of it fits
    page: str  # a page of the site, with an anchor
    words: str  # it is found by


class Numbered:
    """Texts by number, each kept once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._place: dict[str, int] = {}

    def number(self, text: str) -> int:
        """The number of a text, from 0."""
        if text not in self._place:
            self._place[text] = len(self.texts)
            self.texts.append(text)
        return self._place[text]


class SearchIndex:
    """What can be found in a site, gathered layer by layer."""

    def __init__(self) -> None:
        self._words = Numbered()
        self._names = Numbered()
        self._layers: list[dict[str, object]] = []

    def add(
        self,
        layer: LayerInfo,
        place: Mapping[str, object] | None,
        *,
        channels: Sequence[int],
        tuning: Mapping[int, str],
        classes: Speaks,
        best: int = 0,
        odd: Odd | None = None,
    ) -> None:
        """Add a layer.

        Args:
            layer: of the run.
            place: where its channels' first pictures are (layer_page.LayerPlace); None where it has none.
            channels: that its page shows, in order.
            tuning: channel → the words of its tuning.
            classes: channel → the classes it tells apart best.
            best: place of the channel whose picture stands for the layer.
            odd: trait → the channels that have it, also those that the page does not show.
        """
        packed: dict[str, object] = {"name": layer.name, "slug": layer.slug, "count": layer.out_channels}
        packed["shown"] = len(channels)
        if place is not None:
            packed |= {name: place[name] for name in ("index", "tiles", "channels", "size", "unpictured")}
            packed["best"] = best
        if tuning:
            packed["words"] = [self._words.number(tuning[c]) if tuning.get(c) else -1 for c in channels]
        if classes:
            packed["classes"] = [list(self._speaks(classes.get(channel, ()))) for channel in channels]
        packed |= {"odd": {name: some for name, some in (odd or {}).items() if some}} if odd else {}
        self._layers.append(packed)

    def _speaks(self, classes: Sequence[tuple[str, float]]) -> Iterable[int]:
        for name, auc in classes:
            yield from (self._names.number(name), round(1000 * auc))

    def packed(self, targets: Sequence[Target], lacks: Mapping[str, str]) -> dict[str, object]:
        """As the script reads it (static/find.js).

        Args:
            targets: further pages.
            lacks: why nothing is found by a trait, or by "classes": a sentence each.
        """
        return {
            "layers": self._layers,
            "words": self._words.texts,
            "names": self._names.texts,
            "traits": [[one.name, one.text, one.also] for one in TRAITS],
            "targets": [[one.title, one.why, one.page, one.words] for one in targets],
            "lacks": lacks,
        }
