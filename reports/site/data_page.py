"""The page of a data set with classes: how often the network is right, what it confuses, how sure it may be.

Knows the run's reader, counts and sheets; templates hold the markup.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.rows import (
    AnswerRow,
    ConfusionRow,
    DataClassRow,
    ExamplePictureRow,
    MistakeRow,
    ReliabilityRow,
    UnitClassRow,
    UnitRow,
    rows_of,
)
from filterscope.reports.page import colours, sheets, words
from filterscope.reports.page.folder import Files
from filterscope.reports.page.units import UnitTable
from filterscope.reports.site import matrices, pictures
from filterscope.reports.site.image_page import METHODS, ImagePage
from filterscope.reports.site.matrices import Matrix
from filterscope.reports.site.pictures import ExampleSheets

MOST_CELLS = 30  # classes up to which the confusion matrix is a table with a number in each cell
UNFIT = ("No label of the data set is", "The data set has labels, but")  # so begins the note of labels that do not fit
PAIRS = 12  # of classes that are confused most
IMAGES_OF_PAIR = 12  # shown of those that have the same label and the same answer, at most
ANSWERED = 2000  # images shown so in all; two of each pair in any case
MISTAKES = 48  # images, the surest first
UNITS = 6  # that speak for a class
UNITS_OF_MANY = 3  # where there are more than MANY classes
MANY = 100
UNIT_SIDE = 64  # pixels and CSS pixels, of a unit's picture
MISTAKE_SIDE = 112  # CSS pixels, of an image that was answered wrong
CERTAIN = 2  # standard errors of a share of right answers, within which it may be any
CALIBRATED = 0.02  # difference of confidence and accuracy up to which a network is called honest
DIAGONAL = (0.2, 0.4, 0.6, 0.8)  # shares of a class that was answered right, where the colour steps
MISTAKEN = (0.05, 0.1, 0.2, 0.5)  # shares of a class that was taken for another
GREY = 233
LOSSY = {"quality": 90, "method": 1}  # thin coloured dots
PLOT = 300  # of the reliability diagram, its own units
OBJECTIVES = (("channel", "ascent"), ("channel", "accentuation"), ("neuron", "ascent"))  # whose picture shows a unit


def tenths(share: float) -> str:
    """A share of 1 in per cents with one digit; 0 % and 100 % are kept for what is exactly that.

    >>> tenths(0.8245), tenths(1.0), tenths(0.99999)
    ('82.5 %', '100 %', '99.9 %')
    """
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    return f"{min(max(100 * share, 0.1), 99.9):.1f} %"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the confusion matrix."""

    images: int
    tone: str  # style class: which colour, from 1 to 5; empty where there is no image
    title: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One class that is taken for another."""

    label: int
    predicted: int
    images: int
    share: float  # of the images of `label`


@dataclass(frozen=True, slots=True)
class ClassLine:
    """A row of the table of classes."""

    row: DataClassRow
    right: float | None  # share of its images that were answered right
    precision: float | None  # share of the answers with it that were right
    rival: Pair | None  # the class it is most often taken for
    in_pictures: bool  # whether the page of classes has a picture of it


@dataclass(frozen=True, slots=True)
class AnsweredImage:
    """An image of the data set and what was answered."""

    row: AnswerRow
    label: str
    answer: str
    own: float | None  # probability of the right class, where it is among the five highest
    place: int | None  # in the sheets of examples; None: no picture
    why: int | None  # in the sheet of attributions; None: it is not explained
    page: ImagePage | None  # of the same image among the user's

    @property
    def brief(self) -> str:
        """Its name; of an image in a file of many, its number."""
        return f"image {self.row.image:,}" if self.row.name.endswith("]") else self.row.name


@dataclass(frozen=True, slots=True)
class Answered:
    """The images of one class that were answered with another, or with their own."""

    label: int
    predicted: int
    images: int
    shown: Sequence[AnsweredImage]  # a few: the surest of wrong answers, the least sure of right ones

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return f"answered-{self.label}-{self.predicted}"


@dataclass(frozen=True, slots=True)
class Speaker:
    """A unit that tells a class from others."""

    row: UnitClassRow
    page: str  # of its layer; empty where it is on none
    tile: int | None  # in the sheets of units; None: no picture


@dataclass(frozen=True, slots=True)
class Point:
    """A bin of the reliability diagram, in the drawing's units."""

    x: float  # of the mean confidence
    y: float  # of the accuracy
    radius: float
    text: str


