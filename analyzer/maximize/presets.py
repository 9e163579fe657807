"""Recipes of the ascent: how much work goes into a picture, and what published programs do in each step.

A quality says how many steps; a preset says how a picture is held, what moves it, what restrains it and who says so.
Knows numbers only; a preset names transforms and regularisers, which load torch when they are first called.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from filterscope.analyzer.maximize.regularisers import Blur, Decay, Operation, Penalty
from filterscope.analyzer.maximize.transforms import Crop, Jitter, Pad, Rotate, Scale, Transform, Window
from filterscope.converters import checks
from filterscope.converters.errors import SettingsError, setting

PARAMETERS = ("fourier", "pixels", "maco")
REDIRECTED = ("never", "blocked", "always")  # blocked: pictures whose whole gradient is blocked
OPTIMISERS = ("adam", "pooled", "nadam", "normalised", "sgd")
DIVERSE_CAP = 160  # pixels; on 96 px deep units see little but padding
CROPPED = Crop(smallest=0.5, largest=1.0, noise=0.02, even=True)


@dataclass(frozen=True, slots=True)
class Start:
    """How the numbers of a picture are drawn before the first step."""

    law: str  # normal or uniform
    centre: float  # mean
    spread: float  # standard deviation of the normal law, half the width of the uniform one

    def __post_init__(self) -> None:
        if self.law not in ("normal", "uniform"):
            raise SettingsError(f"start {self.law}: give normal or uniform")
        if self.spread < 0:
            raise SettingsError(f"start spread {self.spread}: give 0 or more")

    def __str__(self) -> str:
        return f"{self.law}, {self.centre:.3g} ± {self.spread:.3g}"

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers of this law, float64."""
        if self.law == "normal":
            return rng.normal(self.centre, self.spread, shape)
        return rng.uniform(self.centre - self.spread, self.centre + self.spread, shape)


@dataclass(frozen=True, slots=True)
class Quality:
    """The work of a quality: steps, patience and canvas."""

    name: str
    steps: int  # of the ascent, at most
    rate: float  # Adam's step size at the start for Fourier coefficients of a picture of RATED pixels a side
    cap: int | None  # side in pixels beyond which a channel's canvas does not grow to cover its field
    patience: int  # steps without a gain of 0.5 % after which a unit is finished


QUALITIES = {
    quality.name: quality
    for quality in (
        Quality(name="draft", steps=32, rate=0.3, cap=96, patience=12),
        Quality(name="standard", steps=128, rate=0.3, cap=None, patience=32),
        Quality(name="fine", steps=512, rate=0.2, cap=None, patience=96),
    )
}


def quality_named(name: str) -> Quality:
    """The quality of this name.

    Raises:
        SettingsError: there is none.
    """
    if name not in QUALITIES:
        raise SettingsError(
            f"{setting('quality', name)}: give one of {', '.join(QUALITIES)}", field="quality", value=name
        )
    return QUALITIES[name]


@dataclass(frozen=True, slots=True)
class Preset:
    """What happens in a step of the ascent, all on pictures u in [0, 1].

    The order of a step: transforms, the network, the objective less the penalties, the optimiser, the operations, the
    box.
    """

    name: str
    about: str  # a line for people
    source: str  # who published the numbers
    parameters: str  # how pictures are held: one of PARAMETERS
    optimiser: str  # one of OPTIMISERS; normalised: the gradient over its root mean square; sgd: the gradient
    rate: float | None  # None: the quality's
    steps: int | None  # None: the quality's
    start: Start  # pixels: levels; fourier: coefficients; maco: phases
    transforms: tuple[Transform, ...] = ()
    penalties: tuple[Penalty, ...] = ()
    operations: tuple[Operation, ...] = ()
    boxed: bool = True  # False: pixels may leave [0, 1] on the way
    stretched: bool = False  # shown with its contrast normalised (`STRETCHED`): a view that must be labelled
    objective: str | None = None  # what the source maximises
    redirect: str = "never"  # in the first steps (analyzer.compute.redirected_relu): one of REDIRECTED
    falling: bool = False  # whether the step size falls to a fiftieth along a straight line
    exponent: float = 1.0  # of the spectrum of Fourier coefficients, 1 for 1/f
    fitted: bool = False  # whether spectrum and step size are those of a picture as large as the layer's field

    def __post_init__(self) -> None:
        _one_of(f"preset {self.name}: parameters", self.parameters, PARAMETERS)
        _one_of(f"preset {self.name}: optimiser", self.optimiser, OPTIMISERS)
        _one_of(f"preset {self.name}: redirect", self.redirect, REDIRECTED)
        for field, number in (("rate", self.rate), ("steps", self.steps)):
            if number is not None and not 0 < number < math.inf:
                raise SettingsError(f"preset {self.name}: {field} {number}; give more than 0")


