"""Classes: the picture that raises each class's score, and how sure the network is of it.

The paper's check: such pictures are given back to the network, and its scores of them are a distribution that tells how
sure it is of what nobody would recognise. Every number is of the saved picture, by ONNX Runtime. Knows scores and
pictures; knows nothing of HTML.

Sources: Simonyan, Vedaldi & Zisserman 2014, arXiv:1312.6034 (scores before softmax are raised); Nguyen, Yosinski &
Clune 2015, arXiv:1412.1897 (high confidence for unrecognisable images).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from filterscope.analyzer.execution.plan import evenly_spaced
from filterscope.analyzer.maximize.single_unit import Portrait, UnitRequest, answer
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.network.scores import class_index, scores
from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.tables import CLASS_SCHEMA
from filterscope.analyzer.studies.study import Context
from filterscope.converters import checks
from filterscope.converters.errors import SettingsError, setting

FEW = {"draft": 10, "standard": 24, "fine": 100}  # classes, where not all or others are asked for
LOOKED_AT = 100  # images whose answers say which classes come first
TOGETHER = 16  # classes whose pictures are one file


@dataclass(frozen=True, slots=True)
class Classes:
    """The study.

    Args:
        classes: "auto": all where the quality's number suffices, else those that the network answers on the user's
            images, then evenly spaced ones; "all"; how many; or some classes by number or label. A lone number is how
            many: for one class write "7,", or give several.
    """

    classes: str | tuple[str, ...] = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.classes, str):
            return
        several = isinstance(self.classes, Iterable)
        names = tuple(_name(one) for one in checks.several(self.classes))
        object.__setattr__(self, "classes", names if several else names[0])

    @property
    def name(self) -> str:
        """Folder inside the run."""
        return "classes"

    def settings(self, context: Context) -> dict[str, Any]:
        """Everything that decides its results."""
        return {"classes": list(self.chosen(context.network, context.labels, context))}

    def check(self, network: Network, labels: Sequence[str]) -> None:
        """Check that the network has these classes, before any long work.

        Raises:
            SettingsError: it is no classifier, or has no such class.
        """
        _ = self.chosen(network, labels, None)

    def chosen(self, network: Network, labels: Sequence[str], context: Context | None) -> tuple[int, ...]:
        """Numbers of the classes, in order.

        Args:
            context: whose images say which classes come first; None: no images.

        Raises:
            SettingsError: the network is no classifier, or has no such class.
        """
        count = _scores(network).out_channels
        whole = isinstance(self.classes, str) and self.classes in labels  # a label may hold a comma
        names = [str(self.classes)] if whole else _names(self.classes)
        if names is not None:
            return tuple(sorted({class_index(name, labels, count, field="classes") for name in names}))
        if self.classes == "all":
            return tuple(range(count))
        few = FEW["draft" if context is None else context.settings.quality]
        limit = few if self.classes == "auto" else int(str(self.classes))
        if limit >= count:
            return tuple(range(count))
        first = [] if context is None else predicted_classes(network, context.pictures[:LOOKED_AT])
        rest = evenly_spaced(count, limit)
        return tuple(sorted(list(dict.fromkeys([*first, *rest]))[:limit]))

    def run(self, context: Context) -> None:
        """Maximise, give back to the network, save."""
        network = context.network
        layer, classes = _scores(network), self.chosen(network, context.labels, context)
        context.notes.extend(_notes(network, layer, classes, context))
        context.progress.stage("maximising classes", len(classes))
        table = ClassTable(network, layer)
        rows: list[dict[str, Any]] = []
        recipe = context.settings.recipe
        for number, first in enumerate(range(0, len(classes), TOGETHER)):
            part = classes[first : first + TOGETHER]
            request = UnitRequest(
                layer=layer,
                objective="channel",
                units=part,
                recipe=recipe,
                seed=context.settings.seed,
                device=str(context.shop.device),
            )
            portrait = answer(network, request, context.shop.prior)
            file = f"classes/pictures-{number}.png"
            context.writer.write_bytes(file, atlas.to_png(atlas.pack(portrait.tiles)))
            rows += [row | {"atlas": file} for row in table.rows(portrait, context.labels)]
            context.progress.advance(len(part))
        context.writer.write_table("classes/classes.parquet", pa.Table.from_pylist(rows, CLASS_SCHEMA))


class ClassTable:
    """The network's class scores of pictures: a row of CLASS_SCHEMA each.

    Args:
        network: the opened network.
        layer: its scores.
    """

    def __init__(self, network: Network, layer: Layer) -> None:
        self.network, self.layer = network, layer
        shapes = {name: network.shapes.get(name, ()) for name in network.model.graph.outputs}
        self._outputs = [name for name, shape in shapes.items() if math.prod(shape) == layer.out_channels]
        outputs = list(dict.fromkeys([layer.value, *self._outputs]))
        self._session = network.session(outputs, (network.input.height, network.input.width))

    def answers(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores before softmax and the distribution over classes, of a picture (H, W, C) uint8: (classes,) each."""
        values: Mapping[str, np.ndarray] = self._session.run(self.network.input.to_model(picture[None]))
        arrays = {name: value.astype(np.float64).ravel() for name, value in values.items()}
        own = arrays[self.layer.value]
        for name in self._outputs:
            if is_distribution(arrays[name]):
                return own, arrays[name]
        return own, softmax(own)

    def rows(self, portrait: Portrait, labels: Sequence[str]) -> Iterable[dict[str, Any]]:
        """A row a picture; `atlas` is left to the caller."""
        for i, unit in enumerate(portrait.units):
            tile = portrait.tiles[i]
            own, distribution = self.answers(tile)
            finite = bool(np.isfinite(own).all())
            raised = portrait.activation[i] > portrait.random[i]
            yield {
                "klass": unit,
                "label": labels[unit] if labels else None,
                "score": _finite(portrait.activation[i]),
                "robust": _finite(portrait.robust[i]),
                "random": _finite(portrait.random[i]),
                "probability": _finite(distribution[unit]),
                "rank": int((own > own[unit]).sum()) if finite else None,
                "entropy": entropy(distribution) if finite else None,
                "distribution": distribution.astype(np.float32),
                "status": "diverged" if not finite else "ok" if raised else "unraised",
                "tile": i,
                "height": tile.shape[0],
                "width": tile.shape[1],
                "bands": tile.shape[2],
            }