@dataclass(frozen=True, slots=True)
class Calibration:
    """How honest the probabilities are."""

    error: float  # expected calibration error
    confidence: float  # mean of the highest probability
    accuracy: float
    points: tuple[Point, ...]
    images: int

    @property
    def sentence(self) -> str:
        """What the difference means, in a sentence."""
        sure, right = tenths(self.confidence), tenths(self.accuracy)
        apart = f"its highest probability is {sure} on average, and {right} of its answers are right"
        gap = abs(self.confidence - self.accuracy)
        if gap <= CALIBRATED:
            return f"Its probabilities are about right: {apart}."
        share = (self.accuracy * self.images + CERTAIN**2 / 2) / (self.images + CERTAIN**2)  # Agresti & Coull 1998
        chance = CERTAIN * math.sqrt(share * (1 - share) / (self.images + CERTAIN**2))
        if gap <= chance:
            images = words.count(self.images, "image")
            return f"So few images do not tell whether its probabilities are right: {apart}, of {images}."
        return f"It is {'over' if self.confidence > self.accuracy else 'under'}-confident: {apart}."


@dataclass(frozen=True, slots=True, eq=False)
class DataPage:
    """The page's contents, its pictures written."""

    images: int  # with a label
    right: int
    of_five: int | None
    names: Mapping[int, str]
    lines: Sequence[ClassLine]  # the worst first
    shown: Sequence[int]  # classes of the matrix
    cells: Sequence[Sequence[Cell]]  # a row a label, a column an answer; empty where there are too many
    matrix: Matrix | None
    pairs: Sequence[Pair]
    wrong: int  # images
    mistakes: Sequence[AnsweredImage]
    answered: Mapping[tuple[int, int], Answered]  # label, answer → the images; of pairs that the page leads to
    calibration: Calibration
    speakers: Sequence[tuple[DataClassRow, Sequence[Speaker]]]
    left_out: int  # classes that are not on the page
    grid: sheets.Grid  # of the units' pictures
    method: str  # that explains the mistakes, as papers write it; empty where none is

    @property
    def explained(self) -> list[AnsweredImage]:
        """The mistakes with attributions."""
        return [one for one in self.mistakes if one.why is not None]

    @property
    def others(self) -> list[AnsweredImage]:
        """The mistakes without."""
        return [one for one in self.mistakes if one.why is None]

    @property
    def lead(self) -> str:
        """The answer, in a sentence."""
        of = words.count(self.images, "image")
        if self.right == self.images:
            return f"Right on all {of}."
        five = (
            ""
            if self.of_five is None
            else f"; the right class is among its five best for {tenths(self.of_five / self.images)}"
        )
        return f"Right on {tenths(self.right / self.images)} of {of}{five}{self._worst}."

    @property
    def _worst(self) -> str:
        """What is confused most, where it happened more than once."""
        worst = self.pairs[0]
        if worst.images < 2:
            return ""
        names = " for ".join(words.shortened(self.names[index]) for index in (worst.label, worst.predicted))
        return f"; most often it takes {names}: {words.count(worst.images, 'image')}"

    @property
    def labelled_cells(self) -> list[tuple[int, Sequence[Cell]]]:
        """Rows of the confusion matrix: classes that some image has, and their cells."""
        has_images = {line.row.index for line in self.lines if line.row.images}
        return list(zip((index for index in self.shown if index in has_images), self.cells, strict=True))

    @property
    def labels(self) -> int:
        """Classes that some image has."""
        return sum(line.row.images > 0 for line in self.lines) + self.left_out


@dataclass(frozen=True, slots=True)
class Places:
    """Where what the page links to is, and which channels it may link to for each class."""

    on_page: Mapping[str, tuple[str, set[int]]]  # layer → its page and the channels on it
    images: Mapping[str, ImagePage]  # file of one of the user's images → its page
    classes: set[int]  # with a picture on the page of classes
    examples: ExampleSheets | None
    channel_classes: pa.Table  # that channels tell best, as `details.classes_of_channels` gives them