def _one_of(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise SettingsError(f"{field} {value}; give one of {', '.join(choices)}")


STRETCHED = (0.5, 0.1)  # mean and standard deviation of a stretched picture, as Chollet 2016 shows them

_FAINT = Start("normal", 0.0, 0.01)
_CHOLLET = "Chollet 2016, How convolutional neural networks see the world (Keras blog)"
_CHOLLET_START = Start("uniform", 138 / 255, 10 / 255)
_AMOUNTS = tuple(sign * part / 100 for sign in (-1, 1) for part in range(1, 6))  # 0.01 to 0.05, either way

# The published numbers, and what was done to those that are in pixels:
#
# notebook-2018, paper. The blog's loop: levels 128 to 148, steps of 1 level (1/255 of u), no box; 20 steps there, 40 in
#   the book that followed it (Deep Learning with Python, section 5.4.2). The gradient is divided by its own size, so
#   that a map's sum and its mean give the same picture. `paper` adds small movements: a pixel to each side, turns and
#   changes of size of 0.01 to 0.05 either way; the turns are read as radians.
# yosinski. The third of the toolbox's four settings, from 0..255 to 0..1: noise of 10 becomes 10 / 255. Its steps of
#   100 · gradient suit the activations of CaffeNet alone; here the gradient is divided by its own size first, and a
#   step is 2 levels. Its blur is 1 pixel at any canvas, since the noise that it removes is one pixel wide.
# distill. Lucid's defaults are pixels of its 128 px canvas: 12 of 128 padded; 8 of the 152 that are there then; 4 of
#   the 144 after that. On a canvas of 32 px: 3, 2, 1; of 28 px: 3, 2, 1.
# maco. Xplique's: 256 steps, rate 1, noise 0.08 on a range of 2, here 0.04 on a range of 1. Its 32 crops of 50 % down
#   to 5 % belong to a canvas of 512 px; 5 % of 32 px is one pixel. Crops here fall from the whole canvas to 40 %, and
#   eight are taken a step (its authors' later program takes six).
PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            name="filterscope",
            about="Fourier coefficients under crops that shrink from the whole picture to half of it",
            source="Olah et al. 2017, doi:10.23915/distill.00007; crops after Fel et al. 2023, arXiv:2306.06805",
            parameters="fourier",
            optimiser="pooled",
            rate=None,
            steps=None,
            start=_FAINT,
            transforms=(CROPPED,),
            redirect="blocked",
            falling=True,
            exponent=1.5,
        ),
        Preset(
            name="strong",
            about="Fourier coefficients under shifts at their own size, for high activations on a large canvas",
            source="Olah et al. 2017, doi:10.23915/distill.00007; numbers by measurement",
            parameters="fourier",
            optimiser="pooled",
            rate=0.6,
            steps=96,
            start=_FAINT,
            transforms=(Window(zoom=0.1, noise=0.01),),
            objective="channel",
            redirect="blocked",
            falling=True,
            exponent=1.25,
            fitted=True,
        ),
        Preset(
            name="notebook-2018",
            about="Plain gradient steps of one size on pixels, shown with stretched contrast",
            source=_CHOLLET,
            parameters="pixels",
            optimiser="normalised",
            rate=1 / 255,
            steps=40,
            start=_CHOLLET_START,
            boxed=False,
            stretched=True,
            objective="channel",
        ),
        Preset(
            name="paper",
            about="The same steps under movements of a pixel and of 0.01 to 0.05",
            source=f"{_CHOLLET}; small movements after Olah et al. 2017, doi:10.23915/distill.00007",
            parameters="pixels",
            optimiser="normalised",
            rate=1 / 255,
            steps=40,
            start=_CHOLLET_START,
            transforms=(
                Jitter(pixels=2),
                Rotate(choices=tuple(math.degrees(amount) for amount in _AMOUNTS)),
                Scale(choices=tuple(1 + amount for amount in _AMOUNTS)),
            ),
            boxed=False,
            stretched=True,
            objective="channel",
        ),
        Preset(
            name="yosinski",
            about="Gradient steps on pixels with decay and a blur every four steps",
            source="Yosinski et al. 2015, arXiv:1506.06579; their toolbox, setting 3",
            parameters="pixels",
            optimiser="normalised",
            rate=2 / 255,
            steps=1000,
            start=Start("normal", 0.5, 10 / 255),
            operations=(Decay(0.0001), Blur(1.0, every=4)),
            objective="neuron",
        ),
        Preset(
            name="distill",
            about="Fourier coefficients under padding, jitter, scaling and rotation, as Lucid renders",
            source="Olah et al. 2017, doi:10.23915/distill.00007; Lucid's render",
            parameters="fourier",
            optimiser="adam",
            rate=0.05,
            steps=512,
            start=_FAINT,
            transforms=(
                Pad(12 / 128, 0.5),
                Jitter(8 / 152),
                Scale(choices=tuple(1 + (k - 5) / 50 for k in range(11))),
                Rotate(choices=(*range(-10, 11), 0, 0, 0, 0, 0)),
                Jitter(4 / 144),
            ),
            objective="channel",
            redirect="blocked",
        ),
        Preset(
            name="maco",
            about="Phases alone, magnitudes as in natural images, under random crops and noise",
            source="Fel et al. 2023, arXiv:2306.06805; Xplique's maco",
            parameters="maco",
            optimiser="nadam",
            rate=1.0,
            steps=256,
            start=Start("normal", 0.0, 1.0),
            transforms=(Crop(0.4, 1.0, count=8, noise=0.04),),
            objective="channel",
        ),
    )
}


