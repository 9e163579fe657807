"""The request to open a model: where it is, what is said of its input, and what opening it may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filterscope.converters import checks

if TYPE_CHECKING:
    import numpy as np

    from filterscope.analyzer.network.network import Network
    from filterscope.analyzer.network.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpenRequest:
    """A model, and what the user says of its input; None where the graph is to tell.

    The fields are the keywords of `filterscope.open`.
    """

    source: str | Path | Any  # Any: a live model
    weights: str | Path | None = None
    trust: bool = False
    preprocess: str | Preprocessing | None = None
    input_size: tuple[int, int] | None = None  # height and width
    layout: str | None = None
    input_channels: int | None = None
    input: str | None = None  # name of the image input
    feed: Mapping[str, np.ndarray] = field(default_factory=dict)  # what the other inputs get, by name
    limit_memory: int | None = None  # bytes
    limit_seconds: float | None = None  # of processor time

    def __post_init__(self) -> None:
        checks.flag("trust", self.trust)
        for name, value in (("layout", self.layout), ("input", self.input)):
            if value is not None:
                checks.text(name, value)
        if self.weights is not None:
            checks.path("weights", self.weights)
        if not isinstance(self.feed, Mapping) or not all(isinstance(name, str) for name in self.feed):
            checks.refuse("feed", self.feed, "give a dict from an input's name to an array")
        if self.limit_seconds is not None:
            checks.number("limit_seconds", self.limit_seconds)

    def run(self) -> Network:
        """Open the model in a process of its own.

        Raises:
            FilterscopeError: the model, or a setting that does not fit it.
        """
        from filterscope.analyzer.boundary.limits import Limits
        from filterscope.analyzer.boundary.opening import open_network
        from filterscope.analyzer.network.network import InputOptions

        options = InputOptions(
            layout=self.layout,
            channels=None if self.input_channels is None else checks.whole("input_channels", self.input_channels, 1),
            size=None if self.input_size is None else checks.size("input_size", self.input_size),
            preprocessing=self.preprocessing,
            image=self.input,
            feeds=self.feed,
        )
        weights = None if self.weights is None else Path(self.weights)
        memory = None if self.limit_memory is None else checks.whole("limit_memory", self.limit_memory)
        limits = Limits(memory, self.limit_seconds)
        return open_network(self.source, options, weights=weights, trust=self.trust, limits=limits)

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The preset of that name, or the user's own; None: as the graph shows it.

        Raises:
            SettingsError: no such preset, or neither a name nor a Preprocessing.
        """
        from filterscope.analyzer.network.preprocessing import Preprocessing, preset

        if isinstance(self.preprocess, str):
            return preset(self.preprocess)
        if self.preprocess is not None and not isinstance(self.preprocess, Preprocessing):
            checks.refuse("preprocess", self.preprocess, "give a preset's name or a Preprocessing")
        return self.preprocess
