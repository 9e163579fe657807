"""The request to explain pictures: which pixels speak for a class, a channel or a neuron."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from filterscope.analyzer.data.white import check_white
from filterscope.converters import checks

if TYPE_CHECKING:
    import numpy as np

    from filterscope.analyzer.attribution.explained import Answer
    from filterscope.analyzer.network.network import Network
    from filterscope.analyzer.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttributeRequest:
    """Pictures, targets and methods.

    Raises:
        SettingsError: there is no such method, `white` is no number that can be white, or a field is not of its type.
    """

    image: Sequence[str | Path | np.ndarray]  # paths; arrays: (H, W, C) in RGB order
    target: Sequence[str] = ()  # none: what the network answers with
    method: Sequence[str] = ("all",)
    layer: str | None = None  # whose maps Grad-CAM weighs; None: the last convolution before the target
    labels: Sequence[str] = ()  # class names in order, or none
    sanity: bool = False  # whether the methods are tried on randomised weights
    resize: str = "auto"
    white: float | None = None
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_white(self.white)
        checks.flag("sanity", self.sanity)
        object.__setattr__(self, "seed", checks.whole("seed", self.seed))
        for field, names in (("target", self.target), ("method", self.method)):
            for name in checks.listed(field, names):
                checks.text(field, name)
        if not self.method:
            checks.refuse("method", "", "give all, or a method's name")
        if not self.image:
            checks.refuse("image", self.image, "give a picture")
        for image in checks.listed("image", self.image):
            checks.array("image", image)
        _ = self.methods

    @property
    def methods(self) -> tuple[str, ...]:
        """Their names, where `all` and `default` stand for several."""
        from filterscope.analyzer.attribution.methods import methods_named

        return methods_named(list(self.method))

    def run(self, network: Network, progress: Progress) -> Answer:
        """Explain the pictures; the import of the network is proven on the first of them.

        Raises:
            FilterscopeError: a picture, or something that does not fit the network.
        """
        from filterscope.analyzer.attribution.explained import attribute
        from filterscope.analyzer.compute.devices import choose_device

        pictures = self._pictures(network)
        network.prove(pictures[0][1])
        return attribute(
            network,
            pictures,
            targets=list(self.target) or [None],
            methods=self.methods,
            named=not {"all", "default"} & set(",".join(self.method).replace(" ", "").split(",")),
            layer=self.layer,
            labels=self.labels,
            sanity=self.sanity,
            seed=self.seed,
            device=choose_device(self.device),
            progress=progress,
        )

    def _pictures(self, network: Network) -> list[tuple[str, np.ndarray]]:
        """Name and (H, W, C) uint8 pixels at the input's size of every picture, in order."""
        import numpy as np

        from filterscope.analyzer.data.images import add_levels, common_white, find, fit, load, photos_of
        from filterscope.analyzer.data.white import Levels

        arrays = {
            f"picture {number}": image for number, image in enumerate(self.image) if isinstance(image, np.ndarray)
        }
        photos = {photo.name: photo for photo in photos_of(arrays, self.white)}
        files = [[] if isinstance(image, np.ndarray) else find([image], self.white) for image in self.image]
        paths = dict.fromkeys(source.path for sources in files for source in sources if source.index is not None)
        common = common_white(paths, self.white)
        pictures, levels = [], Levels()
        for number, sources in enumerate(files):
            photo = photos.get(f"picture {number}")
            if photo is not None:
                add_levels(levels, photo)
                pictures.append((photo.name, fit(photo, network.input, self.resize)))
            alike = [replace(source, white=common.get(source.path, self.white)) for source in sources]
            loaded = load(alike, network.input, self.resize, levels=levels)
            pictures += [(info.name, pixels) for info, pixels in loaded]
        for warning in levels.warnings():
            logging.getLogger("filterscope").warning("%s", warning)
        return pictures
