"""Inversion: a picture with the same activations at a layer as the user's image; caricatures: with more of the same.

The study goes down the network: at each layer a picture is sought, from noise, whose activations are those of the
user's image. Where it looks like the image, the layer has kept what is shown; what comes out otherwise, it has thrown
away. Distances are of the saved picture, by ONNX Runtime. Knows layers and pictures; knows nothing of HTML.

Source: Mahendran & Vedaldi 2015, arXiv:1412.0035.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from filterscope.analyzer.maximize.presets import quality_named
from filterscope.analyzer.network.layers import Layer, select_two_dimensional
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.tables import INVERSION_SCHEMA
from filterscope.analyzer.studies.study import Context
from filterscope.converters import checks
from filterscope.converters.errors import SettingsError, setting

if TYPE_CHECKING:
    from filterscope.analyzer.maximize.feature_inversion import MatchedPicture, Restraint

POWER = 2.0  # of the cosine in a caricature


@dataclass(frozen=True, slots=True)
class InversionQuality:
    """How much an inversion study computes at one quality."""

    evaluations: int  # of an inversion, at most
    layers: int  # evenly spaced in depth, first and last among them
    images: int  # the first ones


QUALITIES = {
    "draft": InversionQuality(128, 3, 1),
    "standard": InversionQuality(512, 6, 3),
    "fine": InversionQuality(1024, 12, 6),
}


@dataclass(frozen=True, slots=True, eq=False)
class InvertedPicture:
    """A feature inversion or a caricature, and how near its activations are to the original's."""

    layer: str
    kind: str  # inversion or caricature
    tile: np.ndarray  # (H, W, C) uint8
    distance: float  # ‖Φ(x) − Φ(x₀)‖ ÷ ‖Φ(x₀)‖ of the 8-bit picture, by ONNX Runtime; NaN where Φ(x₀) is 0
    cosine: float  # of the two activations
    steps: int  # evaluations of the network with its gradient
    seconds: float  # of processor time

    def _repr_html_(self) -> str:
        from filterscope.analyzer.run.notebook import figure

        return figure(self.tile, f"{self.layer}: distance {self.distance:.3g}, cosine {self.cosine:.3g}", 224)


def invert(
    network: Network,
    layer: str,
    picture: np.ndarray,
    *,
    quality: str = "standard",
    kind: str = "inversion",
    evaluations: int | None = None,
    restraint: Restraint | None = None,
    power: float = POWER,
    seed: int = 0,
    device: str = "auto",
) -> InvertedPicture:
    """The picture whose activations at a layer match another picture's.

    Args:
        network: the opened network.
        layer: its name, or a glob that fits one.
        picture: (H, W, C) uint8 at the network's input size, RGB order.
        quality: draft, standard, fine.
        kind: inversion; caricature: more of the same direction instead.
        evaluations: instead of the quality's, for an inversion.
        restraint: weights of smoothness and of outliers.
        power: of the cosine, for a caricature.
        seed: of the noise at the start.
        device: auto, cpu, cuda, cuda:1.

    Raises:
        SettingsError: no such layer, quality or kind, or a picture of another size.
    """
    from filterscope.analyzer.compute.devices import choose_device
    from filterscope.analyzer.maximize.feature_inversion import Matcher
    from filterscope.analyzer.maximize.single_unit import only_layer

    if not isinstance(network, Network):
        checks.refuse("network", network, "give what fs.open returned")
    chosen = only_layer(network, layer)
    amounts, steps = QUALITIES[quality_named(quality).name], quality_named(quality)
    if kind not in ("inversion", "caricature"):
        checks.refuse("kind", kind, "give inversion or caricature")
    expected = (network.input.height, network.input.width, network.input.channels)
    if not isinstance(picture, np.ndarray) or picture.shape != expected or picture.dtype != np.uint8:
        text = f"array of {picture.shape} {picture.dtype}" if isinstance(picture, np.ndarray) else checks.shown(picture)
        checks.refuse("picture", picture, f"give an array of {expected} uint8", text=text)
    if evaluations is not None:
        evaluations = checks.whole("evaluations", evaluations, least=1)
    matcher = Matcher(network, chosen, choose_device(device))
    if kind == "inversion":
        matched = matcher.invert(picture, evaluations or amounts.evaluations, seed, restraint)
    else:
        matched = matcher.caricature(picture, steps, power, seed)
    return ActivationComparison(network, chosen).compare(kind, matched, picture)


class ActivationComparison:
    """Compares the activations of two pictures at one layer, by ONNX Runtime."""

    def __init__(self, network: Network, layer: Layer) -> None:
        self.network, self.layer = network, layer
        self._session = network.session([layer.value], (network.input.height, network.input.width))

    def activations(self, picture: np.ndarray) -> np.ndarray:
        """Pre-activations of a picture, (H, W, C) uint8, flat float64."""
        answer = self._session.run(self.network.input.to_model(picture[None]))[self.layer.value]
        return answer.astype(np.float64).ravel()

    def compare(self, kind: str, matched: MatchedPicture, picture: np.ndarray) -> InvertedPicture:
        """The found picture with the distance and cosine of its activations to those of `picture`."""
        own, target = self.activations(matched.tile), self.activations(picture)
        with np.errstate(invalid="ignore", over="ignore"):  # a network's own infinities
            length = float(np.linalg.norm(target))
            lengths = length * float(np.linalg.norm(own))
            distance = float(np.linalg.norm(own - target)) / length if length else np.nan
            cosine = float(own @ target) / lengths if lengths else np.nan
        return InvertedPicture(
            layer=self.layer.name,
            kind=kind,
            tile=matched.tile,
            distance=distance,
            cosine=cosine,
            steps=matched.steps,
            seconds=matched.seconds,
        )


