"""Pictures explained at once, without a run: what `attribute` answers, to show and to save.

Knows explanations and pictures of them; knows nothing of runs or of the terminal.
"""

from __future__ import annotations

import base64
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from filterscope.analyzer.attribution.explain import Explainer, Explanation
from filterscope.analyzer.attribution.methods import METHODS
from filterscope.analyzer.attribution.pictures import absolute, overlay, signed_tile
from filterscope.analyzer.attribution.sanity import randomisation_test, to_be_tested
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.progress import Progress
from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.layout import slugs
from filterscope.converters import checks
from filterscope.converters.errors import SettingsError, setting
from filterscope.converters.plain_text import visible

if TYPE_CHECKING:
    import torch

SHOWN_PICTURES = 4  # in an answer's one line


@dataclass(frozen=True, slots=True, eq=False)
class ExplainedPicture:
    """One picture and its explanations toward one target, one a method."""

    image: str  # its name
    pixels: np.ndarray  # (H, W, C) uint8, as the network saw it
    explanations: tuple[Explanation, ...]  # one a method, of one target

    def views(self, explanation: Explanation) -> dict[str, np.ndarray]:
        """What is saved of an explanation: (H, W, C) uint8 by the name of the view.

        overlay: red for and blue against the target, on the picture in pale grey; absolute: white where strong, of the
        sum of the channels' absolute values; signed: 128 is 0, 1 and 255 are ∓ the largest absolute value.
        """
        return {
            "overlay": overlay(self.pixels, explanation.signed),
            "absolute": absolute(explanation.strength),
            "signed": signed_tile(explanation.signed),
        }


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Answer:
    """Explained pictures, and how the methods stood the randomisation test."""

    __module__ = "filterscope"  # its public name

    pictures: tuple[ExplainedPicture, ...]  # one an image and target
    sanity: tuple[dict[str, Any], ...]  # rows of SANITY_SCHEMA; none where it was not asked for
    notes: tuple[str, ...]  # what was left out, and why

    def __iter__(self) -> Iterator[Explanation]:
        """Every explanation."""
        return (explanation for picture in self.pictures for explanation in picture.explanations)

    def __getitem__(self, method: str) -> Explanation:
        """The first explanation by a method.

        Raises:
            SettingsError: there is none.
        """
        explanation = next((one for one in self if one.method == method), None)
        if explanation is None:
            checks.refuse("method", method, f"this answer has {', '.join(dict.fromkeys(one.method for one in self))}")
        return explanation

    def save(self, folder: str | Path) -> list[Path]:
        """Write three PNGs an explanation: IMAGE-TARGET-METHOD, then -absolute and -signed.

        Returns:
            The files, three an explanation in order.

        Raises:
            SettingsError: the folder cannot be written.
        """
        place, written = Path(folder), []
        check_folder(place)
        try:
            place.mkdir(parents=True, exist_ok=True)
            for picture, stem in zip(self.pictures, self._stems(), strict=True):
                for explanation in picture.explanations:
                    for view, tile in picture.views(explanation).items():
                        file = place / f"{stem}-{explanation.method}{'' if view == 'overlay' else f'-{view}'}.png"
                        file.write_bytes(atlas.to_png(atlas.pack(tile[None])))
                        written.append(file)
        except OSError as error:
            raise SettingsError(
                f"{setting('out', folder)}: cannot be written ({error.strerror})", field="out", value=folder
            ) from error
        return written

    def _stems(self) -> list[str]:
        """A file name for each picture and target, no two alike."""
        names = [(picture.image, picture.explanations[0].target.name) for picture in self.pictures]
        keyed = [f"{Path(image).stem}-{target}" for image, target in names]
        unique = [key if keyed.count(key) == 1 else f"{key}-{i}" for i, key in enumerate(keyed)]
        safe = slugs(unique)
        return [safe[key] for key in unique]

    def to_json(self) -> dict[str, Any]:
        """Rows with the columns of ATTRIBUTION_SCHEMA, image by its name, and the test's rows."""
        rows = [{"image": p.image} | e.to_json() for p in self.pictures for e in p.explanations]
        return {"attributions": rows, "sanity": list(self.sanity), "notes": list(self.notes)}

    def __repr__(self) -> str:
        explained = [(picture.image, picture.explanations[0]) for picture in self.pictures[:SHOWN_PICTURES]]
        scores = ", ".join(f"{image}: {first.target.name} {first.score:.4g}" for image, first in explained)
        more = ", …" if len(self.pictures) > SHOWN_PICTURES else ""
        methods = ", ".join(dict.fromkeys(explanation.method for explanation in self))
        return f"<Answer for {scores or 'no picture'}{more}; by {methods or 'no method'}>"

    def _repr_html_(self) -> str:
        return "".join(_row(picture) for picture in self.pictures) + _test(self.sanity)