def preset_named(name: str) -> Preset:
    """The preset of this name.

    Raises:
        SettingsError: there is none.
    """
    if name not in PRESETS:
        raise SettingsError(f"{setting('preset', name)}: give one of {', '.join(PRESETS)}", field="preset", value=name)
    return PRESETS[name]


# A neuron's canvas is its field: nothing can move in it, and on a few pixels there is no spectrum to speak of. Since
# nothing moves, a half of it whose ReLU is closed at the start would never take part: ReLUs are redirected for all.
_NEURON = replace(
    PRESETS["filterscope"],
    parameters="pixels",
    optimiser="adam",
    rate=0.1,
    start=Start("normal", 0.5, 0.01),
    transforms=(),
    redirect="always",
)
SMALLEST_FOURIER = 12  # pixels a side; a smaller canvas is held as pixels
SMALLEST_FITTED = 64  # pixels a side that a fitted spectrum begins at, and at least
FEW_PIXELS, STEEP, STEEP_RATE = 8, 1.75, 5.0  # fields below get this exponent, and so many times the rate
RATED, SHORTER = 96, 0.6  # a quality's rate is that of a side of 96 pixels; of 20 pixels it is 2.6 times as much


@dataclass(frozen=True, slots=True)
class Recipe:
    """A preset at a quality: all that decides the steps of an ascent but the unit and the seed."""

    preset: Preset
    quality: Quality

    def __post_init__(self) -> None:
        for field, part, kind in (("preset", self.preset, Preset), ("quality", self.quality, Quality)):
            if not isinstance(part, kind):
                checks.refuse(field, part, "give names to Recipe.named(preset, quality)")

    @classmethod
    def named(cls, preset: str = "filterscope", quality: str = "standard", steps: int | None = None) -> Recipe:
        """The recipe of these names.

        Args:
            steps: instead of the quality's or the preset's.

        Raises:
            SettingsError: there is no such preset or quality, or no step is left.
        """
        recipe = cls(preset_named(preset), quality_named(quality))
        return recipe if steps is None else recipe.with_steps(checks.whole("steps", steps, least=1))

    @property
    def steps(self) -> int:
        """At most so many."""
        return self.preset.steps or self.quality.steps

    @property
    def rate(self) -> float:
        """The first step's size, in the optimiser's units."""
        return self.preset.rate or self.quality.rate

    @property
    def patience(self) -> int:
        """Steps without a gain after which a unit is finished; a published recipe takes all of its steps."""
        return self.quality.patience if self.preset.steps is None else self.steps

    @property
    def has_second_try(self) -> bool:
        """Whether units that do not rise climb again; a published preset is what it is."""
        return self.preset.name == "filterscope"

    @property
    def second_try(self) -> Recipe:
        """Pixels, held still."""
        return replace(self, preset=_NEURON)

    @property
    def accentuation(self) -> Recipe:
        """The recipe that draws into a photo what a unit likes of it: short, so that the photo remains to be seen.

        A published preset, or steps of the user's own, stay as they are. What holds the picture near the photo is a
        penalty in the source (analyzer.maximize.accentuation), here the few steps.
        """
        if self.preset.steps is not None or self.quality not in QUALITIES.values():
            return self
        quality = Quality(name="accentuation", steps=24, rate=0.2, cap=self.quality.cap, patience=24)
        return replace(self, quality=quality, preset=replace(self.preset, exponent=1.25))

    @property
    def diverse(self) -> Recipe:
        """The recipe of the diverse pictures that a run makes unasked: quick, since there are several of a unit."""
        return replace(self, quality=replace(QUALITIES["draft"], name="diverse", cap=DIVERSE_CAP))

    def with_steps(self, steps: int) -> Recipe:
        """The same recipe with another number of steps, all of them taken; the patience of the default grows along."""
        patience = max(1, round(self.quality.patience * steps / self.quality.steps))
        own = replace(self.quality, name=f"{steps} steps", steps=steps, patience=patience)
        changed = replace(self, quality=own)
        if self.preset.steps is None:
            return changed
        return replace(changed, preset=replace(self.preset, steps=steps))

    def rate_at(self, step: int) -> float:
        """The size of one step."""
        if not self.preset.falling:
            return self.rate
        return self.rate * (0.02 + 0.98 * (1 - step / self.steps))

    def longest_wave(self, size: tuple[int, int], field: tuple[int, int] | None) -> int | None:
        """The wave in pixels from which the spectrum of a picture falls; None: its longer side.

        Args:
            size: of the picture.
            field: of the layer; None: all of the image.
        """
        if not self.preset.fitted or field is None:
            return None
        return min(max(SMALLEST_FITTED, *field), *size)

    def on(self, canvas: str, side: int, field: int | None = None) -> Recipe:
        """The recipe for a kind of canvas ("neuron" or "channel") whose shorter side is `side` pixels.

        A fitted spectrum's longest wave stands for the side; a unit that sees a few pixels gets a steeper one, for what
        it asks for is hardly more than a colour or a stripe. The number is that of its field's longer side.

        Published presets stay as they are; the default holds neurons, and pictures of a few pixels, as pixels, and
        takes longer steps on a smaller canvas, whose lowest frequencies are faster.
        """
        if self.preset.fitted:
            rate, exponent = self.rate * (RATED / side) ** SHORTER, self.preset.exponent
            if field is not None and field < FEW_PIXELS:
                rate, exponent = rate * STEEP_RATE, STEEP
            return replace(self, preset=replace(self.preset, rate=rate, exponent=exponent))
        if self.preset.name != "filterscope" or self.preset is _NEURON:
            return self
        if canvas != "neuron" and side >= SMALLEST_FOURIER:
            if self.preset.rate is not None:
                return self
            return replace(self, preset=replace(self.preset, rate=self.rate * (RATED / side) ** SHORTER))
        transforms = () if canvas == "neuron" else self.preset.transforms
        own = replace(
            _NEURON, transforms=transforms, penalties=self.preset.penalties
        )  # what the user restrains stays so
        return replace(self, preset=own)