@dataclass(frozen=True, slots=True)
class Inversion:
    """The study: the user's first images, inverted from some layers.

    Args:
        layers: names and globs; none: evenly spaced among the analysed layers, as many as the quality says.
        images: how many of the user's images; None: the quality's.
        evaluations: of an inversion, at most; None: the quality's.
        caricatures: whether these are drawn too.
        power: of the cosine in them.
    """

    layers: tuple[str, ...] = ()
    images: int | None = None
    evaluations: int | None = None
    caricatures: bool = True
    power: float = POWER

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", checks.names("layers", self.layers))
        for name, number in (("images", self.images), ("evaluations", self.evaluations)):
            if number is not None:
                object.__setattr__(self, name, checks.whole(name, number, least=1))
        checks.flag("caricatures", self.caricatures)
        object.__setattr__(self, "power", checks.number("power", self.power))

    @property
    def name(self) -> str:
        """Folder inside the run."""
        return "inversion"

    def settings(self, context: Context) -> dict[str, Any]:
        """Everything that decides its results."""
        amounts = QUALITIES[context.settings.quality]
        return {
            "layers": [layer.name for layer in self.chosen(context.network, tuple(context.channels), amounts.layers)],
            "images": min(self.images or amounts.images, len(context.pictures)),
            "evaluations": self.evaluations or amounts.evaluations,
            "caricature_steps": quality_named(context.settings.quality).steps if self.caricatures else 0,
            "power": self.power,
        }

    def chosen(self, network: Network, analysed: Sequence[str], count: int) -> list[Layer]:
        """The layers that are inverted, in network order.

        Raises:
            SettingsError: a name that fits no two-dimensional layer.
        """
        if self.layers:
            return select_two_dimensional(network.layers, self.layers, "inversion")
        return spread([layer for layer in network.convolutions if layer.name in analysed], count)

    def run(self, context: Context) -> None:
        """Invert, measure, save."""
        if not context.pictures:
            raise SettingsError(
                f"{setting('inversion')}: inverts activations of your images; give {setting('images')}",
                field="inversion",
            )
        from filterscope.analyzer.maximize.feature_inversion import Matcher

        settings, shop = self.settings(context), context.shop
        context.notes.append(
            f"the first {settings['images']} of {len(context.pictures)} images at {len(settings['layers'])} layers; "
            "activations are those before the non-linearity"
        )
        each = 1 + self.caricatures
        context.progress.stage("inverting activations", len(settings["layers"]) * settings["images"] * each)
        rows: list[dict[str, Any]] = []
        for name in settings["layers"]:
            layer = context.network.layer(name)
            matcher, comparison = (
                Matcher(context.network, layer, shop.device, shop.prior),
                ActivationComparison(context.network, layer),
            )
            for index, picture in enumerate(context.pictures[: settings["images"]]):
                inverted = matcher.invert(picture, settings["evaluations"], shop.seed)
                pictures = [comparison.compare("inversion", inverted, picture)]
                context.progress.advance()
                if self.caricatures:
                    drawn = matcher.caricature(picture, shop.recipe.quality, self.power, shop.seed)
                    pictures.append(comparison.compare("caricature", drawn, picture))
                    context.progress.advance()
                file = f"inversion/{context.slugs[name]}-{index}.png"
                context.writer.write_bytes(file, atlas.to_png(atlas.pack(np.stack([one.tile for one in pictures]))))
                rows += [_row(one, index, file, tile) for tile, one in enumerate(pictures)]
        unseen = sorted({row["layer"] for row in rows if row["cosine"] is None})
        if unseen:
            context.notes.append(f"no number where activations are 0 or not finite: {', '.join(unseen)}")
        context.writer.write_table("inversion/inversions.parquet", pa.Table.from_pylist(rows, INVERSION_SCHEMA))


def spread(layers: Sequence[Layer], count: int) -> list[Layer]:
    """At most `count` of some layers, evenly spaced, first and last among them; of one, the last."""
    if count >= len(layers):
        return list(layers)
    places = np.linspace(0, len(layers) - 1, count) if count > 1 else np.array([len(layers) - 1])
    return [layers[round(place)] for place in places]


def _row(one: InvertedPicture, image: int, file: str, tile: int) -> dict[str, Any]:
    height, width, bands = one.tile.shape
    return {
        "image": image,
        "layer": one.layer,
        "kind": one.kind,
        "distance": one.distance if one.kind == "inversion" and np.isfinite(one.distance) else None,
        "cosine": one.cosine if np.isfinite(one.cosine) else None,
        "steps": one.steps,
        "seconds": one.seconds,
        "atlas": file,
        "tile": tile,
        "height": height,
        "width": width,
        "bands": bands,
    }
