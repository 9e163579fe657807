"""Is the picture true? A unit's maximised pictures beside the natural images that excite it most.

How much stronger the picture's response is, and whether it takes the same way through the layers before as natural
images do. Everything is measured on pictures of one size, in ONNX Runtime. Knows the run; knows nothing of ascent.

Source: Geirhos, Zimmermann, Bilodeau, Brendel & Kim 2024, "Don't trust your eyes", ICML, arXiv 2306.04719: the rank
correlation of a layer's activations to maximised pictures and to natural images, between the same of natural images
of one kind and of different kinds. There the kinds are classes; here natural images of one kind are those that excite
the unit most, and a layer's activations are the means of its channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filterscope.analyzer.execution.plan import evenly_spaced
from filterscope.analyzer.network.layers import Layer, layers_before
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.tables import PATH_SCHEMA, TRUTH_SCHEMA
from filterscope.analyzer.studies.strongest_responses import (
    StrongestResponse,
    parts,
    responses_to_saved_pictures,
    strongest_natural_responses,
)
from filterscope.analyzer.studies.study import Context
from filterscope.converters.errors import SettingsError, setting

STRONGEST = 4  # natural images of a unit, at most
RANDOM = 8  # natural cuts that are nobody's strongest
PATH_UNITS = {"draft": 4, "standard": 8, "fine": 16}  # of a layer at least, evenly spaced among those analysed
PATH_TOTAL = {"draft": 64, "standard": 256, "fine": 1024}  # of a run: of a small network all units are measured
PATH_LAYERS = {"draft": 3, "standard": 4, "fine": 6}  # earlier ones, evenly spaced, the first and the last among them


@dataclass(frozen=True, slots=True, eq=False)
class StrongestPlace:
    """A natural image and the neuron of a unit that it excites most."""

    source: tuple[str, int]  # "image" or "example", and its number
    value: float  # pre-activation
    row: int
    column: int


@dataclass(frozen=True, slots=True)
class TruthStudy:
    """Maximised pictures against natural images: the user's and, where the run has examples of a data set, those."""

    name = "truth"

    def settings(self, context: Context) -> dict[str, Any]:
        """Bounds of the work, and which examples there are; the images are part of the run's plan.

        Raises:
            SettingsError: no natural images are there to compare with.
        """
        place = "examples/study.json"
        examples = context.writer.read_json(place).get("identity") if context.writer.has(place) else None
        if not context.pictures and examples is None:
            raise SettingsError(
                f"{setting('truth')}: compares with natural images; give {setting('images')} or {setting('examples')}",
                field="truth",
            )
        quality = context.settings.quality
        units = _path_units(quality, len(context.channels))
        return {"units": units, "layers": PATH_LAYERS[quality], "examples": examples}

    def run(self, context: Context) -> None:
        """Write truth/units.parquet and truth/paths.parquet."""
        layers = [layer for layer in context.network.layers if layer.name in context.channels]
        context.progress.stage("are the pictures true", len(layers))
        natural = _Natural(context)
        units: list[dict[str, Any]] = []
        paths: list[dict[str, Any]] = []
        for layer in layers:
            own = _LayerComparison(context, layer, natural)
            units += own.ratios()
            paths += own.paths()
            context.progress.advance()
        context.writer.write_table("truth/units.parquet", pa.Table.from_pylist(units, TRUTH_SCHEMA))
        context.writer.write_table("truth/paths.parquet", pa.Table.from_pylist(paths, PATH_SCHEMA))
        quality = context.settings.quality
        context.notes.append(
            "neuron: the largest pre-activation anywhere in the unit's map, over its maximised pictures and over all "
            f"natural images. channel: the mean of the map, of the maximised picture and of the {STRONGEST} natural "
            "images with the strongest neurons, cut around them to the picture's size."
        )
        context.notes.append(
            f"Paths are of at most {_path_units(quality, len(layers))} units a layer through {PATH_LAYERS[quality]} "
            "layers before it."
        )
        if any(layer.is_global for layer in layers):
            context.notes.append(
                "After a global operation a neuron sees its whole picture, and what it answers to a small picture is "
                "not what it answers to the same pixels inside a large one."
            )


