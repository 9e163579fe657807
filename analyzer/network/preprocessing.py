"""How 8-bit pixels become the network's numbers: the presets, those of metadata, and the user's own."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from filterscope.converters import checks
from filterscope.converters.errors import SettingsError, setting

ORDERS = ("RGB", "BGR")


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How 8-bit pixels become the network's numbers: x = (u · high − mean) / std, u = pixel / 255.

    Raises:
        SettingsError: a std of 0, a number that is not finite, a high that is not above 0, another order.
    """

    name: str = "custom"  # or a preset's
    high: float = 1.0  # what 8-bit 255 becomes before mean and std: 1.0 or 255.0; 8-bit 0 is 0.0
    mean: tuple[float, ...] = (0.0,)  # one value, or one a channel in the network's channel order
    std: tuple[float, ...] = (1.0,)  # likewise; may be negative (an inverted image), never 0
    order: str = "RGB"  # or "BGR": the network's channel order; means something for 3 channels only

    def __post_init__(self) -> None:
        checks.text("preprocess", self.name)
        if checks.number("high", self.high) <= 0:
            advice = "what 8-bit 255 becomes must be above 0, as a rule 1 or 255"
            checks.refuse("high", self.high, advice, text=f"{self.high:g}")
        for field, values in (("mean", self.mean), ("std", self.std)):
            levels = [checks.number(field, value) for value in checks.listed(field, values)]
            if not levels:
                checks.refuse(field, values, "give one value, or one a channel")
            if field == "std" and not all(levels):
                checks.refuse(field, values, "has a zero, and the input is divided by it", text=numbers_as_text(levels))
        if self.order not in ORDERS:
            checks.refuse("order", self.order, f"give {' or '.join(ORDERS)}")


PRESETS: dict[str, Preprocessing] = {
    preset.name: preset
    for preset in (
        Preprocessing(name="unit", high=1.0, mean=(0.0,), std=(1.0,), order="RGB"),
        Preprocessing(name="imagenet", high=1.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), order="RGB"),
        Preprocessing(name="symmetric", high=1.0, mean=(0.5,), std=(0.5,), order="RGB"),
        Preprocessing(name="raw255", high=255.0, mean=(0.0,), std=(1.0,), order="RGB"),
        Preprocessing(name="caffe-bgr", high=255.0, mean=(104.0, 117.0, 123.0), std=(1.0,), order="BGR"),
    )
}


# Metadata keys and values: ONNX's MetadataProps.md, "Image".
NOMINAL_RANGES: dict[str, Preprocessing] = {
    "NominalRange_0_255": PRESETS["raw255"],
    "Normalized_0_1": PRESETS["unit"],
    "Normalized_1_1": PRESETS["symmetric"],
    "NominalRange_16_235": Preprocessing(
        name="custom", high=255.0, mean=(-16 * 255 / 219,), std=(255 / 219,), order="RGB"
    ),
}


def preset(name: str) -> Preprocessing:
    """The preset of that name.

    Raises:
        SettingsError: there is none; suggests the nearest.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name.lower(), PRESETS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise SettingsError(
        f"{setting('preprocess', name)}: {hint}presets are {', '.join(PRESETS)}", field="preprocess", value=name
    )


def custom(
    high: float, mean: Sequence[float], std: Sequence[float], order: str = "RGB", channels: int = 3
) -> Preprocessing:
    """A preprocessing of the user's own.

    Args:
        high: what 8-bit 255 becomes before mean and std.
        mean, std: one value, or one a channel in the network's channel order.

    Raises:
        SettingsError: a length that is neither 1 nor the channel count, and what a Preprocessing raises.
    """
    for field, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            fault = f"{len(values)} values for {channels} channels; give one, or one a channel"
            raise SettingsError(f"{setting(field)}: {fault}", field=field, value=values)
    return Preprocessing(
        name="custom", high=float(high), mean=tuple(map(float, mean)), std=tuple(map(float, std)), order=order
    )


def numbers_as_text(values: Any) -> str:
    """A few numbers for a sentence: one where all are equal, the first four where there are many."""
    numbers = [f"{number:.6g}" if abs(number) >= 1000 else f"{number:.4g}" for number in np.atleast_1d(values)]
    if len(set(numbers)) == 1:
        return numbers[0]
    return ", ".join(numbers[:4]) + (", …" if len(numbers) > 4 else "")