def why_not(run: Run) -> str:
    """Why a data set with labels has no page, in a sentence of the study; empty where there is nothing to say."""
    study = run.study("examples")
    notes = () if study is None or is_there(run) else study.notes
    return next((note for note in notes if note.startswith(UNFIT)), "")


def is_there(run: Run) -> bool:
    """Whether a run has a data set with classes."""
    return any(run.table("examples/classes.parquet")["images"].to_pylist())


def write(run: Run, folder: Files, table: UnitTable, places: Places, *, most: int | None = None) -> DataPage | None:
    """Gather the page and write its pictures; None where the run has no data set with classes.

    Args:
        run: to read from.
        folder: of the site.
        table: of the run's units.
        places: what it links to.
        most: classes shown, those with most images first; None for all.
    """
    rows = rows_of(run.table("examples/classes.parquet"), DataClassRow)
    images = sum(row.images for row in rows)
    if not images:
        return None
    names = dict(enumerate(run.info.labels)) | {row.index: row.name for row in rows}
    confusion = rows_of(run.table("examples/confusion.parquet"), ConfusionRow)
    pairs = _pairs(rows, confusion)
    listed = rows
    if most is not None and len(rows) > most:
        chosen = sorted(rows, key=lambda row: (-row.images, -row.predicted, row.index))[:most]
        listed = [row for row in rows if row in chosen]
    shown = [row.index for row in listed]
    lines = _lines(listed, pairs, places.classes)
    speakers, grid = _speakers(run, folder, table, places=places, rows=listed)
    of_five = [row.right_of_five for row in rows]
    answers = [row for row in rows_of(run.table("examples/answers.parquet"), AnswerRow) if row.label is not None]
    pictured = Pictured(run, names, places)
    is_small = len(shown) <= MOST_CELLS
    method = next(iter(run.table("examples/mistakes.parquet")["method"].to_pylist()), "")
    return DataPage(
        images=images,
        right=sum(row.right for row in rows),
        of_five=None if None in of_five else sum(number or 0 for number in of_five),
        names=names,
        lines=lines,
        shown=shown,
        cells=_cells(listed, confusion, names) if is_small else (),
        matrix=None if is_small else _matrix(folder, listed, confusion, names=names),
        pairs=pairs[:PAIRS],
        wrong=images - sum(row.right for row in rows),
        mistakes=_mistakes(run, folder, answers, pictured),
        answered=_answered(
            answers, confusion, pictured, shown=_led_to(lines, pairs[:PAIRS], confusion if is_small else ())
        ),
        calibration=_calibration(rows_of(run.table("examples/reliability.parquet"), ReliabilityRow)),
        speakers=speakers,
        left_out=sum(row.images > 0 for row in rows) - sum(row.images > 0 for row in listed),
        grid=grid,
        method=METHODS.get(method, method),
    )


def _pairs(rows: Sequence[DataClassRow], confusion: Sequence[ConfusionRow]) -> list[Pair]:
    """Classes that are taken for others, the most images first."""
    images = {row.index: row.images for row in rows}
    pairs = [
        Pair(row.label, row.predicted, row.images, row.images / images[row.label])
        for row in confusion
        if row.label != row.predicted
    ]
    return sorted(pairs, key=lambda pair: (-pair.images, -pair.share, pair.label, pair.predicted))


def _lines(rows: Sequence[DataClassRow], pairs: Sequence[Pair], pictured: set[int]) -> list[ClassLine]:
    rivals: dict[int, Pair] = {}
    for pair in pairs:
        rivals.setdefault(pair.label, pair)
    lines = [
        ClassLine(
            row,
            right=row.right / row.images if row.images else None,
            precision=row.right / row.predicted if row.predicted else None,
            rival=rivals.get(row.index),
            in_pictures=row.index in pictured,
        )
        for row in rows
    ]
    return sorted(lines, key=lambda line: (2 if line.right is None else line.right, line.row.index))


