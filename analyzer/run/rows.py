"""The rows of a run's tables as Python objects; analyzer.run.tables holds their columns.

Each class is named for its table and has the table's columns for fields; null is None. Read by column (`rows_of`),
since a run has tens of thousands of rows. Knows Arrow; knows nothing of files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """Where the picture of a row is in the run: tile `tile` of the PNG `atlas`."""

    atlas: str | None  # path inside the run; None where the row has no picture
    tile: int | None  # from 0
    height: int | None  # pixels
    width: int | None
    bands: int | None  # 1 grey, 3 RGB, any other number: planes stacked in the atlas; None: 1

    @property
    def has_picture(self) -> bool:
        """Whether the row has a picture."""
        return self.atlas is not None

    @property
    def is_colour(self) -> bool:
        """Whether its picture is RGB."""
        return self.bands == 3

    @property
    def size(self) -> tuple[int, int, int]:
        """(height, width, bands) of its picture, pixels."""
        return self.height or 0, self.width or 0, self.bands or 1

    @classmethod
    def in_row(cls, row: Mapping[str, Any], prefix: str = "") -> StoredPicture:
        """The picture that a table's row names in its columns, of which `prefix` is the beginning."""
        names = ("atlas", "tile", "height", "width", "bands")
        return StoredPicture(**{name: row.get(prefix + name) for name in names})


@dataclass(frozen=True, slots=True)
class UnitRow(StoredPicture):
    """One kind of picture of one unit, and what was measured on it (units.parquet).

    Activations are pre-activations in the network's own units, of any sign.
    """

    layer: str  # the user's name
    channel: int  # from 0
    objective: str  # channel, neuron, negative, diversity-1, …
    method: str  # analytic, ascent or accentuation
    space: str  # image: pixels; input: the layer's own input
    activation: float | None  # the objective on the saved 8-bit picture; None or not finite where it diverged
    robust: float | None  # its mean over 16 jitters of the picture
    random: float | None  # the best of 16 random images
    bound: float | None  # no input exceeds it
    bound_kind: str | None  # exact, relaxation or interval
    gap: float | None  # bound − activation, ≥ 0
    status: str  # ok, unraised, dead or diverged
    steps: int | None  # of ascent, ≥ 0
    seconds: float | None
    row: int | None  # of the neuron in the map of the picture; None for objectives of the whole map
    column: int | None
    is_first: bool | None = None  # whether a finer picture will replace it; None: an older version wrote the row
    image: int | None = None  # of the user's images the one at which an accentuation began, from 0
    highest: float | None = None  # place of the picture's map, where the objective is the mean of the map

    @property
    def kind(self) -> tuple[str, str, str]:
        """Objective, method and space: what tells a unit's rows apart."""
        return self.objective, self.method, self.space


@dataclass(frozen=True, slots=True)
class MapRow(StoredPicture):
    """A channel's activation map on one of the run's images (maps/SLUG.parquet)."""

    image: int  # from 0
    channel: int
    minimum: float | None  # pre-activations; of the map's picture, 0 stands for the minimum and 255 for the maximum
    mean: float | None
    maximum: float | None
    row: int  # where the maximum is, in the map
    column: int


@dataclass(frozen=True, slots=True)
class ExampleRow(StoredPicture):
    """One of a channel's strongest places in the data set, with the map around it (examples/SLUG.parquet)."""

    channel: int
    rank: int  # 0: the strongest
    example: int  # a row of examples/pictures.parquet
    activation: float
    row: int  # in the map
    column: int
    top: int  # the receptive field in pixels of the network's input; parts may lie outside it
    left: int
    field_height: int
    field_width: int


@dataclass(frozen=True, slots=True)
class ExamplePictureRow(StoredPicture):
    """An image of the data set that is among the strongest of some unit (examples/pictures.parquet)."""

    example: int
    image: int  # number in the data set
    source: str
    name: str
    label: str | None


