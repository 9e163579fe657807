"""Every study of a run, in the order in which `analyze` performs those that are asked for.

Knows where the studies are; imports none of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StudyKind:
    """A kind of study."""

    name: str  # folder inside the run
    place: str  # module inside this room, and class
    needs: tuple[str, ...] = ()  # one of these must be given: images, examples (a data set), class scores
    after: tuple[str, ...] = ()  # studies whose results it reads where the run has them
    leaves: tuple[str, ...] = ()  # tables in the folder; {slug} is a layer's file name


STUDIES = (
    StudyKind("weights", "weights:Weights", leaves=("{slug}",)),  # every run gets it
    StudyKind(
        "examples",
        "examples.examples:Examples",
        needs=("examples",),
        leaves=("units", "layers", "firing", "{slug}", "pictures"),
    ),
    StudyKind("attribution", "attribution:Attribution", needs=("images",), leaves=("attributions", "sanity")),
    StudyKind("classes", "classes:Classes", needs=("class scores",), leaves=("classes",)),
    StudyKind("inversion", "inversion:Inversion", needs=("images",), leaves=("inversions",)),
    StudyKind("groups", "groups:Groups", needs=("images",), leaves=("groups", "grid")),
    StudyKind("values", "values:ValueStudy", needs=("images",), leaves=("values",)),
    StudyKind("tuning", "tuning.tuning:TuningStudy", after=("examples",), leaves=("units",)),
    StudyKind(
        "truth", "truth:TruthStudy", needs=("images", "examples"), after=("examples",), leaves=("units", "paths")
    ),
)
