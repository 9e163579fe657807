"""Attributions of the user's images, as a study of a run.

Knows runs and explanations; knows nothing of how a method works.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from filterscope.analyzer.attribution import methods
from filterscope.analyzer.attribution.explain import Explainer, Explanation
from filterscope.analyzer.attribution.methods import DEFAULT
from filterscope.analyzer.attribution.pictures import signed_tile
from filterscope.analyzer.attribution.sanity import PICTURES, STAGES, randomisation_test, to_be_tested
from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.tables import ATTRIBUTION_SCHEMA, SANITY_SCHEMA
from filterscope.analyzer.studies.study import Context
from filterscope.converters import checks

CONTRAST = ("grad-cam", "input-x-gradient")  # of one gradient each; the first that suits the network
NO_CLASSES = "The network has no class scores; the strongest channel of its last convolution is explained."


@dataclass(frozen=True, slots=True)
class Attribution:
    """Which pixels of the user's images speak for what the network answers.

    With `contrast`, also which pixels speak for the answer rather than for the class that is next, or for the image's
    label where the answer is wrong: by one gradient an image. Writes attribution/attributions.parquet, an atlas an
    image, and with `sanity` attribution/sanity.parquet.
    """

    methods: tuple[str, ...] = DEFAULT  # of analyzer.attribution.methods.METHODS
    targets: tuple[str, ...] = ()  # as `Values.target` reads them; none: what the network answers with
    layer: str | None = None  # whose maps Grad-CAM weighs; None: the last before the target
    contrast: bool = True  # where no targets are named
    sanity: bool = False
    most: int = 12  # images

    def __post_init__(self) -> None:
        object.__setattr__(self, "methods", methods.methods_named(checks.names("methods", self.methods), "methods"))
        object.__setattr__(self, "targets", checks.names("targets", self.targets))
        if self.layer is not None:
            checks.text("layer", self.layer)
        checks.flag("contrast", self.contrast)
        checks.flag("sanity", self.sanity)
        object.__setattr__(self, "most", checks.whole("most", self.most, least=1))

    @property
    def name(self) -> str:
        """Folder inside the run."""
        return "attribution"

    def settings(self, context: Context) -> dict[str, Any]:
        """Everything that decides its results; the images are part of the plan."""
        return {
            "methods": list(self.methods),
            "targets": list(self.targets),
            "layer": self.layer,
            "contrast": self.contrast and not self.targets,
            "sanity": self.sanity,
            "images": self.most,
            "samples": methods.SAMPLES,
            "noise": methods.NOISE,
            "steps": methods.STEPS,
            "windows": methods.WINDOWS,
            "stages": STAGES,
        }

    def run(self, context: Context) -> None:
        """Explain each image, then randomise the network."""
        explainer = Explainer(context.network, context.labels, context.shop.device, context.settings.seed)
        pictures = context.pictures[: self.most]
        if len(pictures) < len(context.pictures):
            context.notes.append(f"The first {len(pictures)} of {len(context.pictures)} images are explained.")
        if not pictures:
            context.notes.append("No images were given, so that nothing is explained.")
        targets = self.targets or (None,)
        context.progress.stage("attribution", len(pictures) * len(targets) * len(self.methods))
        rows: list[dict[str, Any]] = []
        explained: list[tuple[np.ndarray, list[Explanation]]] = []
        for index, pixels in enumerate(pictures):
            explanations: list[Explanation] = []
            for text in targets:
                one = self._explain_image(context, explainer, pixels, text)
                explanations += one
                if one and len(explained) < PICTURES:
                    explained.append((pixels, one))
            if self.contrast and not self.targets:
                explanations += self._contrast(context, explainer, index)
            if explanations:
                place = f"attribution/image-{index}.png"
                tiles = np.stack([signed_tile(explanation.signed) for explanation in explanations])
                context.writer.write_bytes(place, atlas.to_png(atlas.pack(tiles)))
                height, width = tiles.shape[1:3]
                rows += [
                    {"image": index, "atlas": place, "tile": tile, "height": height, "width": width} | one.to_json()
                    for tile, one in enumerate(explanations)
                ]
        table = pa.Table.from_pylist(rows, ATTRIBUTION_SCHEMA)
        context.writer.write_table("attribution/attributions.parquet", table)
        if self.sanity and explained:
            tested = randomisation_test(
                explainer,
                to_be_tested(explained),
                layer=self.layer,
                seed=context.settings.seed,
                progress=context.progress,
            )
            context.writer.write_table("attribution/sanity.parquet", pa.Table.from_pylist(tested, SANITY_SCHEMA))

    def _explain_image(
        self, context: Context, explainer: Explainer, pixels: np.ndarray, text: str | None
    ) -> list[Explanation]:
        target = explainer.target(pixels, text)
        if text is None and target.layer is not None and NO_CLASSES not in context.notes:
            context.notes.append(NO_CLASSES)
        return explainer.explain_all(
            pixels,
            target,
            self.methods,
            layer=self.layer,
            notes=context.notes,
            done=lambda: context.progress.advance(),
        )

    def _contrast(self, context: Context, explainer: Explainer, index: int) -> list[Explanation]:
        """Why an image is answered with its class rather than with another one."""
        pixels = context.pictures[index]
        target = explainer.contrast(pixels, context.photos[index].label)
        if target is None:
            return []
        method = next(name for name in CONTRAST if explainer.why_not(name, target, self.layer) is None)
        return explainer.explain_all(
            pixels, target, (method,), layer=self.layer, notes=context.notes, done=lambda: None
        )
