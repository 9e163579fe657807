"""How telling a picture is: can an observer see from it which of two photos excites the unit more?

The observer is another network. It looks at the pictures of a unit and at two photos that it has not seen, one of those
that excite the unit most and one of those that excite it least, and chooses the one that is more like the pictures.
Half of its choices are right by chance. Knows arrays; knows nothing of networks or files.

Sources: Borowski et al. 2021, "Exemplary Natural Images Explain CNN Activations Better than State-of-the-Art Feature
Visualization", arXiv:2010.12606 (the task, with people); Zimmermann, Klindt & Brendel 2024, "Measuring Mechanistic
Interpretability at Scale Without Humans", arXiv:2410.16285 (the task, with a similarity of images in place of people).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EXEMPLARS = 9  # natural images shown in place of pictures
STRONG = WEAK = 8  # photos on either side of the choices: 64 choices a unit
SAMPLES = 2000  # of the bootstrap
EVEN = 1e-3  # of a feature's standard deviation, added where crops hardly differ in it


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """The photos of one unit's task, as numbers of crops."""

    exemplars: np.ndarray  # (EXEMPLARS,) strongest of the photos of even number, the strongest first
    strong: np.ndarray  # (STRONG,) strongest of the others
    weak: np.ndarray  # (WEAK,) weakest of the others


def choices(activations: np.ndarray, photos: np.ndarray) -> Choices:
    """Exemplars from photos of even number, choices from those of odd number; no photo stands twice on a side.

    Args:
        activations: (N,) of each crop.
        photos: (N,) int, the photo that each crop is of.
    """
    strongest, weakest = {}, {}
    for crop in np.argsort(-activations, kind="stable").tolist():
        strongest.setdefault(int(photos[crop]), crop)
    for crop in np.argsort(activations, kind="stable").tolist():
        weakest.setdefault(int(photos[crop]), crop)
    even = [crop for photo, crop in strongest.items() if photo % 2 == 0]
    odd = [crop for photo, crop in strongest.items() if photo % 2]
    weak = [crop for photo, crop in weakest.items() if photo % 2]
    return Choices(np.array(even[:EXEMPLARS]), np.array(odd[:STRONG]), np.array(weak[:WEAK]))


def features(levels: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> np.ndarray:
    """What the observer sees of pictures: (N, D), each of length 1.

    Each level's features are standardised over the crops and brought to length 1, so that all levels count alike.

    Args:
        levels: (N, D of the level) each, an observer's pooled maps at some depths.
        reference: the same of the crops, over which is standardised.
    """
    parts = [
        unit_length((own - crops.mean(axis=0)) / (crops.std(axis=0) + EVEN))
        for own, crops in zip(levels, reference, strict=True)
    ]
    return unit_length(np.concatenate(parts, axis=1))


def unit_length(rows: np.ndarray) -> np.ndarray:
    """Each row divided by its length."""
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9)


def accuracy(pictures: np.ndarray, crops: np.ndarray, task: Choices) -> float:
    """Share of the choices that are right, 0 to 1; a draw counts half.

    Args:
        pictures: (P, D) features of the unit's pictures; a crop is as like them as it is in the mean.
        crops: (N, D) features of all crops.
    """
    likeness = crops @ pictures.mean(axis=0)
    difference = likeness[task.strong][:, None] - likeness[task.weak][None, :]
    return float((np.sign(difference) / 2 + 0.5).mean())


def interval(scores: np.ndarray) -> tuple[float, float]:
    """95 % confidence interval of the mean over units, by the bootstrap over units."""
    rng = np.random.default_rng(0)
    means = scores[rng.integers(0, len(scores), (SAMPLES, len(scores)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
