"""Explanations: attributions of a target by several methods, each with the score that it explains.

Knows networks, targets and methods; knows nothing of runs or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from filterscope.analyzer.attribution.backpropagation import Backpropagation
from filterscope.analyzer.attribution.methods import METHODS, AttributionInput
from filterscope.analyzer.attribution.targets import Target, Values, strongest_channel
from filterscope.analyzer.network import scores
from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.network.network import Network
from filterscope.converters.errors import SettingsError, setting


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """One method's attribution of one target on one picture."""

    method: str
    target: Target
    at: str | None  # layer whose maps Grad-CAM weighed
    score: float  # the target's number for the 8-bit picture, by ONNX Runtime
    signed: np.ndarray  # (H, W) float32, summed over the input's channels, signs kept
    strength: np.ndarray  # (H, W) float32, absolute values summed over the input's channels

    def to_json(self) -> dict[str, Any]:
        """The columns of ATTRIBUTION_SCHEMA that are neither image nor picture."""
        return {
            "method": self.method,
            "layer": self.target.layer,
            "target": self.target.channel,
            "label": self.target.label,
            "minus": self.target.minus,
            "minus_label": self.target.minus_label,
            "row": self.target.row,
            "column": self.target.column,
            "at": self.at,
            "score": self.score,
            "minimum": float(self.signed.min()),
            "maximum": float(self.signed.max()),
            "total": float(self.signed.sum(dtype=np.float64)),
        }


class NotFiniteError(SettingsError):
    """A method's answer is infinite or not a number."""


