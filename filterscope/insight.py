"""What `analyze` is asked of classes, of inversion and of groups: options become studies, checked before the long work.

Knows options and their words; computes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from filterscope.converters.errors import SettingsError

if TYPE_CHECKING:
    from filterscope.analyzer.network.network import Network
    from filterscope.analyzer.studies.study import Study


def studies(
    network: Network,
    classes: Sequence[str],
    inversion: Sequence[str],
    groups: Sequence[str],
    labels: Sequence[str],
    images: bool,
) -> list[Study]:
    """The studies asked for, in the order in which they are done.

    Args:
        network: the opened network.
        classes: "auto", "all", how many, or numbers and labels; none: not asked for.
        inversion: "auto", or names and globs of layers; none: not asked for.
        groups: likewise.
        labels: class names in order, or none.
        images: whether the user gives some.

    Raises:
        SettingsError: a class or a layer that does not exist, or no images for what is about them.
    """
    found: list[Study] = []
    if classes:
        from filterscope.analyzer.network.scores import own_labels
        from filterscope.analyzer.studies.classes import Classes

        study = Classes(classes[0] if len(classes) == 1 else tuple(classes))
        study.check(network, labels or own_labels(network))
        found.append(study)
    for option, given in (("--inversion", inversion), ("--groups", groups)):
        if given and not images:
            raise SettingsError(f"{option}: is of your images; give --images")
    if inversion:
        from filterscope.analyzer.studies.inversion import Inversion

        inverted = Inversion(_layers(inversion))
        inverted.chosen(network, (), 1)
        found.append(inverted)
    if groups:
        from filterscope.analyzer.studies.groups import Groups

        taken = Groups(_layers(groups))
        if taken.layers:
            taken.chosen(network, (), 1)
        found.append(taken)
    return found


def _layers(given: Sequence[str]) -> tuple[str, ...]:
    """Names and globs; none for auto."""
    return () if list(given) == ["auto"] else tuple(given)