class _Natural:
    """The natural images that can be shown: those of the user, and of the data set those that the run kept."""

    def __init__(self, context: Context) -> None:
        self.run = Run(context.writer.folder)
        self.user = context.pictures
        self.examples = {row["example"]: row for row in self.run.table("examples/pictures.parquet").to_pylist()}

    def strongest(self, slug: str, channel: int) -> list[StrongestPlace]:
        """Places of a unit in images that can be shown, the strongest first, one an image."""
        places = []
        for kind, table, value in (
            ("image", self.run.maps(slug), "maximum"),
            ("example", self.run.examples(slug), "activation"),
        ):
            own = table.filter(pc.equal(table["channel"], channel))
            for row in own.to_pylist():
                source = (kind, row[kind])
                if kind == "image" or self.examples.get(row[kind], {}).get("atlas") is not None:
                    places.append(StrongestPlace(source, row[value], row["row"], row["column"]))
        return sorted(places, key=lambda place: -place.value)[:STRONGEST]

    def sources(self) -> list[tuple[str, int]]:
        """All that can be shown."""
        numbers = [number for number, row in self.examples.items() if row["atlas"] is not None]
        return [*(("image", index) for index in range(len(self.user))), *(("example", number) for number in numbers)]

    def pixels(self, source: tuple[str, int]) -> np.ndarray:
        """(H, W, C) uint8, at the network's input size."""
        if source[0] == "image":
            return self.user[source[1]]
        tile = self.run.tile(self.examples[source[1]])
        assert tile is not None
        return tile


class _LayerComparison:
    """Compares one layer's maximised pictures with natural images."""

    def __init__(self, context: Context, layer: Layer, natural: _Natural) -> None:
        self.context, self.layer, self.natural = context, layer, natural
        self.network: Network = context.network
        self.slug = context.slugs[layer.name]
        self.channels = context.channels[layer.name]
        self.responses: dict[int, list[StrongestResponse]] = {}
        for response in responses_to_saved_pictures(natural.run, self.network, layer, self.channels):
            self.responses.setdefault(response.channel, []).append(response)

    def ratios(self) -> list[dict[str, Any]]:
        """Rows of TRUTH_SCHEMA."""
        rows = []
        highest = strongest_natural_responses(self.natural.run, self.layer, self.slug)
        cuts = self._means_of_cuts()
        for channel, responses in self.responses.items():
            strongest = max(response.value for response in responses)
            rows.append(self._row(channel, "neuron", strongest, float(highest[channel])))
            ascent = _ascent(responses)
            if ascent is not None and channel in cuts:
                rows.append(self._row(channel, "channel", ascent.activation, cuts[channel]))
        return rows

    def _row(self, channel: int, objective: str, maximised: float, natural: float) -> dict[str, Any]:
        is_finite = np.isfinite(natural)
        return {
            "layer": self.layer.name,
            "channel": channel,
            "objective": objective,
            "maximised": maximised,
            "natural": natural if is_finite else None,
            "ratio": maximised / natural if is_finite and natural > 0 else None,
        }

    def _means_of_cuts(self) -> dict[int, float]:
        """The largest mean of a unit's map over cuts of its picture's size around its strongest natural places."""
        of_size: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = {}  # size → channels, cuts
        for channel, responses in self.responses.items():
            ascent = _ascent(responses)
            if ascent is not None:
                size = (ascent.pixels.shape[0], ascent.pixels.shape[1])
                cuts = [(channel, self._cut(place, size)) for place in self.natural.strongest(self.slug, channel)]
                of_size.setdefault(size, []).extend(cuts)
        means: dict[int, float] = {}
        for size, cuts in of_size.items():
            session = self.network.session([self.layer.value], size)
            for part in parts(len(cuts), size[0] * size[1]):
                pixels = np.stack([cut for _, cut in cuts[part]])
                maps = session.run(self.network.input.to_model(pixels))[self.layer.value]
                for (owner, _), own in zip(cuts[part], maps, strict=True):
                    means[owner] = max(means.get(owner, -np.inf), float(_channel_means(own[owner][None])[0]))
        return means

    def paths(self) -> list[dict[str, Any]]:
        """Rows of PATH_SCHEMA."""
        through = self._earlier_layers()
        with_pictures = [channel for channel in self.channels if channel in self.responses]
        most = _path_units(self.context.settings.quality, len(self.context.channels))
        few = evenly_spaced(len(with_pictures), most)
        rows: list[dict[str, Any]] = []
        for index in few if through else ():
            rows += self._unit_paths(with_pictures[index], through)
        return rows

    def _earlier_layers(self) -> list[Layer]:
        """Some of the layers that lead to this one."""
        ancestors = [layer for layer in layers_before(self.network.layers, self.layer) if layer.has_maps]
        count = min(len(ancestors), PATH_LAYERS[self.context.settings.quality])
        chosen = {round(index) for index in np.linspace(0, len(ancestors) - 1, count)} if count else set()
        return [ancestors[index] for index in sorted(chosen)]

    def _unit_paths(self, channel: int, through: Sequence[Layer]) -> list[dict[str, Any]]:
        response = max(self.responses[channel], key=lambda one: (one.objective == "channel", one.method == "ascent"))
        places = self.natural.strongest(self.slug, channel)
        if len(places) < 2:
            return []
        size = (response.pixels.shape[0], response.pixels.shape[1])
        strongest = [self._cut(place, size, response) for place in places]
        others = self._random_cuts(size, {place.source for place in places}, channel)
        pictures = np.stack([response.pixels, *strongest, *others])
        session = self.network.session([layer.value for layer in through], size)
        answers = [session.run(self.network.input.to_model(one[None])) for one in pictures]
        rows = []
        first, last = 1, 1 + len(strongest)
        for layer in through:
            ranks = _ranks(np.stack([_channel_means(answer[layer.value][0]) for answer in answers]))
            alike = ranks @ ranks.T
            within = alike[first:last, first:last][np.triu_indices(len(strongest), 1)]
            rows.append(
                {
                    "layer": self.layer.name,
                    "channel": channel,
                    "through": layer.name,
                    "maximised_natural": _mean(alike[0, first:last]),
                    "natural_natural": _mean(within),
                    "random_natural": _mean(alike[last:, first:last]),
                }
            )
        return rows

    def _random_cuts(self, size: tuple[int, int], excluded: set[tuple[str, int]], channel: int) -> list[np.ndarray]:
        """Cuts at random places of images that are not among the unit's strongest."""
        free = [source for source in self.natural.sources() if source not in excluded]
        rng = np.random.default_rng([self.context.settings.seed, self.layer.index, channel])
        chosen = rng.permutation(len(free))[:RANDOM]
        full = (self.network.input.height, self.network.input.width)
        cuts = []
        for index in chosen:
            top, left = (int(rng.integers(0, whole - side + 1)) for whole, side in zip(full, size, strict=True))
            cuts.append(self.natural.pixels(free[index])[top : top + size[0], left : left + size[1]])
        return cuts

    def _cut(
        self, place: StrongestPlace, size: tuple[int, int], response: StrongestResponse | None = None
    ) -> np.ndarray:
        """Cut a natural image to a size, its strongest neuron where the response's neuron is in its picture, or in the
        middle; the cut is moved inwards where it would reach over the image's edge."""
        pixels = self.natural.pixels(place.source)
        jump = self.layer.field.jump if self.layer.field is not None else (1.0, 1.0)
        start = self.layer.field.start if self.layer.field is not None else (0.0, 0.0)
        extent = self.layer.field.size if self.layer.field is not None else size
        firsts = []
        for axis, position in enumerate((place.row, place.column)):
            if response is None:
                seen = start[axis] + position * jump[axis]
                step = max(1, round(jump[axis]))  # whole steps, so that neurons look at the pixels that they saw
                first = step * round((seen + (extent[axis] - size[axis]) / 2) / step)
            else:
                first = round((position - (response.row, response.column)[axis]) * jump[axis])
            firsts.append(min(max(0, first), pixels.shape[axis] - size[axis]))
        return pixels[firsts[0] : firsts[0] + size[0], firsts[1] : firsts[1] + size[1]]


