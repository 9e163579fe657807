"""What `attribute` is asked and what it prints: options to an answer, an answer to a table.

Knows options and their words; computes nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filterscope.converters.plain_text import visible

if TYPE_CHECKING:
    import numpy as np

    from filterscope.analyzer.attribution.explained import Answer
    from filterscope.analyzer.network.network import Network
    from filterscope.analyzer.progress import Progress
    from filterscope.analyzer.studies.study import Study


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of `attribute` as they were typed."""

    image: Any  # a name, (H, W, C) uint8 pixels, or several of these
    target: Sequence[str]
    method: Sequence[str]
    layer: str | None
    labels: Sequence[str]
    sanity: bool
    seed: int
    device: str
    resize: str
    white: float | None = None

    def methods(self) -> tuple[str, ...]:
        """The methods asked for.

        Raises:
            SettingsError: no such method.
        """
        from filterscope.analyzer.attribution.methods import methods_named

        return methods_named(list(self.method) or "all")

    def check(self, folder: Path) -> None:
        """See that the options make sense and that the folder can be written.

        Raises:
            SettingsError: one is not so.
        """
        from filterscope.analyzer.attribution.explained import check_folder
        from filterscope.analyzer.data.white import check_white

        check_white(self.white)
        self.methods()
        check_folder(folder)

    def answer(self, network: Network, progress: Progress) -> Answer:
        """The answer.

        Raises:
            FilterscopeError: the image, or something that does not fit the network.
        """
        from filterscope.analyzer.attribution.explained import attribute
        from filterscope.analyzer.compute.devices import choose_device

        pictures = self._pictures(network)
        network.prove(pictures[0][1])
        return attribute(
            network,
            pictures,
            list(self.target) or [None],
            self.methods(),
            named=not {"all", "default"} & set(",".join(self.method or ["all"]).replace(" ", "").split(",")),
            layer=self.layer,
            labels=self.labels,
            sanity=self.sanity,
            seed=self.seed,
            device=choose_device(self.device),
            progress=progress,
        )

    def _pictures(self, network: Network) -> list[tuple[str, np.ndarray]]:
        import numpy as np

        from filterscope.analyzer.data.images import add_levels, common_white, find, fit, load, photos_of
        from filterscope.analyzer.data.white import Levels

        several = isinstance(self.image, Sequence) and not isinstance(self.image, str)
        given = list(self.image) if several else [self.image]
        arrays = {f"picture {number}": one for number, one in enumerate(given) if isinstance(one, np.ndarray)}
        photos = {photo.name: photo for photo in photos_of(arrays, self.white)}
        files = [[] if isinstance(one, np.ndarray) else find([one], self.white) for one in given]
        paths = dict.fromkeys(source.path for sources in files for source in sources if source.index is not None)
        common = common_white(paths, self.white)
        found, levels = [], Levels()
        for number, sources in enumerate(files):
            photo = photos.get(f"picture {number}")
            if photo is not None:
                add_levels(levels, photo)
                found.append((photo.name, fit(photo, network.input, self.resize)))
            alike = [replace(source, white=common.get(source.path, self.white)) for source in sources]
            loaded = load(alike, network.input, self.resize, levels=levels)
            found += [(info.name, pixels) for info, pixels in loaded]
        for warning in levels.warnings():
            logging.getLogger("filterscope").warning("%s", warning)
        return found


def told(answer: Answer) -> str:
    """The numbers of an answer, a block a picture and target, then the randomisation test."""
    lines = []
    for picture in answer.pictures:
        first = picture.explanations[0]
        of = "score" if first.target.layer is None else "sum" if first.target.row is None else "value"
        lines.append(f"{visible(picture.image)}: {visible(first.target.name)}, {of} {first.score:.4g}")
        lines.append(f"  {'method':<22}{'lowest':>12}{'highest':>12}{'total':>12}  at")
        for one in picture.explanations:
            row = one.to_json()
            numbers = "".join(f"{row[key]:>12.4g}" for key in ("minimum", "maximum", "total"))
            lines.append(f"  {one.method:<22}{numbers}  {visible(one.at or '')}".rstrip())
    return "\n".join([*lines, *_test(answer.sanity), *(f"note: {visible(note)}" for note in answer.notes)])


def as_json(answer: Answer, files: Sequence[Path]) -> str:
    """The numbers and the files, three an attribution."""
    content = answer.to_json()
    for index, row in enumerate(content["attributions"]):
        row["files"] = [str(file) for file in files[3 * index : 3 * index + 3]]
    return json.dumps(content, indent=1)


def _test(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line a depth, a column a method: the rank correlation with the trained network's maps."""
    if not rows:
        return []
    methods = list(dict.fromkeys(row["method"] for row in rows))
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    by_place = {(row["layer"], row["method"]): row for row in rows}
    names = {layer: visible(layer) for layer in layers}
    width = max(len(name) for name in (*names.values(), "down to"))
    lines = [
        f"Randomised from the output down, mean of {rows[0]['images']} image(s): rank correlation / SSIM with the "
        "trained network's maps; a method that depends on the weights falls to 0",
        f"  {'down to':<{width}}" + "".join(f"{name:>{max(14, len(name) + 2)}}" for name in methods),
    ]
    for layer in layers:
        line = f"  {names[layer]:<{width}}"
        for name in methods:
            cell = by_place[layer, name]
            numbers = f"{cell['similarity']:.2f} / {cell['ssim']:.2f}"
            line += f"{numbers:>{max(14, len(name) + 2)}}"
        lines.append(line)
    return lines


def studies(methods: str | None, sanity: bool) -> list[Study]:
    """What `analyze --attribution METHODS` adds to a run.

    Raises:
        SettingsError: no such method.
    """
    from filterscope.converters.errors import SettingsError

    if methods is None:
        if sanity:
            raise SettingsError("--sanity: is of attributions; give --attribution too")
        return []
    from filterscope.analyzer.attribution.methods import methods_named
    from filterscope.analyzer.studies.attribution import Attribution

    return [Attribution(methods_named(methods, "attribution"), sanity=sanity)]


def folder_of(image: str) -> Path:
    """Where the pictures go where --out does not say."""
    return Path(f"{Path(image).stem or 'pictures'}-attribution")
