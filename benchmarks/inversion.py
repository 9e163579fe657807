"""How near inverted pictures come, and what they cost: writes docs/inversion.md.

MobileNetV2 and photos, neither part of the repository. Distances are of saved 8-bit pictures, by ONNX Runtime; seconds
are processor seconds of one thread. The page's other parts stand in TEXT.

    python benchmarks/inversion.py
"""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.data import images
from filterscope.analyzer.maximize.feature_inversion import FIRST, LAST, Matcher, Restraint
from filterscope.analyzer.maximize.presets import quality_named
from filterscope.analyzer.network.network import InputOptions, Network
from filterscope.analyzer.network.preprocessing import preset
from filterscope.analyzer.studies.inversion import QUALITIES, ActivationComparison, InvertedPicture, spread

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
MODEL = DATA / "models" / "onnx" / "mobilenetv2_fp32_dequant.onnx"
PHOTOS = DATA / "images" / "imagenet_mini_100"
CHOSEN = (10, 37, 80)  # of the photos, in the order of their names
TARGETS = (0.05, 0.05, 0.15, 0.15, 0.3, 0.3)  # of six layers, early, middle and late
WAYS = {  # evaluations that go to Adam at first, part that goes to pixels at last, and the restraint
    "as it is": (FIRST, LAST, None),
    "without pixels at last": (FIRST, 0.0, None),
    "without Adam at first": (0, LAST, None),
    "Adam alone, on waves": (10**6, 0.0, None),
    "as it is, not restrained": (FIRST, LAST, Restraint(0.0, 0.0)),
}
SHORT = 192  # evaluations of the comparison

TEXT = """# Inversion, caricatures and groups

What a layer still knows of your image, as a picture; more of what it makes of it; and which of its channels act
together.

    filterscope analyze model.onnx --images photos/ --inversion auto --groups auto
    filterscope analyze model.onnx --images photos/ --inversion 'features.1*' --quality standard

In Python:

    import filterscope as fs

    model = fs.open("model.onnx")
    run = fs.analyze(model, "photos/", "run/", studies=[fs.Inversion(), fs.Groups()])  # added to a run, finished or not
    picture = run.image(0)                                           # (H, W, C) uint8 at the input's size
    fs.invert(model, "features.14", picture)                         # one picture; shows itself in a notebook
    fs.invert(model, "features.14", picture, kind="caricature")

## How

**Inversion** (Mahendran & Vedaldi 2015, arXiv:1412.0035). From noise, the picture x is sought whose activations Φ
at a layer, before the non-linearity, are those of the image x₀: it lowers ‖Φ(x) − Φ(x₀)‖² ÷ ‖Φ(x₀)‖², plus {smooth}
times the mean squared difference between neighbours (the paper's total variation, β = 2), plus {outliers} times the
mean sixth power of the distance from mid grey, on pictures of the network's full input size. The picture is held as
Fourier coefficients behind a sigmoid, so that it cannot leave the domain: {first} steps of Adam lead away from noise,
then L-BFGS (20 pairs, a strong Wolfe line search) descends until the distance is below 0.01 or 32 evaluations take away
less than 2 % of it. The last half of the quality's evaluations is Adam on pixels (step 0.01 falling to 0, β 0.9 and
0.9), clipped to the domain, unless the distance is below 0.01 already.

**Caricatures** (Olah, in Lucid) raise the dot product of the two activations times the square of their cosine,
under the small movements of the preset `filterscope`.

**Groups** (Olah et al. 2018, doi:10.23915/distill.00010). The rectified activations of a layer on an image, places
× channels, are taken apart by non-negative matrix factorisation into six groups; each group's direction is
maximised like a channel, its places are a grey mask. The activation grid maximises the directions of single places,
evenly spaced, with a quarter of the steps; with each stand its strongest channels (the semantic dictionary).

| quality | inversion: layers | images | evaluations | groups: layers | images | grid |
|---|--:|--:|--:|--:|--:|--:|
{qualities}

Layers are evenly spaced in depth among those analysed, first and last among them; groups take the last layer with a
rectifier behind it and, from `standard` on, one from the middle.

## Measured

Made by `python benchmarks/inversion.py`: {model}, {photos}; quality
`standard`. **Distance** is ‖Φ(x) − Φ(x₀)‖ ÷ ‖Φ(x₀)‖ of the saved 8-bit picture, by ONNX Runtime: mean and largest
of {count} photos, beside the target. **s** are processor seconds a picture, one thread; the machine was shared.

| layer | distance | largest | target | evaluations | s | caricature: cosine | s |
|---|--:|--:|--:|--:|--:|--:|--:|
{standard}

{ways}

{machine}
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One layer and the pictures found for it."""

    layer: str
    target: float
    inverted: list[InvertedPicture]
    caricatures: list[InvertedPicture]

    def row(self) -> str:
        """As the page prints it."""
        distances = [one.distance for one in self.inverted]
        seconds, steps = (np.mean([getattr(one, name) for one in self.inverted]) for name in ("seconds", "steps"))
        cosine = np.mean([one.cosine for one in self.caricatures])
        drawn = np.mean([one.seconds for one in self.caricatures])
        return (
            f"| {self.layer} | {np.mean(distances):.4f} | {max(distances):.4f} | {self.target} | {steps:.0f} | "
            f"{seconds:.1f} | {cosine:.3f} | {drawn:.1f} |"
        )


