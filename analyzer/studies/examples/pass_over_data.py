"""One pass over a data set: every image through the network once, every unit of every layer measured.

The state between two batches is all there is; it can be saved and gone on with. Knows sessions, data sets and running
statistics; knows nothing of tables or files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from filterscope.analyzer.data.dataset import Batch, DataSet, batches
from filterscope.analyzer.data.white import Levels
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.network.nonlinearity import PASSED
from filterscope.analyzer.studies.examples.class_survey import class_survey
from filterscope.analyzer.studies.examples.running_statistics import LayerStatistics, State, StrongestUnits
from filterscope.converters.errors import InputError
from filterscope.converters.reductions import MeasuringSession

BATCH = 100  # images over which "which channel fires most" is given too
BATCH_BYTES = 1 << 25  # of the largest value inside the network, for all images that it sees at once
MOST_AT_ONCE = 32  # images; more are no faster, since maps no longer stay in the cache
PLACES = 1 << 14  # sampled places of a unit, about
FEWEST_PLACES, MOST_PLACES = 4, 64  # sampled of a map
CORRELATION_BYTES = 1 << 28  # of all covariances together
FIRING_ROWS = 1 << 22  # of "which channel fires most": what a data set without end may fill
NAMED = 20  # broken images that are named


class Firing:
    """Which channel fires most, for each layer and image and for each layer and batch, up to a limit.

    Args:
        layers: how many.
        images: in the data set.
    """

    def __init__(self, layers: int, images: int) -> None:
        most = max(1, FIRING_ROWS // max(1, layers))
        limit, batch = min(images, most), min(math.ceil(images / BATCH), most)
        self.images = images
        self.limit = limit  # images with a number below it are kept
        self.channels = np.full((layers, limit), -1, np.int32)  # −1: no answer
        self.means = np.full((layers, limit), np.nan, np.float32)
        self.batch_images = np.zeros((layers, batch), np.int32)
        self.batch_channels = np.full((layers, batch), -1, np.int32)
        self.batch_means = np.full((layers, batch), np.nan, np.float32)

    def add(self, layer: int, numbers: np.ndarray, strongest: StrongestUnits) -> None:
        """Take what a batch of images, rising numbers, answered."""
        count = int(np.searchsorted(numbers, self.limit))
        self.channels[layer, numbers[:count]] = strongest.channels[:count]
        self.means[layer, numbers[:count]] = strongest.means[:count]

    def end_batch(self, layer: int, batch: int, summary: tuple[int, int, float] | None) -> None:
        """Take what a batch of BATCH images answered together."""
        if summary is not None and batch < self.batch_images.shape[1]:
            self.batch_images[layer, batch], self.batch_channels[layer, batch], self.batch_means[layer, batch] = summary

    def state(self) -> State:
        """Everything, as arrays."""
        return {name: getattr(self, name) for name in FIRING_ARRAYS}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state."""
        for name in FIRING_ARRAYS:
            getattr(self, name)[...] = state[name]


FIRING_ARRAYS = ("channels", "means", "batch_images", "batch_channels", "batch_means")


