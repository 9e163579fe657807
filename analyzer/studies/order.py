"""The order in which an analysis performs the studies asked for, however they were listed, and what they read.

Knows the studies' names; imports none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filterscope.analyzer.studies.study import Study

PICTURES = "pictures"  # of the run, as they stand
READS: dict[str, tuple[str, ...]] = {  # study, in order → what it reads: pictures, studies where the run has them
    "weights": (),
    "examples": (),
    "attribution": (),
    "classes": (),
    "inversion": (),
    "groups": (),
    "values": (),
    "tuning": ("examples", PICTURES),
    "truth": ("examples", PICTURES),
}


def reads_pictures(study: str) -> bool:
    """Whether a study is done again when pictures have been replaced."""
    return PICTURES in READS.get(study, (PICTURES,))  # one of the caller's own may


def in_order(studies: Sequence[Study]) -> list[Study]:
    """The same studies in the order of READS; a study of the caller's own comes last."""
    places = {name: place for place, name in enumerate(READS)}
    return sorted(studies, key=lambda study: places.get(study.name, len(places)))