def _path_units(quality: str, layers: int) -> int:
    """Units of a layer whose paths are measured, at most, where so many layers are analysed."""
    return max(PATH_UNITS[quality], PATH_TOTAL[quality] // max(1, layers))


def _ascent(responses: Sequence[StrongestResponse]) -> StrongestResponse | None:
    """The picture found by ascent for the channel, where there is one: an accentuation begins at a natural image."""
    own = (one for one in responses if (one.objective, one.method) == ("channel", "ascent"))
    return next(own, None)


def _channel_means(maps: np.ndarray) -> np.ndarray:
    """Mean of each channel over a layer's maps (C, H, W): (C,) float64.

    With all activations place by place, two natural images of a kind are no more alike than any two in most layers:
    measured, docs/truth.md.
    """
    with np.errstate(invalid="ignore"):  # a network's own infinities
        return np.asarray(maps.reshape(len(maps), -1).mean(axis=1, dtype=np.float64))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of each row, ties shared, centred and of length 1, so that products are Spearman correlations; 0 for a row
    of one number."""
    from scipy.stats import rankdata

    ranks = rankdata(np.nan_to_num(values, nan=np.inf, posinf=np.inf, neginf=-np.inf), axis=1)  # NaN: the highest
    ranks -= ranks.mean(axis=1, keepdims=True)
    length = np.linalg.norm(ranks, axis=1, keepdims=True)
    return np.asarray(ranks / np.where(length > 0, length, 1))


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None
