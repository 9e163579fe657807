"""The numbers of the data set and of the classes as JSON, for scripts. Knows the run's tables and nothing of HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.rows import AnswerRow, ClassRow, ConfusionRow, DataClassRow, ReliabilityRow, rows_of

SCHEMA = 1
ANSWERS = 5000  # images whose answer is listed, wrong answers first
OF_A_CLASS = ("klass", "label", "score", "robust", "random", "probability", "rank", "entropy", "status")


def of_data(run: Run) -> dict[str, object]:
    """What the page of a data set with classes counts: its tables, with at most ANSWERS answers.

    Args:
        run: with such a data set.
    """
    answers = rows_of(run.table("examples/answers.parquet"), AnswerRow)
    listed = sorted(answers, key=_order)[:ANSWERS]
    classes = rows_of(run.table("examples/classes.parquet"), DataClassRow)
    return {
        "schema": SCHEMA,
        "images": sum(row.images for row in classes),
        "right": sum(row.right for row in classes),
        "classes": _dicts(classes),
        "confusion": _dicts(rows_of(run.table("examples/confusion.parquet"), ConfusionRow)),
        "reliability": _dicts(rows_of(run.table("examples/reliability.parquet"), ReliabilityRow)),
        "answers": _dicts(listed),
        "answers_left_out": len(answers) - len(listed),
    }


def of_classes(rows: Sequence[ClassRow]) -> dict[str, object]:
    """What the page of the classes shows beside their pictures.

    Args:
        rows: of the classes, in the page's order.
    """
    return {"schema": SCHEMA, "classes": [{name: getattr(row, name) for name in OF_A_CLASS} for row in rows]}


def _order(row: AnswerRow) -> tuple[int, float, int]:
    """Wrong answers first, the surest of them before the others; then the rest in the data set's order."""
    is_wrong = row.label is not None and row.best[0] != row.label
    return (0, -row.probability[0], row.image) if is_wrong else (1, 0.0, row.image)


def _dicts(rows: Sequence[Any]) -> list[dict[str, object]]:
    return [asdict(row) for row in rows]