def photos(network: Network) -> list[np.ndarray]:
    """The photos, as the network sees them."""
    files = sorted(PHOTOS.glob("*.jpg"))
    return [pixels for _, pixels in images.load(images.find([files[i] for i in CHOSEN]), network.input, "auto")]


def standard(network: Network, pictures: list[np.ndarray]) -> Iterator[Case]:
    """Six layers at quality standard."""
    amounts = QUALITIES["standard"]
    for layer, target in zip(spread(network.layers, amounts.layers), TARGETS, strict=True):
        matcher, comparison = Matcher(network, layer, torch.device("cpu")), ActivationComparison(network, layer)
        inverted, drawn = [], []
        for picture in pictures:
            inverted.append(comparison.compare("inversion", matcher.invert(picture, amounts.evaluations), picture))
            caricature = matcher.caricature(picture, quality_named("standard"), 2.0)
            drawn.append(comparison.compare("caricature", caricature, picture))
        yield Case(layer.name, target, inverted, drawn)


def ways(network: Network, picture: np.ndarray) -> str:
    """The distance that each way of descending reaches in the same number of evaluations."""
    layers = [spread(network.layers, 6)[i] for i in (1, 3, 5)]
    lines = [
        f"Ways to descend, distance after at most {SHORT} evaluations on the first photo:\n",
        "| way | " + " | ".join(layer.name for layer in layers) + " |",
        "|---|" + "--:|" * len(layers),
    ]
    for way, (first, last, restraint) in WAYS.items():
        found = []
        for layer in layers:
            matched = Matcher(network, layer, torch.device("cpu")).invert(picture, SHORT, 0, restraint, first, last)
            found.append(f"{ActivationComparison(network, layer).compare('inversion', matched, picture).distance:.4f}")
        lines.append(f"| {way} | {' | '.join(found)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def qualities() -> str:
    """A line a quality."""
    from filterscope.analyzer.studies.groups import QUALITIES as GROUPS

    return "\n".join(
        f"| {name} | {amounts.layers} | {amounts.images} | {amounts.evaluations} | {GROUPS[name].layers} | "
        f"{GROUPS[name].images} | {GROUPS[name].grid} × {GROUPS[name].grid} |"
        for name, amounts in QUALITIES.items()
    )


def main() -> None:
    """Measure and write the page."""
    torch.set_num_threads(1)
    network = open_network(MODEL, InputOptions(preprocessing=preset("imagenet")))
    pictures = photos(network)
    rows = []
    for case in standard(network, pictures):
        rows.append(case.row())
        print(rows[-1], flush=True)
    restraint = Restraint()
    page = TEXT.format(
        smooth=restraint.smooth,
        outliers=restraint.outliers,
        first=FIRST,
        qualities=qualities(),
        model=MODEL.name,
        photos=f"photos {', '.join(str(i) for i in CHOSEN)} of {PHOTOS.name}",
        count=len(pictures),
        standard="\n".join(rows),
        ways=ways(network, pictures[0]),
        machine=f"torch {torch.__version__}, {platform.machine()}.",
    )
    (ROOT / "docs" / "inversion.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