class Survey:
    """The pass over a data set, and the running statistics so far.

    Args:
        network: the opened network.
        layers: two-dimensional convolutions.
        data: the images.
        top: strongest places kept of each unit.
        resize: as in `analyzer.data.images.fit`.
        seed: of the sampled places.
        labels: names of the network's classes, in order, or none.
    """

    def __init__(
        self,
        network: Network,
        layers: Sequence[Layer],
        data: DataSet,
        *,
        top: int,
        resize: str,
        seed: int,
        labels: Sequence[str] = (),
    ) -> None:
        self.network, self.layers, self.data = network, layers, data
        self.resize, self.seed = resize, seed
        self.sampled = min(MOST_PLACES, max(FEWEST_PLACES, math.ceil(PLACES / len(data))))
        self.next = 0  # number of the first image that was not tried yet
        self.resized = 0
        self.broken: list[str] = []  # why the first of them could not be read
        self.broken_images = 0
        self.levels = Levels()  # how much of their range the images use
        self.firing = Firing(len(layers), len(data))
        self.classes = class_survey(network, layers, data, labels)  # None: no labels fit the network's output
        self.statistics: list[LayerStatistics] = []
        room = CORRELATION_BYTES
        for layer in layers:
            own = 4 * layer.out_channels**2
            correlated = own <= room
            room -= own if correlated else 0
            passed = PASSED.get(layer.nonlinearity, (-math.inf, math.inf))
            self.statistics.append(LayerStatistics(layer.out_channels, _places(layer), top, correlated, passed=passed))

    @property
    def measured(self) -> int:
        """Images that went through the network."""
        return self.next - self.broken_images

    def run(self) -> Iterator[int]:
        """Do what is left, a batch at a time; between batches the state is whole.

        Yields:
            How many images each batch was made of.

        Raises:
            InputError: not one image can be used.
        """
        session = MeasuringSession(
            self.network.model.proto,
            {layer.value: (layer.output_shape[1], layer.output_shape[2]) for layer in self.layers},
            self.network.declared(),
            whole=() if self.classes is None else self.classes.values,
            one_at_a_time=self.network.one_at_a_time,
        )
        size = at_once(self.network, BATCH_BYTES, MOST_AT_ONCE)
        spec = self.network.input
        for batch in batches(self.data, spec, self.resize, size, start=self.next, boundary=BATCH):
            before = self.next
            if len(batch.numbers):
                self._measure(session, batch)
            self._remember(batch)
            if batch.end % BATCH == 0 or batch.end == len(self.data):
                for index, statistics in enumerate(self.statistics):
                    self.firing.end_batch(index, (batch.end - 1) // BATCH, statistics.end_batch())
            yield self.next - before
        if not self.measured:
            raise InputError(f"none of the {len(self.data)} images can be used; the first: {self.broken[0]}")

    def _measure(self, session: MeasuringSession, batch: Batch) -> None:
        sampled = {}
        for statistics in self.statistics:
            if statistics.places not in sampled:
                sampled[statistics.places] = self._sample(statistics.places)
        measured, answered = session.measure(self.network.input.to_model(batch.pixels), sampled)
        for index, (layer, statistics) in enumerate(zip(self.layers, self.statistics, strict=True)):
            self.firing.add(index, batch.numbers, statistics.add(batch.numbers, measured[layer.value]))
        if self.classes is not None:
            self.classes.add(batch.numbers, measured, answered)

    def _sample(self, places: int) -> np.ndarray:
        """The places of maps of a size that are sampled of this batch, whichever other layers are measured."""
        if places <= self.sampled:
            return np.arange(places)
        rng = np.random.default_rng([self.seed, self.next, places])
        return np.sort(rng.choice(places, self.sampled, replace=False, shuffle=False))

    def _remember(self, batch: Batch) -> None:
        self.next = batch.end
        self.resized += batch.resized
        self.levels.join(batch.levels)
        self.broken_images += len(batch.broken)
        self.broken += batch.broken[: NAMED - len(self.broken)]

    def state(self) -> State:
        """Everything, as arrays by name."""
        state = {
            f"{index}/{name}": a
            for index, statistics in enumerate(self.statistics)
            for name, a in statistics.state().items()
        }
        state |= {f"firing/{name}": array for name, array in self.firing.state().items()}
        if self.classes is not None:
            state |= {f"classes/{name}": array for name, array in self.classes.state().items()}
        state["numbers"] = np.array([self.next, self.resized, self.broken_images])
        state["levels"] = self.levels.state()
        state["broken"] = np.array([text.encode("utf-8", "surrogatepass").hex() for text in self.broken], np.str_)
        return state

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from a state.

        Raises:
            KeyError, ValueError: it is not one of such a pass.
        """
        for index, statistics in enumerate(self.statistics):
            statistics.restore(_below(state, f"{index}/"))
        self.firing.restore(_below(state, "firing/"))
        if self.classes is not None:
            self.classes.restore(_below(state, "classes/"))
        self.next, self.resized, self.broken_images = (int(number) for number in state["numbers"])
        self.levels.restore(state["levels"])
        self.broken = [bytes.fromhex(text).decode("utf-8", "surrogatepass") for text in state["broken"].tolist()]


def _below(state: Mapping[str, np.ndarray], prefix: str) -> State:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}


def _places(layer: Layer) -> int:
    return math.prod(layer.output_shape[1:])


def at_once(network: Network, most_bytes: int, most: int) -> int:
    """How many images the network may see at a time, so that its largest value has at most so many bytes."""
    graph = network.model.graph
    largest = max(math.prod(network.shapes.get(name, ())) for node in graph.nodes for name in node.outputs)
    return max(1, min(most, most_bytes // (4 * max(largest, 1))))