def attribute(
    network: Network,
    pictures: Sequence[tuple[str, np.ndarray]],
    targets: Sequence[str | None],
    methods: Sequence[str],
    *,
    named: bool = False,
    layer: str | None = None,
    labels: Sequence[str] = (),
    sanity: bool = False,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Progress,
) -> Answer:
    """Explain pictures.

    Args:
        pictures: name and (H, W, C) uint8 at the input's size, each.
        targets: as `Values.target` reads them; None: what the network answers with.
        methods: of METHODS.
        named: whether the methods were asked for one by one, so that none may be left out.
        layer: whose maps Grad-CAM weighs; None: the last before the target.
        labels: class names in order, or none.
        sanity: whether the randomisation test is run, on the first few pictures.
        seed: of SmoothGrad's noise and of the test's shuffling.
        device: where gradients are computed.
        progress: reports how far the work is.

    Raises:
        SettingsError: a target or a layer that the network does not have, a named method that does not suit a target.
    """
    explainer = Explainer(network, labels, device, seed)
    requests = [(name, pixels, explainer.target(pixels, text)) for name, pixels in pictures for text in targets]
    if named:
        for target, method in itertools.product((target for _, _, target in requests), methods):
            why = explainer.why_not(method, target, layer)
            if why is not None:
                reason = why.removeprefix(f"{method}: ").removesuffix(".")
                raise SettingsError(f"{setting('method', method)}: {reason}", field="method", value=method)
    progress.stage("attribution", len(requests) * len(methods))
    notes: list[str] = []
    explained = []
    for name, pixels, target in requests:
        explanations = explainer.explain_all(
            pixels, target, methods, layer=layer, notes=notes, done=lambda: progress.advance()
        )
        if explanations:
            explained.append(ExplainedPicture(name, pixels, tuple(explanations)))
    rows: list[dict[str, Any]] = []
    if sanity and explained:
        tested = to_be_tested([(one.pixels, one.explanations) for one in explained])
        rows = randomisation_test(explainer, tested, layer=layer, seed=seed, progress=progress)
    return Answer(tuple(explained), tuple(rows), tuple(notes))


def check_folder(folder: str | Path) -> None:
    """See, before any work, whether a folder could be written.

    Raises:
        SettingsError: it is a file, stands below one, or cannot be written.
    """
    place = Path(folder)
    nearest = next((path for path in (place, *place.absolute().parents) if path.exists()), None)
    if nearest is not None and not nearest.is_dir():
        raise SettingsError(f"{setting('out', folder)}: {nearest} is a file; give a folder", field="out", value=folder)
    if nearest is not None and not os.access(nearest, os.W_OK):
        raise SettingsError(f"{setting('out', folder)}: {nearest} cannot be written to", field="out", value=folder)


def _row(picture: ExplainedPicture) -> str:
    shown = [("as the network saw it", picture.pixels)]
    shown += [(METHODS[e.method].title, picture.views(e)["overlay"]) for e in picture.explanations]
    first = picture.explanations[0]
    figures = "".join(_figure(caption, tile) for caption, tile in shown)
    image, target = (escape(visible(name)) for name in (picture.image, first.target.name))
    return f"<p>{image}: {target} {first.score:.4g}</p><div>{figures}</div>"


def _figure(caption: str, tile: np.ndarray) -> str:
    data = base64.b64encode(atlas.to_png(atlas.pack(tile[None]))).decode("ascii")
    return (
        '<figure style="display:inline-block;margin:4px">'
        f'<img width="192" style="image-rendering:pixelated" alt="{escape(caption)}" '
        f'src="data:image/png;base64,{data}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _test(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return ""
    lines = "".join(
        f"<tr><td>{escape(row['method'])}</td><td>{escape(visible(row['layer']))}</td>"
        f"<td>{row['similarity']:.2f}</td><td>{row['ssim']:.2f}</td></tr>"
        for row in rows
    )
    head = "<tr><th>method</th><th>randomised from the output to</th><th>rank correlation</th><th>SSIM</th></tr>"
    return f"<table>{head}{lines}</table>"
