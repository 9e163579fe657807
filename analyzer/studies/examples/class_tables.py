"""The tables of the classes of a data set. Knows their columns and the counts behind them; measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from filterscope.analyzer.network.layers import Layer
from filterscope.analyzer.run.tables import (
    ANSWER_SCHEMA,
    CONFUSION_SCHEMA,
    DATA_CLASS_SCHEMA,
    RELIABILITY_SCHEMA,
    UNIT_CLASS_SCHEMA,
)
from filterscope.analyzer.run.writer import RunWriter
from filterscope.analyzer.studies.examples.class_answers import BEST, BINS, NOT_ANSWERED, ClassAnswers
from filterscope.analyzer.studies.examples.class_labels import NO_CLASS
from filterscope.analyzer.studies.examples.class_survey import ClassSurvey
from filterscope.analyzer.studies.examples.unit_classes import Preferred

FOLDER = "examples"


@dataclass(frozen=True, slots=True)
class ClassTables:
    """The tables of one survey."""

    survey: ClassSurvey
    layers: Sequence[Layer]

    def write(self, writer: RunWriter, names: Sequence[str]) -> None:
        """Write all of them.

        Args:
            writer: of the run.
            names: of the images whose answers are written, in the data set's order.
        """
        answers = self.survey.answers
        tables = {
            "classes": self._classes(answers),
            "confusion": _confusion(answers),
            "reliability": _reliability(answers),
            "answers": _answers(answers, names),
            "unit_classes": self._unit_classes(),
        }
        for name, table in tables.items():
            writer.write_table(f"{FOLDER}/{name}.parquet", table)

    def _classes(self, answers: ClassAnswers) -> pa.Table:
        index = np.flatnonzero(answers.images + answers.predicted)
        images = answers.images[index]
        share = np.divide(answers.probability[index], images, out=np.full(len(index), np.nan), where=images > 0)
        of_five = answers.right_of_five[index] if answers.classes > BEST else pa.nulls(len(index))
        columns = {
            "index": index,
            "name": [self._name(one) for one in index.tolist()],
            "images": images,
            "right": answers.right[index],
            "right_of_five": of_five,
            "predicted": answers.predicted[index],
            "probability": _no_nan(share),
        }
        return _table(columns, DATA_CLASS_SCHEMA)

    def _unit_classes(self) -> pa.Table:
        parts = [self._of_layer(layer, self.survey.units.preferred(i)) for i, layer in enumerate(self.layers)]
        return pa.concat_tables(parts) if parts else UNIT_CLASS_SCHEMA.empty_table()

    def _of_layer(self, layer: Layer, best: Preferred) -> pa.Table:
        columns = {
            "layer": [writable(layer.name)] * len(best.units),
            "channel": best.units,
            "rank": best.ranks,
            "index": best.classes,
            "name": [self._name(one) for one in best.classes.tolist()],
            "auc": best.aucs,
            "mean": best.means,
            "images": best.images,
        }
        return _table(columns, UNIT_CLASS_SCHEMA)

    def _name(self, index: int) -> str:
        return writable(self.survey.labels.name(index))


def class_notes(survey: ClassSurvey) -> list[str]:
    """What is left out of the numbers of classes, and of how many images they are; sentences."""
    answers, sample, units = survey.answers, survey.units.sample, survey.units
    notes = []
    if answers.unlabelled:
        notes.append(
            f"{int(answers.unlabelled[0]):,} images have no label that is a class of the network's output; they are "
            "left out of accuracy and of all that is said of classes."
        )
    if answers.broken:
        notes.append(f"{int(answers.broken[0]):,} images to which the network's answer is not finite are left out too.")
    if sample.count < units.seen:
        notes.append(
            f"Which classes a unit tells from others (AUC) is measured on {sample.count:,} of the {units.seen:,} "
            "labelled images, drawn by a hash of their numbers."
        )
    without = int((answers.images > 0).sum()) - units.summed
    if without > 0:
        notes.append(f"Means of units over {without:,} classes are of those images too, for want of memory.")
    if len(answers.labels) < survey.images:
        notes.append(f"Answers are kept of the first {len(answers.labels):,} images.")
    return notes


def mistakes(answers: ClassAnswers, most: int) -> np.ndarray:
    """Numbers of the images that were answered wrong, at most so many, the most confident first."""
    if not answers.limit:
        return np.zeros(0, np.int64)
    wrong = np.flatnonzero((answers.labels >= 0) & (answers.best[:, 0] != answers.labels))
    return np.asarray(wrong[np.argsort(-answers.best_probability[wrong, 0], kind="stable")[:most]])


def _confusion(answers: ClassAnswers) -> pa.Table:
    pairs = sorted((label, answer, images) for (label, answer), images in answers.pairs.items())
    label, predicted, images = zip(*pairs, strict=True) if pairs else ((), (), ())
    return _table({"label": label, "predicted": predicted, "images": images}, CONFUSION_SCHEMA)


def _reliability(answers: ClassAnswers) -> pa.Table:
    edges = np.linspace(0, 1, BINS + 1)
    images = answers.bin_images
    confidence, accuracy = (
        np.divide(total, images, out=np.full(BINS, np.nan), where=images > 0)
        for total in (answers.bin_confidence, answers.bin_right)
    )
    columns = {
        "low": edges[:-1],
        "high": edges[1:],
        "images": images,
        "confidence": _no_nan(confidence),
        "accuracy": _no_nan(accuracy),
    }
    return _table(columns, RELIABILITY_SCHEMA)


def _answers(answers: ClassAnswers, names: Sequence[str]) -> pa.Table:
    image = np.flatnonzero(answers.labels != NOT_ANSWERED)
    labels = answers.labels[image]
    columns = {
        "image": image,
        "name": [writable(names[number]) for number in image.tolist()],
        "label": pa.array(labels, mask=labels == NO_CLASS),
        "best": list(answers.best[image]),
        "probability": list(answers.best_probability[image]),
    }
    return _table(columns, ANSWER_SCHEMA)


def _table(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _no_nan(numbers: np.ndarray) -> pa.Array:
    return pa.array(numbers, mask=np.isnan(numbers))


def writable(text: str) -> str:
    """Text that a table can hold: file names may be no Unicode."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
