"""The pictures that a run holds, by what a page may claim of them: read from its files as anybody could.

Shares with filterscope only the colours of signed pictures, and how a picture is fitted into a square. Knows
docs/run-format.md; knows nothing of pages.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from filterscope.reports.page import colours
from filterscope.reports.site import data_page

KINDS = {  # title on a page → objective, method, space
    "Channel": ("channel", "ascent", "image"),
    "Neuron": ("neuron", "ascent", "image"),
    "Analytic": ("neuron", "analytic", "image"),
    "Analytic, own input": ("neuron", "analytic", "input"),
}
METHODS = {
    "Gradient": "saliency",
    "Input × gradient": "input-x-gradient",
    "Integrated gradients": "integrated-gradients",
    "Guided backpropagation": "guided",
    "Grad-CAM": "grad-cam",
}
STUDIES = ("inversion/inversions", "groups/groups", "groups/grid", "attribution/attributions", "values/values")
CELL = 48  # pixels, of a place in a grid

Row = dict[str, Any]


class HeldPictures:
    """The pictures of one run, or of the two that a comparison shows.

    Args:
        folders: of the runs.
    """

    def __init__(self, *folders: Path) -> None:
        self.folder = folders[0]
        self.second = HeldPictures(folders[1]) if len(folders) > 1 else None
        self.layers = json.loads((self.folder / "layers.json").read_text(encoding="utf-8"))["layers"]
        self.slugs = {layer["name"]: layer["slug"] for layer in self.layers}
        self.names = [
            json.loads(path.read_text(encoding="utf-8"))["name"]
            for path in sorted(self.folder.glob("images/*.json"), key=lambda path: int(path.stem))
        ]
        self.sheet = cache(lambda name: np.asarray(Image.open(self.folder / name)))
        self.table = cache(self._table)

    def picture(self, claim: tuple[Any, ...]) -> np.ndarray:
        """What a page must show where it makes this claim, (H, W, 3 or 4) uint8."""
        found: np.ndarray = getattr(self, f"_{claim[0]}")(*claim[1:])
        return found if found.shape[2] != 1 else found.repeat(3, axis=2)

    def rivals(self, claim: tuple[Any, ...]) -> list[np.ndarray]:
        """Other pictures of the same kind and size, for which the one claimed could be taken."""
        own = self.picture(claim)
        word, *facts = claim
        others: list[tuple[Any, ...]] = []
        if word == "unit":
            others = [("unit", facts[0], c, facts[2]) for c in self._layer(facts[0])["channels"]]
        elif word in ("strip", "card"):
            row = self._lead(facts[0]) if word == "card" else None
            slug, channel = self._address(facts[0], facts[1] if row else None)
            layer = next(layer for layer in self.layers if layer["slug"] == slug)
            others = [("unit", layer["name"], c, "Channel") for c in layer["channels"] if c != channel]
        elif word == "class":
            others = [("class", row["klass"]) for row in self.table("classes/classes")]
        elif word == "compared":
            others = [("compared", *facts[:3], c) for c in self._layer(facts[1])["channels"]]
        elif word == "example":
            others = [("example", row["name"]) for row in self.table("examples/pictures") if row["atlas"]]
        elif word in ("map", "heat", "patch"):
            others = [(word, facts[0], c, facts[2]) for c in self._layer(facts[0])["channels"]]
        elif word == "mistake":
            named = {row["image"]: row["name"] for row in self.table("examples/pictures")}
            others = [
                ("mistake", named[row["image"]]) for row in self.table("examples/mistakes") if row["image"] in named
            ]
        elif word == "speaker":
            slug, channel = self._address(facts[0])
            layer = next(layer for layer in self.layers if layer["slug"] == slug)
            others = [("speaker", f"layer-{slug}.html#{c}") for c in layer["channels"] if c != channel]
        elif word == "thumb":
            others = [("thumb", name) for name in self.names]
        found = [self.picture(other) for other in others if self._holds(other)]
        return [other for other in found if other.shape == own.shape and (other != own).any()]

    def _holds(self, claim: tuple[Any, ...]) -> bool:
        try:
            self.picture(claim)
        except (LookupError, StopIteration):
            return False
        return True

    def _table(self, name: str) -> list[Row]:
        path = self.folder / f"{name}.parquet"
        return pq.read_table(path).to_pylist() if path.exists() else []

    def _row(self, table: str, /, **fields: Any) -> Row:
        return next(row for row in self.table(table) if all(row[key] == value for key, value in fields.items()))

    def _tile(self, row: Row, prefix: str = "") -> np.ndarray:
        if row[f"{prefix}atlas"] is None:
            raise LookupError("no picture")
        sheet = self.sheet(row[f"{prefix}atlas"])
        height, width, index = (row[f"{prefix}{name}"] for name in ("height", "width", "tile"))
        bands = row.get(f"{prefix}bands") or 1
        stacked = height if bands in (1, 3) else height * bands
        columns = sheet.shape[1] // width
        top, left = index // columns * stacked, index % columns * width
        found = sheet[top : top + stacked, left : left + width]
        return found if bands == 3 else found.reshape(-1, height, width).transpose(1, 2, 0)

    def _layer(self, name: str) -> Row:
        return next(layer for layer in self.layers if layer["name"] == name)

    def _address(self, href: str, channel: int | None = None) -> tuple[str, int | None]:
        """Slug and channel of a link to `layer-SLUG.html#CHANNEL`, in a single file `#layer-SLUG.CHANNEL`."""
        slug, number = re.fullmatch(r"#?layer-(.*?)(?:\.html)?(?:[#.](\d+))?", href).groups()  # type: ignore[union-attr]
        return slug, channel if number is None else int(number)

    def _lead(self, href: str) -> list[Row]:
        """The pictures that stand for a layer: those that rise highest above random images, silent channels last."""
        layer = next(layer for layer in self.layers if layer["slug"] == self._address(href)[0])
        rows = [row for row in self.table("units") if (row["layer"], row["objective"]) == (layer["name"], "channel")]
        fine = [row for row in rows if row["status"] == "ok"]
        seen = self.table("examples/units")
        silent = {row["channel"] for row in seen if row["layer"] == layer["name"] and row["dead"]}
        return sorted(
            fine, key=lambda row: (row["channel"] in silent, row["random"] - row["activation"], row["channel"])
        )

    def _unit(self, layer: str, channel: int, title: str | None) -> np.ndarray:
        if title == "Weights":
            row = self._row(f"weights/{self.slugs[layer]}", channel=channel)
            tile = self._tile(row)
            return tile if row["bands"] == 3 else colours.contact_sheet(tile, len(row["inputs"]))
        if title == "Best stimulus":
            return self._tile(self._row("tuning/units", layer=layer, channel=channel))
        kind = dict(zip(("objective", "method", "space"), KINDS[title or "Channel"], strict=True))
        return self._tile(self._row("units", layer=layer, channel=channel, **kind))

    def _strip(self, href: str, title: str | None) -> np.ndarray:
        slug, channel = self._address(href)
        layer = next(layer["name"] for layer in self.layers if layer["slug"] == slug)
        assert channel in [row["channel"] for row in self._lead(href)[:8]]
        return self._unit(layer, channel, title)  # type: ignore[arg-type]

    def _card(self, href: str, order: int) -> np.ndarray:
        return self._tile(self._lead(href)[order])

    def _compared(self, side: str, layer: str, title: str, channel: int) -> np.ndarray:
        run = self if side == "A" else self.second
        assert run is not None
        return run._unit(layer, channel, title)

    def _image(self, index: int) -> np.ndarray:
        found = self.sheet(f"images/{index}.png")
        return found.reshape(*found.shape[:2], -1)

    def _thumb(self, name: str) -> np.ndarray:
        return self._image(self.names.index(name))

    def _map(self, layer: str, channel: int, name: str) -> np.ndarray:
        return self._tile(self._row(f"maps/{self.slugs[layer]}", image=self.names.index(name), channel=channel))

    def _firing(self, image: int, layer: str, channel: int) -> np.ndarray:
        return self._map(layer, channel, self.names[image])

    def _value(self, image: int, value: str, channel: int) -> np.ndarray:
        return self._tile(self._row("values/values", image=image, value=value, channel=channel))

    def _example(self, name: str, *_: Any) -> np.ndarray:
        return self._tile(self._row("examples/pictures", name=name))

    def _mistake(self, name: str) -> np.ndarray:
        image = self._row("examples/pictures", name=name)["image"]
        return data_page.laid_over(self._example(name), self._tile(self._row("examples/mistakes", image=image)))

    def _speaker(self, href: str) -> np.ndarray:
        slug, channel = self._address(href)
        layer = next(layer["name"] for layer in self.layers if layer["slug"] == slug)
        return data_page.thumbnail(self._unit(layer, channel, "Channel"), data_page.UNIT_SIDE)  # type: ignore[arg-type]

    def _strongest(self, layer: str, channel: int, rank: int) -> Row:
        return self._row(f"examples/{self.slugs[layer]}", channel=channel, rank=rank)

    def _heat(self, layer: str, channel: int, rank: int) -> np.ndarray:
        return self._tile(self._strongest(layer, channel, rank))

    def _patch(self, layer: str, channel: int, rank: int) -> np.ndarray:
        """What the neuron sees of the example, as far as it lies inside."""
        row = self._strongest(layer, channel, rank)
        picture = self._tile(self._row("examples/pictures", example=row["example"]))
        top, left = row["top"], row["left"]
        return picture[max(0, top) : top + row["field_height"], max(0, left) : left + row["field_width"]]

    def _attribution(self, image: int, title: str, alt: str, *_: Any) -> np.ndarray:
        minus = 4 if "rather than" in alt else None
        row = self._row("attribution/attributions", image=image, method=METHODS[title], minus=minus)
        return colours.overlay(self._tile(row))

    def _lit(self, image: int, layer: str, group: int) -> np.ndarray:
        row = self._row("groups/groups", image=image, layer=layer, group=group)
        return colours.spotlight(self._image(image), self._tile(row, "mask_"))

    def _group(self, image: int, layer: str, group: int) -> np.ndarray:
        return self._tile(self._row("groups/groups", image=image, layer=layer, group=group))

    def _grid(self, image: int, layer: str) -> np.ndarray:
        rows = [row for row in self.table("groups/grid") if (row["image"], row["layer"]) == (image, layer)]
        height, width = (1 + max(row[axis] for row in rows) for axis in ("row", "column"))
        found = np.zeros((height * CELL, width * CELL, 3), np.uint8)
        for row in rows:
            tile = self._tile(row)
            whole = np.kron(tile, np.ones((CELL // tile.shape[0], CELL // tile.shape[1], 1), np.uint8))
            found[row["row"] * CELL :, row["column"] * CELL :][:CELL, :CELL] = whole
        return found

    def _inversion(self, image: int, layer: str, kind: str = "inversion") -> np.ndarray:
        return self._tile(self._row("inversion/inversions", image=image, layer=layer, kind=kind))

    def _caricature(self, image: int, layer: str) -> np.ndarray:
        return self._inversion(image, layer, "caricature")

    def _class(self, number: int) -> np.ndarray:
        return self._tile(self._row("classes/classes", klass=number))
