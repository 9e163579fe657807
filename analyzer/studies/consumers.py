"""Which later units take a unit in most: the reverse of what each unit listens to.

Knows the weights of layers, and where the channels of their inputs come from; knows nothing of files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from filterscope.analyzer.network.layers import Layer

Origin = tuple[str, int] | None  # layer and channel that a channel of a value comes from


@dataclass(frozen=True, slots=True)
class Consumer:
    """A unit that takes another one in."""

    layer: str
    channel: int
    share: float  # of its whole kernel's norm, −1 to 1: below 0 where the weights' sum is


def consumers(
    layers: Sequence[Layer], origins: Mapping[str, Sequence[Origin]], most: int
) -> dict[tuple[str, int], list[Consumer]]:
    """For each unit the units whose kernels it takes the largest share of, largest first.

    Args:
        layers: whose weights are looked through; one whose weights are computed is passed over.
        origins: value → where each of its channels comes from.
        most: kept of each unit.

    Returns:
        (layer, channel) → at most `most` units; a unit that nothing takes in is left out.
    """
    into: dict[tuple[str, int], list[Consumer]] = defaultdict(list)
    for layer in layers:
        traced = origins.get(layer.source, ())
        if layer.weight is None or not traced:
            continue
        shares = signed_shares(np.asarray(layer.weight, np.float32))
        grouped = shares.reshape(layer.groups, -1, shares.shape[1])  # (groups, units, inputs), of a group each
        best = np.argsort(-np.abs(grouped), axis=1, kind="stable")[:, :most]
        for group, block in enumerate(best):
            for place, units in enumerate(block.T):
                source = _at(traced, group * shares.shape[1] + place)
                if source is not None:
                    here = [(int(unit) + group * grouped.shape[1], grouped[group, unit, place]) for unit in units]
                    into[source] += [Consumer(layer.name, unit, float(share)) for unit, share in here if share]
    return {source: sorted(units, key=lambda one: -abs(one.share))[:most] for source, units in into.items() if units}


def signed_shares(weight: np.ndarray) -> np.ndarray:
    """The norm of each input's kernel ÷ that of the unit's whole kernel, below 0 where the kernel's sum is.

    Args:
        weight: (units, inputs, kh, kw).

    Returns:
        (units, inputs), −1 to 1; 0 for a unit whose weights are all 0, or no finite numbers.
    """
    flat = weight.reshape(*weight.shape[:2], -1).astype(np.float64)
    flat = np.where(np.isfinite(flat).all((1, 2), keepdims=True), flat, 0)
    norms = np.sqrt(np.square(flat).sum(2))
    whole = np.sqrt(np.square(norms).sum(1, keepdims=True))
    signed = np.where(flat.sum(2) < 0, -norms, norms)
    return np.asarray(np.divide(signed, whole, out=np.zeros_like(norms), where=whole > 0))


def _at(origins: Sequence[Origin], place: int) -> Origin:
    return origins[place] if place < len(origins) else None