def predicted_classes(network: Network, pictures: Sequence[np.ndarray]) -> list[int]:
    """The classes that the network predicts for some pictures, in order, each once."""
    layer = _scores(network)
    session = network.session([layer.value], (network.input.height, network.input.width))
    classes = (session.run(network.input.to_model(picture[None]))[layer.value].argmax() for picture in pictures)
    return list(dict.fromkeys(int(one) for one in classes))


def is_distribution(numbers: np.ndarray) -> bool:
    """Whether numbers are probabilities that sum to 1, to a thousandth."""
    return bool(np.isfinite(numbers).all() and numbers.min() >= 0 and abs(numbers.sum() - 1) < 1e-3)


def softmax(numbers: np.ndarray) -> np.ndarray:
    """Probabilities of scores, (classes,) float64."""
    with np.errstate(invalid="ignore"):  # scores that are not finite
        raised = np.exp(numbers - numbers.max())
        return np.asarray(raised / raised.sum())


def entropy(distribution: np.ndarray) -> float:
    """Bits."""
    some = distribution[distribution > 0]
    return max(0.0, float(-(some * np.log2(some)).sum()))


def _scores(network: Network) -> Layer:
    return scores(network, "classes", "leave it out")


def _name(class_: Any) -> str:
    return class_ if isinstance(class_, str) else str(checks.whole("classes", class_))


def _names(classes: str | tuple[str, ...]) -> list[str] | None:
    """Classes asked for by number or label; None: by how many."""
    if isinstance(classes, str):
        if classes in ("auto", "all") or (classes.isascii() and classes.isdigit()):
            if classes.isdigit() and not int(classes):
                raise SettingsError(
                    f"{setting('classes', 0)}: give how many, all, or classes by number or name",
                    field="classes",
                    value=classes,
                )
            return None
        classes = tuple(classes.split(","))
    names = [name.strip() for name in classes if name.strip()]
    if not names:
        raise SettingsError(
            f"{setting('classes')}: names no class; give auto, all, how many, or classes by number or name",
            field="classes",
            value=classes,
        )
    return names


def _notes(network: Network, layer: Layer, classes: Sequence[int], context: Context) -> list[str]:
    notes = [f"{len(classes)} of {layer.out_channels} classes"]
    if len(classes) < layer.out_channels:
        own = set(predicted_classes(network, context.pictures[:LOOKED_AT])) & set(classes)
        notes[0] += f", {len(own)} of them answers to the user's images" if own else ", evenly spaced or as asked for"
    ends = {node.op for name in network.model.graph.outputs if (node := network.model.graph.producer(name)) is not None}
    if ends & {"Sigmoid", "HardSigmoid"}:
        notes.append("the network ends in a sigmoid, a class by itself; probabilities are a softmax of the scores")
    return notes


def _finite(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