def _cells(
    rows: Sequence[DataClassRow], confusion: Sequence[ConfusionRow], names: Mapping[int, str]
) -> list[list[Cell]]:
    counts = {(row.label, row.predicted): row.images for row in confusion}
    return [
        [_cell(label, answer.index, counts.get((label.index, answer.index), 0), names) for answer in rows]
        for label in rows
        if label.images
    ]


def _cell(label: DataClassRow, answer: int, images: int, names: Mapping[int, str]) -> Cell:
    is_right = label.index == answer
    if not images:
        return Cell(0, "", "")
    share = images / label.images
    step = 1 + sum(share >= limit for limit in (DIAGONAL if is_right else MISTAKEN))
    answered = "answered right" if is_right else f"taken for {names[answer]}"
    text = f"{names[label.index]} {answered}: {images:,} of {words.count(label.images, 'image')}"
    return Cell(images, f"{'right' if is_right else 'wrong'}-{step}", text)


def _matrix(
    folder: Files, rows: Sequence[DataClassRow], confusion: Sequence[ConfusionRow], names: Mapping[int, str]
) -> Matrix:
    """Write the matrix as a picture: a pixel a pair of classes, as light as the share of the label's images."""
    place = {row.index: number for number, row in enumerate(rows)}
    shares = np.zeros((len(rows), len(rows)))
    for pair in confusion:
        if pair.label in place and pair.predicted in place:
            shares[place[pair.label], place[pair.predicted]] = pair.images / rows[place[pair.label]].images
    labels = [names[row.index] for row in rows]
    return matrices.write(folder, "confusion", np.sqrt(shares), down=labels, across=labels)


def _is_wrong(row: AnswerRow) -> bool:
    return row.label is not None and row.best[0] != row.label


class Pictured:
    """Finds the pictures and pages of images of the data set.

    Args:
        run: to read from.
        names: of the classes.
        places: what is there to lead to.
    """

    def __init__(self, run: Run, names: Mapping[int, str], places: Places) -> None:
        table = run.table("examples/pictures.parquet")
        images = table["image"].to_pylist()
        self._example_of = dict(zip(images, table["example"].to_pylist(), strict=True))
        self._source_of = dict(zip(images, table["source"].to_pylist(), strict=True))
        self._in_sheets = {} if places.examples is None else places.examples.places
        self._names, self._pages = names, places.images

    def image(self, row: AnswerRow, why: int | None = None) -> AnsweredImage:
        """An image with a label.

        Args:
            row: its answer.
            why: its place in the sheet of attributions; None: it is not explained.
        """
        label = row.label or 0
        return AnsweredImage(
            row,
            label=_name(self._names, label),
            answer=_name(self._names, row.best[0]),
            own=dict(zip(row.best, row.probability, strict=True)).get(label),
            place=self._in_sheets.get(self._example_of.get(row.image, -1)),
            why=why,
            page=self._pages.get(self._source_of.get(row.image, "")),
        )


def _mistakes(run: Run, folder: Files, answers: Sequence[AnswerRow], pictured: Pictured) -> list[AnsweredImage]:
    wrong = (row for row in answers if _is_wrong(row))
    surest = sorted(wrong, key=lambda row: (-row.probability[0], row.image))[:MISTAKES]
    explained = _write_attributions(run, folder, {row.image for row in surest})
    return [pictured.image(row, explained.get(row.image)) for row in surest]


def _led_to(lines: Sequence[ClassLine], pairs: list[Pair], cells: Sequence[ConfusionRow]) -> set[tuple[int, int]]:
    """Label and answer of the images that the page leads to: from its matrix, its most frequent pairs, its classes."""
    rivals = [line.rival for line in lines if line.rival is not None]
    return {(row.label, row.predicted) for row in cells} | {(pair.label, pair.predicted) for pair in pairs + rivals}