@dataclass(frozen=True, slots=True)
class StatisticsRow:
    """Statistics of a channel over the whole data set (examples/units.parquet)."""

    layer: str
    channel: int
    minimum: float | None  # pre-activations
    mean: float | None
    maximum: float | None
    active: float | None  # fraction of places above 0
    active_images: float | None  # fraction of images with such a place
    dead: bool | None  # never above 0 on this data, before a ReLU
    histogram: list[int] | None  # sampled places in 32 to 64 equal bins
    histogram_low: float | None
    histogram_high: float | None
    firsts: int | None  # images in which its mean is the layer's highest
    nearest: int | None  # the most correlated channel of the layer
    correlation: float | None  # with that channel, −1 to 1
    selectivity: float | None = None  # of classes, 0 to 1; None without classes


@dataclass(frozen=True, slots=True)
class DepthRow:
    """Statistics of a layer over the whole data set (examples/layers.parquet)."""

    layer: str
    depth: int
    active: float | None  # fraction of pre-activations above 0
    sparsity: float | None  # Treves and Rolls, 0 dense to 1 sparse
    dead: int  # units never above 0
    duplicates: int  # units whose correlation with another exceeds 0.99


@dataclass(frozen=True, slots=True)
class DataClassRow:
    """How a class of the network's output fares on the data set (examples/classes.parquet)."""

    index: int
    name: str
    images: int  # with this label
    right: int  # of them answered with it
    right_of_five: int | None  # of them it is among the five highest; None where the output has fewer than 6 classes
    predicted: int  # how often it was the answer to a labelled image
    probability: float | None  # mean over its images


@dataclass(frozen=True, slots=True)
class ConfusionRow:
    """How many images of one class were answered with another, or the same (examples/confusion.parquet)."""

    label: int
    predicted: int
    images: int


@dataclass(frozen=True, slots=True)
class ReliabilityRow:
    """Labelled images whose highest probability lies in one bin (examples/reliability.parquet)."""

    low: float
    high: float
    images: int
    confidence: float | None  # mean of the highest probability; None where there is no image
    accuracy: float | None  # share of right answers


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """The network's answer to one image of the data set (examples/answers.parquet)."""

    image: int  # number in the data set
    name: str
    label: int | None  # None: unknown, or none of the output's classes
    best: list[int]  # classes, highest first
    probability: list[float]  # theirs


@dataclass(frozen=True, slots=True)
class UnitClassRow:
    """One of the classes that a unit tells best from all others (examples/unit_classes.parquet)."""

    layer: str
    channel: int
    rank: int  # 0: the highest AUC
    index: int
    name: str
    auc: float  # above ½
    mean: float | None  # of the map's maximum, over the class's images
    images: int  # of the class


@dataclass(frozen=True, slots=True)
class MistakeRow(StoredPicture):
    """Which pixels of an image of the data set speak for a wrong answer (examples/mistakes.parquet)."""

    image: int  # number in the data set
    method: str
    target: int  # the class that was answered


@dataclass(frozen=True, slots=True)
class WeightRow(StoredPicture):
    """A unit's kernel (weights/SLUG.parquet)."""

    channel: int
    norm: float  # Euclidean
    bias: float | None
    inputs: list[int]  # channels of the layer's input by the norm of their kernel, largest first
    norms: list[float]  # theirs
    shares: list[float] | None  # theirs ÷ the unit's norm, below 0 where the kernel's sum is; None: an older run
    sources: list[str | None]  # the layer that each of them comes from
    source_channels: list[int | None]  # and its channel
    alike: list[int]  # the layer's units with the highest cosine of kernels, highest first
    cosines: list[float]  # theirs, −1 to 1
    feeds: list[str] | None  # layers of the units that take this one in most; None: an older run
    feeds_channels: list[int] | None  # their channels
    feeds_shares: list[float] | None  # what this unit is of their kernels, as `shares`


@dataclass(frozen=True, slots=True)
class AttributionRow(StoredPicture):
    """Which pixels of an image speak for a target (attribution/attributions.parquet)."""

    image: int
    method: str
    layer: str | None  # of the target; None: the class scores
    target: int  # class or channel
    label: str | None  # of the class
    minus: int | None  # class whose score is subtracted from the target's; None: none, or an older run
    minus_label: str | None  # of that class
    at: str | None  # layer whose maps are weighed; None for methods of the pixels
    score: float | None  # the target's value on the image
    total: float | None  # sum of the attributions


