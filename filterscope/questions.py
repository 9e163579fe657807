"""What `analyze` is asked beside pictures and maps: options become studies, and what is wrong is said before the work.

Knows the studies' options; asks nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from filterscope.converters.errors import SettingsError

if TYPE_CHECKING:
    from filterscope.analyzer.network.network import Network
    from filterscope.analyzer.studies.study import Study

TUNING = ("auto", "all", "none")


def check(
    tuning: str, truth: bool, values: Sequence[str], images: bool, examples: bool, white: float | None = None
) -> None:
    """See that the options make sense, before the network is opened.

    Args:
        images: whether images are given.
        examples: whether a data set is given.
        white: the number that is white in them, where one is named.

    Raises:
        SettingsError: they do not.
    """
    from filterscope.analyzer.data.white import check_white

    check_white(white)
    if white is not None and not (images or examples):
        raise SettingsError("--white: is of your pictures; give --images or --examples")
    if tuning not in TUNING:
        raise SettingsError(f"--tuning {tuning}: give one of {', '.join(TUNING)}")
    if truth and not (images or examples):
        raise SettingsError("--truth: compares pictures with natural images; give --images or --examples")
    if values and not images:
        raise SettingsError("--values: shows values on your images; give --images")


def studies(network: Network, tuning: str, truth: bool, values: Sequence[str]) -> list[Study]:
    """The studies asked for, in the order in which they are done.

    Raises:
        SettingsError: a value that the network does not have.
    """
    from filterscope.analyzer.studies.truth import TruthStudy
    from filterscope.analyzer.studies.tuning.tuning import TuningStudy
    from filterscope.analyzer.studies.values import ValueStudy, chosen_values

    found: list[Study] = []
    if values:
        chosen_values(network, values)
        found.append(ValueStudy(tuple(values)))
    if tuning != "none":
        found.append(TuningStudy(tuning == "all"))
    if truth:  # compares with what other studies may have found
        found.append(TruthStudy())
    return found