class Explainer:
    """Explains what one network answers on pictures.

    Args:
        network: the opened network.
        labels: class names in order, or none.
        device: where gradients are computed; None: the processor.
        seed: of SmoothGrad's noise.
    """

    def __init__(
        self, network: Network, labels: Sequence[str] = (), device: torch.device | None = None, seed: int = 0
    ) -> None:
        self.network, self.labels, self.seed = network, labels, seed
        self.backpropagation = Backpropagation(network, device)
        self.values = Values(network)

    def target(self, pixels: np.ndarray, text: str | None = None) -> Target:
        """The target of this name; without one, the class that the network predicts.

        Where it is no classifier, or its scores cannot be imported into torch, the channel of the last convolution
        that fires most on the picture.

        Args:
            pixels: (H, W, C) uint8.

        Raises:
            SettingsError: no such target.
        """
        if text is not None:
            return self.values.target(text, self.labels)
        layer = self._scores()
        if layer is not None:
            answer = self.backpropagation.measured(pixels[None], layer.value)
            return self.values.klass(layer, int(answer.reshape(-1).argmax()), self.labels)
        last = self.values.last_layer()
        if last is None:
            raise SettingsError(
                f"the network has neither class scores nor 2-d convolutions; give {setting('target', 'VALUE:CHANNEL')}",
                field="target",
            )
        return self.values.unit(last.name, strongest_channel(self.backpropagation.measured(pixels[None], last.value)))

    def contrast(self, pixels: np.ndarray, label: int | None = None) -> Target | None:
        """Why this answer rather than another one: the score of the answer minus that of one other class.

        That class is the label, where the answer is wrong, and otherwise the class with the next highest score.

        Args:
            pixels: (H, W, C) uint8.
            label: class that the image is known to have; None: unknown.

        Returns:
            The target; None where the network has no class scores, or they are not finite.
        """
        layer = self._scores()
        if layer is None:
            return None
        answer = self.backpropagation.measured(pixels[None], layer.value).reshape(-1)
        if not np.isfinite(answer).all():
            return None
        best, following = np.argsort(-answer, kind="stable")[:2].tolist()
        is_wrong = label is not None and label != best and 0 <= label < answer.size
        return self.values.klass(layer, best, self.labels, minus=label if is_wrong else following)

    def _scores(self) -> Layer | None:
        """The class scores, where the network has any that a gradient leads to."""
        try:
            layer = scores.scores(self.network)
        except SettingsError:
            return None
        return layer if layer.value in self.network.twin.values else None

    def maps(self, target: Target, layer: str | None = None) -> tuple[str, str] | None:
        """Value and name of the maps that Grad-CAM weighs: asked for, or the last layer before the target.

        Raises:
            SettingsError: no such layer, or one without maps.
        """
        if layer is not None:
            return self.values.maps(layer)
        before = self.backpropagation.before(target.value) - {target.value}
        for each in reversed(self.network.convolutions):
            for value in (self.values.handed_on(each.value), each.value):
                if each.has_maps and value in before:
                    return value, each.name
        return None

    def why_not(self, method: str, target: Target, layer: str | None = None) -> str | None:
        """Why a method has nothing to say of a target: a sentence, or None where it has."""
        needs = METHODS[method].needs
        if needs == "rectifiers" and not self.backpropagation.rectifies_before(target.value):
            return f"{method}: no ReLU of any spelling stands before {target.name}, it would be the plain gradient."
        if needs == "maps" and self.maps(target, layer) is None:
            return f"{method}: no layer with maps stands before {target.name}."
        return None

    def explain_all(
        self,
        pixels: np.ndarray,
        target: Target,
        methods: Sequence[str],
        *,
        layer: str | None,
        notes: list[str],
        done: Callable[[], None],
    ) -> list[Explanation]:
        """Explain a target by several methods; a note says which of them do not suit it, and why.

        Args:
            pixels, target, layer: as in `explain`.
            notes: to which sentences are appended, each once.
            done: called after each method.
        """
        explanations = []
        for method in methods:
            why = self.why_not(method, target, layer)
            if why is None:
                try:
                    explanations.append(self.explain(pixels, target, method, layer=layer))
                    if not explanations[-1].strength.any():
                        why = (
                            f"{method}: 0 everywhere; {target.name} is at the end of its range, or dead, on a picture."
                        )
                except NotFiniteError as error:
                    why = f"{error}."
            if why is not None and why not in notes:
                notes.append(why)
            done()
        return explanations

    def explain(
        self,
        pixels: np.ndarray,
        target: Target,
        method: str,
        layer: str | None = None,
        backpropagation: Backpropagation | None = None,
    ) -> Explanation:
        """Explain a target by one method.

        Args:
            pixels: (H, W, C) uint8 at the input's size.
            target: from `target`.
            method: of METHODS.
            layer: whose maps Grad-CAM weighs; None: the last before the target.
            backpropagation: of the network with other weights; None: with its own.

        Raises:
            SettingsError: the method has nothing to say of the target, or no gradient leads to it.
            NotFiniteError: what it says is not finite.
        """
        why = self.why_not(method, target, layer)
        if why is not None:
            raise SettingsError(why.removesuffix("."))
        maps = self.maps(target, layer) if METHODS[method].needs == "maps" else None
        backpropagation = backpropagation or self.backpropagation
        picture = torch.from_numpy(np.moveaxis(pixels, -1, 0)[None].astype(np.float32) / np.float32(255))
        at = None if maps is None else maps[0]
        last = at is not None and self.values.channels_last(at)
        request = AttributionInput(
            backpropagation=backpropagation,
            target=target,
            picture=picture.to(backpropagation.device),
            at=at,
            at_last=last,
            seed=self.seed,
        )
        attribution = METHODS[method].attribute(request)[0].cpu().numpy()
        if not np.isfinite(attribution).all():
            raise NotFiniteError(f"{method}: what it says of {target.name} is not finite")
        score = float(target.of(self.backpropagation.measured(pixels[None], target.value).astype(np.float64))[0])
        name = None if maps is None else maps[1]
        return Explanation(
            method=method,
            target=target,
            at=name,
            score=score,
            signed=attribution.sum(0),
            strength=np.abs(attribution).sum(0),
        )
