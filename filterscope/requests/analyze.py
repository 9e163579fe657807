"""The request to analyse a network: the images, the settings and the studies of one run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filterscope.analyzer.data.white import check_white
from filterscope.analyzer.execution.plan import Settings
from filterscope.converters import checks
from filterscope.converters.errors import SettingsError, setting

if TYPE_CHECKING:
    from filterscope.analyzer.network.network import Network
    from filterscope.analyzer.progress import Progress
    from filterscope.analyzer.run.reader import Run
    from filterscope.analyzer.studies.study import Study

UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}  # of a time, seconds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnalyzeRequest:
    """What one run is made of.

    Raises:
        SettingsError: `white` is no number that can be white, or a field is not of its type.
    """

    images: Sequence[str | Path] = ()  # files, folders, globs or array files
    out: Path = Path("filterscope-run")  # folder of the run
    settings: Settings = field(default_factory=Settings)
    studies: Sequence[Study] = ()
    labels: Sequence[str] = ()  # class names in order, or none
    device: str = "auto"
    white: float | None = None

    def __post_init__(self) -> None:
        check_white(self.white)
        for image in checks.listed("images", self.images):
            checks.path("images", image)
        checks.text("device", self.device)
        for study in checks.listed("studies", self.studies):
            if isinstance(study, type) or not callable(getattr(study, "run", None)):
                checks.refuse("studies", study, "give studies such as fs.Tuning(), in a list")

    def run(
        self,
        network: Network,
        progress: Progress,
        command: Sequence[str] = (),
        on_pictures: Callable[[Run], None] = lambda _: None,
    ) -> Run:
        """Analyse the network, or go on with an analysis of the same plan in the same folder.

        Args:
            network: the opened network.
            progress: is told how far the work is.
            command: what the run's record says it was started with.
            on_pictures: gets the run while it is made, as `Analysis` says.

        Raises:
            FilterscopeError: the images, the folder, or something that does not fit the network.
        """
        from filterscope.analyzer.analysis import Analysis
        from filterscope.analyzer.data.images import find

        return Analysis(
            network=network,
            settings=self.settings,
            sources=find(list(self.images), self.white) if self.images else [],
            out=self.out,
            device=self.device,
            labels=self.labels,
            command=command,
            progress=progress,
            studies=self.studies,
            on_pictures=on_pictures,
        ).run()


def settings_with(
    settings: Settings | None,
    *,
    quality: str | None = None,
    preset: str | None = None,
    objective: str | Sequence[str] | None = None,
    layers: str | Sequence[str] | None = None,
    kinds: str | Sequence[str] | None = None,
    channels: str | int | Sequence[int] | None = None,
    seed: int | None = None,
    maps: int | None = None,
    resize: str | None = None,
    time_budget: str | float | None = None,
) -> Settings:
    """The settings of an analysis, with those changed that are not None.

    Args:
        settings: what the others change; None: the defaults.
        kinds: of the layers that a glob fits, or all: a list, or text with commas.
        channels: "auto", "all", "16/layer", numbers and ranges as text, or numbers.
        time_budget: seconds, or text such as "10m".

    Raises:
        SettingsError: one of them makes no sense.
    """
    changes: dict[str, Any] = {
        "quality": quality,
        "preset": preset,
        "objectives": _unique(objective),
        "layers": _unique(layers),
        "kinds": None if kinds is None else tuple(kinds.split(",")) if isinstance(kinds, str) else _unique(kinds),
        "channels": channels if channels is None or isinstance(channels, str) else _numbers(channels),
        "seed": seed,
        "map_pictures": maps,
        "resize": resize,
        "time_budget": seconds_of(time_budget) if isinstance(time_budget, str) else time_budget,
    }
    if settings is not None and not isinstance(settings, Settings):
        checks.refuse("settings", settings, "give fs.Settings(...)")
    return replace(settings or Settings(), **{name: value for name, value in changes.items() if value is not None})


def seconds_of(text: str) -> float:
    """Seconds of a time such as 90s, 10m, 1.5h.

    Raises:
        SettingsError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|min|h|)", text.strip(), re.ASCII)
    if not match or not float(match[1]):
        raise SettingsError(
            f"{setting('time_budget', text)}: give a time such as 90s, 10m or 1.5h", field="time_budget", value=text
        )
    return float(match[1]) * UNITS[match[2]]


def _unique(names: str | Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(dict.fromkeys(checks.several(names)))


def _numbers(channels: int | Sequence[int]) -> str:
    return ",".join(map(str, checks.wholes("channels", channels)))
