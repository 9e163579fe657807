"""Groups: which channels of a layer act together on an image, where, and what they see.

A layer's rectified activations on an image, places × channels, are taken apart into a few non-negative factors: each is
a direction between channels and the places where it is found. Each direction is drawn; so is that of single places, as
a grid, and with them stand their strongest channels. Knows layers and pictures; knows nothing of HTML.

Source: Olah et al. 2018, "The Building Blocks of Interpretability", doi:10.23915/distill.00010.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from filterscope.analyzer.maximize.presets import Recipe
from filterscope.analyzer.maximize.problem import Problem
from filterscope.analyzer.network.layers import Layer, select_two_dimensional
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.tables import GRID_SCHEMA, GROUP_SCHEMA
from filterscope.analyzer.studies.study import Context
from filterscope.analyzer.units.measure import Meter
from filterscope.analyzer.units.objectives import Direction
from filterscope.converters import checks
from filterscope.converters.errors import SettingsError, setting

GROUPS = 6
STRONGEST = 5  # channels named with a group or a place
ROUNDS = 500  # of the factorisation, at most
GRID_STEPS = 4  # a place's picture takes a part of the steps of a group's: there are many of them


@dataclass(frozen=True, slots=True)
class GroupsQuality:
    """How much a study of groups computes at one quality."""

    layers: int
    images: int  # the first ones
    grid: int  # places a side, at most


QUALITIES = {"draft": GroupsQuality(1, 1, 4), "standard": GroupsQuality(2, 3, 7), "fine": GroupsQuality(3, 6, 14)}


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """Non-negative factors of a layer's rectified activations on one image, the largest share first."""

    directions: np.ndarray  # (groups, C) float64, each of length 1
    places: np.ndarray  # (groups, H, W) float64 ≥ 0: how much of the direction is there
    share: np.ndarray  # (groups,) of the activations' sum
    error: float  # ‖A − places · directions‖ ÷ ‖A‖