def _answered(
    answers: Sequence[AnswerRow],
    confusion: Sequence[ConfusionRow],
    pictured: Pictured,
    shown: Set[tuple[int, int]],
) -> dict[tuple[int, int], Answered]:
    """Some images of each pair of label and answer, the surest of wrong answers and the least sure of right ones."""
    rows: dict[tuple[int, int], list[AnswerRow]] = defaultdict(list)
    for row in answers:
        rows[row.label or 0, row.best[0]].append(row)
    counts = {(row.label, row.predicted): row.images for row in confusion}
    pairs = sorted(shown & rows.keys())
    most = min(IMAGES_OF_PAIR, max(2, ANSWERED // max(1, len(pairs))))
    answered = {}
    for pair in pairs:
        way = 1 if pair[0] == pair[1] else -1
        few = sorted(rows[pair], key=lambda row: (way * row.probability[0], row.image))[:most]
        answered[pair] = Answered(*pair, images=counts[pair], shown=[pictured.image(row) for row in few])
    return answered


def _write_attributions(run: Run, folder: Files, images: set[int]) -> dict[int, int]:
    """Write a sheet of mistakes with what speaks for the answer laid over them; image → its tile."""
    rows = [row for row in rows_of(run.table("examples/mistakes.parquet"), MistakeRow) if row.image in images]
    pictured = {row.image: row for row in rows_of(run.table("examples/pictures.parquet"), ExamplePictureRow)}
    tiles: list[np.ndarray] = []
    place: dict[int, int] = {}
    for row in rows:
        signed = run.tile(row)
        if signed is not None and (not tiles or signed.shape[:2] == tiles[0].shape[:2]):
            picture = run.tile(pictured[row.image]) if row.image in pictured else None
            place[row.image] = len(tiles)
            tiles.append(laid_over(picture, signed))
    style: list[str] = []
    if tiles:
        height, width = tiles[0].shape[:2]
        shown = sheets.within(height, width, pictures.EXAMPLE_SIDE)
        grid = sheets.grid_for(len(tiles), *shown)
        sheet = grid.sheet([sheets.reduced(tile, *shown) for tile in tiles])
        folder.write("assets/data-a-0.webp", sheets.compact(sheet, max(shown) < sheets.PIXELATED, LOSSY))
        style = [*pictures.SheetSet("a", shown, grid, (0,)).rules("why-", "data"), *grid.rules("why-")]
        style.append(f".why-a{{{sheets.tile_size(sheets.shown_size(*shown, MISTAKE_SIDE))}}}")
    folder.write_lines("assets/data-why.css", style)
    return place


def laid_over(picture: np.ndarray | None, signed: np.ndarray) -> np.ndarray:
    """A signed picture in colours over a pale grey one.

    Args:
        picture: (H, W, bands) uint8; None: over nothing.
        signed: (H, W, 1) uint8, 128 is 0.

    Returns:
        (H, W, 3) uint8.
    """
    over = colours.overlay(signed).astype(np.float32)
    alpha = over[..., 3:] / 255
    under = np.full(over.shape[:2], 255.0) if picture is None else picture.mean(axis=2)
    pale = (120 + under * (255 - 120) / 255)[..., None]
    laid: np.ndarray = (pale * (1 - alpha) + over[..., :3] * alpha).round().astype(np.uint8)
    return laid


def _name(names: Mapping[int, str], index: int) -> str:
    return names.get(index, f"class {index}")


def _calibration(bins: Sequence[ReliabilityRow]) -> Calibration:
    """Expected calibration error of equal bins of the highest probability (Guo et al. 2017)."""
    used = [(row, row.confidence, row.accuracy) for row in bins if row.images]
    measured = [(row.images, sure, right) for row, sure, right in used if sure is not None and right is not None]
    images = sum(count for count, *_ in measured) or 1
    most = max((count for count, *_ in measured), default=1)
    return Calibration(
        error=sum(count * abs(sure - right) for count, sure, right in measured) / images,
        confidence=sum(count * sure for count, sure, _ in measured) / images,
        accuracy=sum(count * right for count, _, right in measured) / images,
        points=tuple(
            Point(
                x=round(PLOT * sure, 1),
                y=round(PLOT * (1 - right), 1),
                radius=round(3 + 9 * float(np.sqrt(count / most)), 1),
                text=f"{words.count(count, 'image')}: {tenths(sure)} sure, {tenths(right)} right",
            )
            for count, sure, right in measured
        ),
        images=images,
    )


def _speakers(
    run: Run, folder: Files, table: UnitTable, *, places: Places, rows: Sequence[DataClassRow]
) -> tuple[list[tuple[DataClassRow, list[Speaker]]], sheets.Grid]:
    """The units with the highest AUC for each class, their pictures written."""
    of_class: dict[int, list[UnitClassRow]] = defaultdict(list)
    for row in rows_of(places.channel_classes, UnitClassRow):
        of_class[row.index].append(row)
    number = UNITS if len(rows) <= MANY else UNITS_OF_MANY
    best = {row.index: sorted(of_class[row.index], key=lambda unit: -unit.auc)[:number] for row in rows if row.images}
    units = list(dict.fromkeys((unit.layer, unit.channel) for few in best.values() for unit in few))
    stored = _pictures(table, units)
    tiles = {unit: index for index, unit in enumerate(unit for unit in units if unit in stored)}
    grid = sheets.grid_for(len(tiles), UNIT_SIDE, UNIT_SIDE)
    _write_sheets(run, folder, [stored[unit] for unit in tiles], grid=grid, examples=places.examples)
    speakers = [
        (row, [_speaker(unit, tiles.get((unit.layer, unit.channel)), places) for unit in best[row.index]])
        for row in rows
        if best.get(row.index)
    ]
    return speakers, grid


def _speaker(row: UnitClassRow, tile: int | None, places: Places) -> Speaker:
    page, channels = places.on_page.get(row.layer, ("", set()))
    return Speaker(row, page if row.channel in channels else "", tile)


def _pictures(table: UnitTable, units: Sequence[tuple[str, int]]) -> dict[tuple[str, int], UnitRow]:
    """The row of the unit table whose picture shows each unit; units without any are left out."""
    channels_of: dict[str, set[int]] = defaultdict(set)
    for layer, channel in units:
        channels_of[layer].add(channel)
    order = {kind: place for place, kind in enumerate(OBJECTIVES)}
    shown: dict[tuple[str, int], tuple[int, UnitRow]] = {}
    for layer, channels in channels_of.items():
        for row in table.of(layer):
            place = order.get((row.objective, row.method))
            if row.channel in channels and row.has_picture and place is not None:
                before = shown.get((layer, row.channel))
                if before is None or place < before[0]:
                    shown[layer, row.channel] = place, row
    return {unit: row for unit, (_, row) in shown.items()}


def _write_sheets(
    run: Run, folder: Files, rows: Sequence[UnitRow], *, grid: sheets.Grid, examples: ExampleSheets | None
) -> None:
    numbers = []
    for number, start in enumerate(range(0, len(rows), grid.tiles)):
        stored = [run.tile(row) for row in rows[start : start + grid.tiles]]
        tiles = [thumbnail(tile, UNIT_SIDE) for tile in stored if tile is not None]
        content = sheets.compact(grid.sheet(tiles), exact=False, options=pictures.EXAMPLE_LOSSY)
        folder.write(f"assets/data-u-{number}.webp", content)
        numbers.append(number)
    style = [*pictures.SheetSet("u", (UNIT_SIDE, UNIT_SIDE), grid, tuple(numbers)).rules("data-", "data")]
    style.append(f".data-u{{{sheets.tile_size((UNIT_SIDE, UNIT_SIDE))}}}")
    if examples is not None:
        style.append(f".data-m{{{sheets.tile_size(sheets.shown_size(*examples.shown, MISTAKE_SIDE))}}}")
    folder.write_lines("assets/data.css", [*style, *(grid.rules("data-") if numbers else ())])


def thumbnail(picture: np.ndarray, side: int) -> np.ndarray:
    """A picture of any size as large as a square allows, grey around it.

    Args:
        picture: (H, W, bands) uint8.
        side: of the square, pixels.

    Returns:
        (side, side, 3) uint8; small pictures are enlarged with hard pixels.
    """
    seen = sheets.visible(picture)
    longest = max(seen.shape[:2])
    height, width = (max(1, round(extent * side / longest)) for extent in seen.shape[:2])
    how = Image.Resampling.BOX if longest > side else Image.Resampling.NEAREST
    colour = np.repeat(seen, 3, axis=2) if seen.shape[2] == 1 else seen
    square = np.full((side, side, 3), GREY, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = np.asarray(Image.fromarray(colour).resize((width, height), how))
    return square