@dataclass(frozen=True, slots=True)
class ClassRow(StoredPicture):
    """The picture that raises the score of a class (classes/classes.parquet)."""

    klass: int
    label: str | None
    score: float | None  # before the softmax
    robust: float | None
    random: float | None  # the best of 16 random images
    probability: float | None  # 0 to 1
    rank: int | None  # of the class on its own picture; 0: the network answers with it
    entropy: float | None  # bits
    distribution: list[float] | None  # a probability a class
    status: str


@dataclass(frozen=True, slots=True)
class InversionRow(StoredPicture):
    """An image found from a layer's activations alone (inversion/inversions.parquet)."""

    image: int
    layer: str
    kind: str  # inversion or caricature
    distance: float | None  # of the activations, as a share of the original's; None for a caricature
    cosine: float | None  # of the two activations


@dataclass(frozen=True, slots=True)
class GroupRow(StoredPicture):
    """A non-negative factor of a layer's activations on an image (groups/groups.parquet)."""

    image: int
    layer: str
    group: int  # from 0
    share: float | None  # of the activations' sum, 0 to 1
    channels: list[int]  # the strongest of its direction
    activation: float | None  # of its picture, along the direction
    mask_atlas: str | None  # where on the image: grey, 255 the group's strongest place
    mask_tile: int | None
    mask_height: int | None
    mask_width: int | None

    @property
    def mask(self) -> StoredPicture:
        """The picture of where on the image the group is active."""
        return StoredPicture(
            atlas=self.mask_atlas, tile=self.mask_tile, height=self.mask_height, width=self.mask_width, bands=1
        )


@dataclass(frozen=True, slots=True)
class GridRow(StoredPicture):
    """The activations at one place of a layer's map, and their picture (groups/grid.parquet)."""

    image: int
    layer: str
    row: int
    column: int
    channels: list[int]  # the strongest there
    activations: list[float]  # theirs


@dataclass(frozen=True, slots=True)
class TuningRow(StoredPicture):
    """A unit's responses to synthetic stimuli; its picture is the strongest of them (tuning/units.parquet)."""

    layer: str
    channel: int
    words: str | None  # None where the numbers support none
    best: str | None  # kind of the strongest stimulus
    response: float | None  # to it, above the response to mid grey
    orientation: float | None  # degrees from horizontal, 0 to 180
    orientation_selectivity: float | None  # 0 to 1
    period: float | None  # pixels
    phase_modulation: float | None  # F1 ÷ F0, ≥ 0
    hue: float | None  # degrees, 0 to 360
    colour_selectivity: float | None  # 0 to 1
    orientation_curve: list[float] | None  # equal steps over 180°
    period_curve: list[float] | None
    periods: list[float] | None  # pixels, of period_curve
    hue_curve: list[float] | None  # equal steps over 360°


@dataclass(frozen=True, slots=True)
class TruthRow:
    """A unit's maximised activation against the strongest natural one (truth/units.parquet)."""

    layer: str
    channel: int
    objective: str
    maximised: float | None
    natural: float | None
    ratio: float | None  # maximised ÷ natural; None where natural ≤ 0


@dataclass(frozen=True, slots=True)
class PathRow:
    """How similar the activations of an earlier layer are on two sets of images (truth/paths.parquet)."""

    layer: str
    channel: int
    through: str  # the earlier layer
    maximised_natural: float | None  # correlations
    natural_natural: float | None
    random_natural: float | None


@dataclass(frozen=True, slots=True)
class ValueRow(StoredPicture):
    """A channel of a layer other than a convolution, on one image (values/values.parquet)."""

    image: int
    value: str  # its name in the network
    op: str
    layer: str | None  # the convolution that it follows
    order: int  # in the network
    channel: int
    maximum: float | None
    blank: bool | None  # the same number everywhere


def rows_of(table: pa.Table, kind: type[Row]) -> list[Row]:
    """The rows of a table, in its order.

    Args:
        table: with the columns that are fields of `kind`; one that it lacks is None in every row.
        kind: one of the classes of this module.
    """
    there = set(table.column_names)
    nothing = [None] * len(table)
    rows = [kind.__new__(kind) for _ in nothing]
    for one in fields(kind):
        column = table[one.name].to_pylist() if one.name in there else nothing
        fill = getattr(kind, one.name).__set__  # of the slot: a frozen class's __init__ takes three times as long
        deque(map(fill, rows, column), maxlen=0)
    return rows