def factorise(maps: np.ndarray, groups: int = GROUPS) -> Factors:
    """Take rectified activations apart; groups that come out empty are left out.

    Args:
        maps: (C, H, W), negative values count as 0.
        groups: at most so many.

    Raises:
        SettingsError: `maps` is no such array, or `groups` is below 1.

    Source: Lee & Seung 1999, doi:10.1038/44565; scikit-learn's coordinate descent from a singular value start.
    """
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    if not isinstance(maps, np.ndarray) or maps.ndim != 3:
        checks.refuse("maps", maps, "give an array of (channels, height, width)")
    groups = checks.whole("groups", groups, least=1)
    channels, height, width = maps.shape
    rectified = np.maximum(maps.reshape(channels, -1).T, 0).astype(np.float64)  # places × channels
    if not rectified.any():
        return Factors(np.zeros((0, channels)), np.zeros((0, height, width)), np.zeros(0), 0.0)
    count = min(groups, *rectified.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = NMF(count, init="nndsvda", tol=1e-5, max_iter=ROUNDS, random_state=0)
        where = model.fit_transform(rectified)
    what = model.components_
    error = float(np.linalg.norm(rectified - where @ what) / np.linalg.norm(rectified))
    length = np.linalg.norm(what, axis=1)
    share = where.sum(axis=0) * what.sum(axis=1) / rectified.sum()
    order = [int(k) for k in np.argsort(-share, kind="stable") if share[k] > 0]
    directions = what[order] / length[order, None]
    places = (where[:, order] * length[order]).T.reshape(len(order), height, width)
    return Factors(directions, places, share[order], error)


@dataclass(frozen=True, slots=True)
class Groups:
    """The study: the user's first images, at some layers.

    Args:
        layers: names and globs; none: among the analysed layers with a rectifier the last, at standard one in the
            middle too, at fine three.
        groups: of a layer on an image.
        images: how many of the user's images; None: the quality's.
        grid: places a side that are drawn; None: the quality's; 0: none.
    """

    layers: tuple[str, ...] = ()
    groups: int = GROUPS
    images: int | None = None
    grid: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", checks.names("layers", self.layers))
        object.__setattr__(self, "groups", checks.whole("groups", self.groups, least=1))
        if self.images is not None:
            object.__setattr__(self, "images", checks.whole("images", self.images, least=1))
        if self.grid is not None:
            object.__setattr__(self, "grid", checks.whole("grid", self.grid))

    @property
    def name(self) -> str:
        """Folder inside the run."""
        return "groups"

    def settings(self, context: Context) -> dict[str, Any]:
        """Everything that decides its results."""
        amounts = QUALITIES[context.settings.quality]
        return {
            "layers": [layer.name for layer in self.chosen(context.network, tuple(context.channels), amounts.layers)],
            "groups": self.groups,
            "images": min(self.images or amounts.images, len(context.pictures)),
            "grid": amounts.grid if self.grid is None else self.grid,
        }

    def chosen(self, network: Network, analysed: Sequence[str], count: int) -> list[Layer]:
        """The layers that are taken apart, in network order.

        Raises:
            SettingsError: a name that fits no two-dimensional layer.
        """
        if self.layers:
            return select_two_dimensional(network.layers, self.layers, "groups")
        candidates = [layer for layer in network.convolutions if layer.name in analysed]
        # One place has no parts, and activations that are not rectified lose half of what they say.
        candidates = [layer for layer in candidates if min(layer.output_shape[1:]) > 1] or candidates
        candidates = [layer for layer in candidates if layer.nonlinearity != "none"] or candidates
        last = len(candidates) - 1
        places = np.linspace(last / 2, last, count) if count > 1 else [last]
        return [candidates[place] for place in dict.fromkeys(round(float(place)) for place in places)]

    def run(self, context: Context) -> None:
        """Take apart, draw, save."""
        if not context.pictures:
            raise SettingsError(
                f"{setting('groups')}: takes activations on your images apart; give {setting('images')}", field="groups"
            )
        settings = self.settings(context)
        context.notes.append(
            f"the first {settings['images']} of {len(context.pictures)} images; activations before the non-linearity, "
            "negative ones counted as 0"
        )
        if settings["grid"]:
            context.notes.append(f"grids show at most {settings['grid']} × {settings['grid']} places, evenly spaced")
        context.progress.stage("neuron groups", len(settings["layers"]) * settings["images"])
        groups: list[dict[str, Any]] = []
        cells: list[dict[str, Any]] = []
        for name in settings["layers"]:
            view = _LayerView(context, context.network.layer(name))
            for index in range(settings["images"]):
                maps = view.maps(context.pictures[index])
                groups += view.groups(index, factorise(maps, self.groups))
                if settings["grid"]:
                    cells += view.grid(index, maps, settings["grid"])
                context.progress.advance()
        context.writer.write_table("groups/groups.parquet", pa.Table.from_pylist(groups, GROUP_SCHEMA))
        context.writer.write_table("groups/grid.parquet", pa.Table.from_pylist(cells, GRID_SCHEMA))


class _LayerView:
    """One layer: its maps, and pictures of directions in it."""

    def __init__(self, context: Context, layer: Layer) -> None:
        self.context, self.layer = context, layer
        network = context.network
        self._session = network.session([layer.value], (network.input.height, network.input.width))
        self._canvas = context.shop.canvas(layer, "channel")

    def maps(self, picture: np.ndarray) -> np.ndarray:
        """Rectified activations, (C, H, W), by ONNX Runtime."""
        activations = self._session.run(self.context.network.input.to_model(picture[None]))[self.layer.value][0]
        return np.asarray(np.maximum(np.nan_to_num(activations), 0))

    def groups(self, image: int, factors: Factors) -> list[dict[str, Any]]:
        """Rows of GROUP_SCHEMA; pictures and masks are saved."""
        if not len(factors.share):
            self.context.notes.append(f"{self.layer.name}: no activation above 0 on image {image}")
            return []
        pictures = self._draw_directions(
            f"{self._stem(image)}-groups", factors.directions, self.context.settings.recipe
        )
        file = f"groups/{self._stem(image)}-masks.png"
        highest = factors.places.max(axis=(1, 2), keepdims=True)
        masks = np.rint(factors.places / highest * 255).astype(np.uint8)[..., None]
        self.context.writer.write_bytes(file, atlas.to_png(atlas.pack(masks)))
        rows = []
        for group, (direction, share) in enumerate(zip(factors.directions, factors.share, strict=True)):
            strongest = _strongest(direction)
            mask = {"mask_atlas": file, "mask_tile": group, "mask_height": masks.shape[1], "mask_width": masks.shape[2]}
            own = {
                "image": image,
                "layer": self.layer.name,
                "group": group,
                "share": float(share),
                "error": factors.error,
                "channels": strongest,
                "weights": direction[strongest],
            }
            rows.append(own | pictures[group] | mask)
        return rows

    def grid(self, image: int, maps: np.ndarray, side: int) -> list[dict[str, Any]]:
        """Rows of GRID_SCHEMA; the pictures are saved."""
        places = [(r, c) for r in spaced(maps.shape[1], side) for c in spaced(maps.shape[2], side)]
        vectors = np.stack([maps[:, row, column] for row, column in places]).astype(np.float64)
        magnitude = np.linalg.norm(vectors, axis=1)
        lit = np.flatnonzero(magnitude)
        recipe = self.context.settings.recipe
        recipe = recipe.with_steps(max(1, recipe.steps // GRID_STEPS))
        pictures: dict[int, dict[str, Any]] = {}
        if lit.size:
            drawn = self._draw_directions(f"{self._stem(image)}-grid", vectors[lit] / magnitude[lit, None], recipe)
            pictures = dict(zip(lit.tolist(), drawn, strict=True))
        rows = []
        for index, (row, column) in enumerate(places):
            strongest = _strongest(vectors[index])
            own = {
                "image": image,
                "layer": self.layer.name,
                "row": row,
                "column": column,
                "magnitude": float(magnitude[index]),
                "channels": strongest,
                "activations": vectors[index][strongest],
            }
            picture = pictures.get(index, {})
            rows.append(own | {key: value for key, value in picture.items() if key != "activation"})
        return rows

    def _draw_directions(self, name: str, directions: np.ndarray, recipe: Recipe) -> list[dict[str, Any]]:
        """Columns of each direction's picture, and `activation` along it."""
        from filterscope.analyzer.maximize.engine import ascend

        shop, objective = self.context.shop, Direction(directions)
        units = range(len(directions))
        climbed = ascend(
            Problem(shop.network, self.layer, self._canvas, objective),
            units,
            recipe,
            seed=shop.seed,
            device=shop.device,
            prior=shop.prior,
        )
        file = f"groups/{name}.png"
        self.context.writer.write_bytes(file, atlas.to_png(atlas.pack(climbed.tiles)))
        reached = Meter(shop.network, self.layer, self._canvas, objective).activation(climbed.tiles, np.array(units))
        _, height, width, bands = climbed.tiles.shape
        picture = {"atlas": file, "height": height, "width": width, "bands": bands}
        return [
            picture | {"tile": tile, "activation": float(value) if np.isfinite(value) else None}
            for tile, value in enumerate(reached)
        ]

    def _stem(self, image: int) -> str:
        return f"{self.context.slugs[self.layer.name]}-{image}"


def spaced(extent: int, count: int) -> list[int]:
    """At most `count` of 0 … extent − 1, evenly spaced, as far from one edge as from the other."""
    if count >= extent:
        return list(range(extent))
    return [int((2 * k + 1) * extent / (2 * count)) for k in range(count)]


def _strongest(vector: np.ndarray) -> list[int]:
    """The channels with the largest numbers above 0, largest first."""
    return [int(c) for c in np.argsort(-vector, kind="stable")[:STRONGEST] if vector[c] > 0]
