"""The request to open a model: where it is, what is said of its input, and what opening it may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    def run(self) -> Network:
        """Open the model in a process of its own.

        Raises:
            FilterscopeError: the model, or a setting that does not fit it.
        """
        from filterscope.analyzer.boundary.limits import Limits
        from filterscope.analyzer.boundary.opening import open_network
        from filterscope.analyzer.network.network import InputOptions
        from filterscope.analyzer.network.preprocessing import preset

        options = InputOptions(
            layout=self.layout,
            channels=self.input_channels,
            size=self.input_size,
            preprocessing=preset(self.preprocess) if isinstance(self.preprocess, str) else self.preprocess,
            image=self.input,
            feeds=self.feed,
        )
        weights = None if self.weights is None else Path(self.weights)
        limits = Limits(self.limit_memory, self.limit_seconds)
        return open_network(self.source, options, weights=weights, trust=self.trust, limits=limits)
