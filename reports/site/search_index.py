"""The index that the search field of every page reads: layers by name, channels by number, class and tuning words.

A network has ten thousands of channels, so that each word and each name stands once and channels refer to it by number.
Knows the run's reader; knows no HTML.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.records import LayerInfo
from filterscope.analyzer.run.tables import TABLES
from filterscope.reports.page import words

CLASSES = 3  # names a channel, those that it tells apart best
TABLE = "examples/unit_classes.parquet"

Speaks = Mapping[int, Sequence[tuple[str, float]]]  # channel → (name of a class, area under the curve), best first


class UnitClasses:
    """The classes that each unit tells apart best, where the run's data set has classes."""

    def __init__(self, run: Run) -> None:
        self._of: dict[str, dict[int, list[tuple[int, str, float]]]] = defaultdict(lambda: defaultdict(list))
        if TABLE not in TABLES:
            return
        table = run.table(TABLE)
        columns = (table[name].to_pylist() for name in ("layer", "channel", "rank", "name", "auc"))
        for layer, channel, rank, name, auc in zip(*columns, strict=True):
            if name and auc is not None and rank < CLASSES:
                self._of[layer][channel].append((rank, words.shortened(str(name), 60), auc))

    def of(self, layer: str) -> Speaks:
        """The classes of a layer's channels; empty where there are none."""
        return {
            channel: [(name, auc) for _, name, auc in sorted(rows)] for channel, rows in self._of.get(layer, {}).items()
        }


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
    ) -> None:
        """Add a layer.

        Args:
            layer: of the run.
            place: where its channels' first pictures are (layer_page.LayerPlace); None where it has none.
            channels: that its page shows, in order.
            tuning: channel → the words of its tuning.
            classes: channel → the classes it tells apart best.
            best: place of the channel whose picture stands for the layer.
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
        self._layers.append(packed)

    def _speaks(self, classes: Sequence[tuple[str, float]]) -> Iterable[int]:
        for name, auc in classes:
            yield from (self._names.number(name), round(1000 * auc))

    def packed(self) -> dict[str, object]:
        """As the script reads it (static/find.js)."""
        return {"layers": self._layers, "words": self._words.texts, "names": self._names.texts}
