"""Attributions of the imported network against captum's on the original module: writes docs/attribution.md.

A MobileNetV2 with trained weights of its features (benchmarks/real_pytorch.py) and photos; the trained weights have no
classifier, so that the class scores come from a dense layer with fixed random weights. Then the randomisation test of
another MobileNetV2, whose classifier is trained. Networks and photos are not part of the repository.

    python benchmarks/attribution.py
"""

import argparse
import copy
import inspect
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import captum
import numpy as np
import torch
from captum import attr
from real_pytorch import mobilenet_v2
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from filterscope.analyzer.attribution.backpropagation import Backpropagation
from filterscope.analyzer.attribution.explain import Explainer
from filterscope.analyzer.attribution.methods import METHODS, NOISE, SAMPLES, STEPS, WINDOWS
from filterscope.analyzer.attribution.sanity import TrainedExplanation, randomisation_test
from filterscope.analyzer.attribution.targets import Target
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.data.images import find, load
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import PRESETS

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
WEIGHTS = DATA / "models" / "pytorch" / "mobilenetv2_features_imagenet.pt"
CLASSIFIER = DATA / "models" / "onnx" / "mobilenetv2_fp32_dequant.onnx"
PHOTOS = ("0284", "0417", "0570", "0945", "0967")  # as their names begin
SIDE = 224
IMAGENET = PRESETS["imagenet"]
LIMIT = 1e-4  # max |a − b| ÷ max |b|
COSTLY = ("integrated-gradients", "smoothgrad", "occlusion")  # compared on one photo
CHANGED = ("guided", "deconvnet")
OTHERS = ("a channel of features.7.conv.0", "a neuron of features.14.conv.0@5,6")  # the strongest of it

HEAD = """# Which pixels speak for it

    filterscope attribute model.onnx photo.jpg --target cat --labels labels.txt
    filterscope attribute model.onnx photo.jpg --target features.3:17@2,3 --method integrated-gradients --sanity
    filterscope attribute model.onnx photo.jpg --target "cat - dog" --labels labels.txt
    filterscope analyze model.onnx --images photos/ --attribution default

    import filterscope as fs
    model = fs.open("model.onnx")
    answer = fs.attribute(model, "photo.jpg", "features.3:17")
    answer["grad-cam"].signed            # (H, W); the answer itself shows its pictures in a notebook

A **target** is a class (its score before softmax), one class rather than another (`cat - dog`: the difference of their
scores; labels or numbers, with spaces around the sign), a channel (the sum of its map) or a neuron, of any value of the
graph: LAYER is a convolution layer (then its pre-activation), a value or a node. By itself the class is taken that the
network answers with; of a network without class scores, the channel of its last convolution that fires most.

Attributions are **in pixel space**: pictures count from 0 to 1 in RGB order, so that a gradient is per full range of a
pixel, whatever the preprocessing. Where a method multiplies by the input, it is by the difference to the **baseline**:
the picture that the network reads as zeros (black, or the mean colour that the preprocessing subtracts), or the nearest
one; the preprocessing cancels out. A signed map is the sum over the input's channels; the absolute view is the sum of
the channels' absolute values. In the overlay red speaks for the target and blue against it, full colour from the 99th
percentile on; the signed picture is exact: 128 is 0, 1 and 255 are ∓ the largest absolute value.

**Why not the other class?** What speaks for cat often speaks for dog too. `--target "cat - dog"` explains the
difference of the two scores, by every method; integrated gradients add up to how far the difference is above the
baseline's, as ONNX Runtime computes both. `analyze --attribution` explains, beside each answer, the answer minus the
class that is next, or minus the image's label where the answer is wrong: by Grad-CAM, or input × gradient where no
layer has maps, one gradient an image (`fs.Attribution(contrast=False)` leaves it out).

**ReLU** is found in every spelling (`analyzer/attribution/rectifiers.py` lists them), also as the rounding of an 8-bit
network; {spellings} of them are compared with gradients written out by hand
(tests/analyzer/attribution/test_rectifiers.py). Smooth functions
(SiLU, GELU, ELU) have no gate: where a network has no ReLU before the target, guided back-propagation and the deconvnet
are left out with a note.

**Grad-CAM** weighs the maps that a layer hands on: after the sum with a shortcut and the non-linearity that follow it.

## The methods

{methods}

## Equal to captum's on the original module

Made by `python benchmarks/attribution.py`: a MobileNetV2 in PyTorch, exported, opened and imported, against captum
{captum} on the original module, for photos at 224×224; the worst max |a − b| ÷ max |b| over them, of the signed and the
absolute map. Captum sees `nn.ReLU` modules alone, so that guided back-propagation and the deconvnet are compared twice:
for the network as it is, with ReLU6, against hooks written for this comparison, and for the same weights with ReLU,
against captum. SmoothGrad is given the same noise.

A gradient jumps where a ReLU opens or closes. Of the 6.1 million ReLUs of this network some ten stand so close to 0 on
a photo that the rounding of float32 decides about them, and each moves a few pixels. So there are two comparisons.
**Same weights**: BatchNormalization folded into the module before its export, and both sides in float64: are the
methods the same? **As used**: the module with BatchNormalization, both sides in float32; beside it how far captum's own
answer in float32 is from its answer in float64, on the original module: an error of the same kind, from other ReLUs.
The deconvnet, Grad-CAM and occlusion, which ask no such gate on the way back or average over them, agree as
used, too. Seconds are processor seconds of a picture as used, here and in captum, one thread.

| method | target | photos | same weights | as used | captum's own rounding | s here | s captum |
|---|---|--:|--:|--:|--:|--:|--:|
"""

SANITY = """
With the same weights all are below {limit:g}: **{worst:.1e}** at worst.

## Do the methods depend on what the network has learnt?

The randomisation test of Adebayo et al. 2018 (arXiv:1810.03292), `--sanity`: from the output down, the weights of layer
after layer are shuffled, and the absolute maps are compared with the trained network's (Spearman's rank correlation /
SSIM). A method whose maps stay alike shows the picture, and not the network. Where the authors draw new weights, ours
are shuffled within each layer: a BatchNormalization that was folded into a layer leaves its scale in the weights, and
drawn ones of one size could saturate ReLU6. A trained MobileNetV2 of ImageNet, mean of {photos} photos;
{seconds:.0f} processor seconds.

"""

CASES = [(method, "a class") for method in METHODS]
CASES += [(m, t) for t in OTHERS for m in ("saliency", "integrated-gradients", *CHANGED)]


class Whole(nn.Module):
    """Preprocessing and network: takes pictures in [0, 1], answers in the network's own precision."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.dtype = next(network.parameters()).dtype

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        mean, std = (torch.tensor(given, dtype=torch.float64) for given in (IMAGENET.mean, IMAGENET.std))
        scale, offset = ((part).float().reshape(1, 3, 1, 1) for part in (1 / std, -mean / std))
        return self.network((pictures.to(self.dtype) * scale + offset).contiguous())


class Exact(Backpropagation):
    """The import in float64."""

    def values(self, pictures: torch.Tensor, names: Sequence[str], rule: str = "plain") -> tuple[torch.Tensor, ...]:
        return super().values(pictures.double(), names, rule)

    def _module(self, names: tuple[str, ...], rule: str) -> fx.GraphModule:
        return super()._module(names, rule).double()


class Channels(nn.Module):
    """The sums of the maps, or the neurons of one place, that some of the features give."""

    def __init__(self, features: nn.Module, place: tuple[int, int] | None) -> None:
        super().__init__()
        self.features, self.place = features, place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.features(x)
        return maps.sum((2, 3)) if self.place is None else maps[:, :, self.place[0], self.place[1]]


def original() -> nn.Module:
    """The network with trained features and a random classifier."""
    module = mobilenet_v2()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        weight = module.classifier[1].weight
        weight.copy_(torch.randn(weight.shape, generator=generator) / 36)
        module.classifier[1].bias.zero_()
    module.load_state_dict(torch.load(WEIGHTS, weights_only=True), strict=False)
    return module.eval()


def folded(module: nn.Module, activation: type[nn.Module]) -> nn.Module:
    """A copy without BatchNormalization, in which `activation` stands in the place of ReLU6."""
    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        place, before = "", module
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, place, fuse_conv_bn_eval(before, child))
                setattr(parent, name, nn.Identity())
            elif isinstance(child, nn.ReLU6):
                setattr(parent, name, activation())
            place, before = name, child
    return module


def by_captum(method: str, module: nn.Module, target: int, at: nn.Module, batch: int) -> Callable[..., torch.Tensor]:
    """What captum makes of a picture (1, 3, H, W) in [0, 1]."""
    mean = torch.tensor(IMAGENET.mean).reshape(1, 3, 1, 1)
    side = SIDE // WINDOWS

    def smoothgrad(picture: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        spread = NOISE * float((picture.max() - picture.min()).detach())
        more = {"nt_samples": SAMPLES, "nt_samples_batch_size": batch, "stdevs": spread, "abs": False}
        return attr.NoiseTunnel(attr.Saliency(module)).attribute(picture, target=target, **more)

    def grad_cam(picture: torch.Tensor) -> torch.Tensor:
        found = attr.LayerGradCam(module, at).attribute(picture, target=target)
        return attr.LayerAttribution.interpolate(found, (SIDE, SIDE), "bilinear")

    def occlusion(picture: torch.Tensor) -> torch.Tensor:
        steps = (3, side // 2, side // 2)
        more = {"baselines": mean.expand_as(picture), "perturbations_per_eval": batch, "strides": steps}
        return attr.Occlusion(module).attribute(picture, (3, side, side), target=target, **more)[:, :1]

    return {
        "saliency": lambda u: attr.Saliency(module).attribute(u, target, abs=False),
        "input-x-gradient": lambda u: attr.Saliency(module).attribute(u, target, abs=False) * (u - mean),
        "integrated-gradients": lambda u: attr.IntegratedGradients(module).attribute(
            u, mean.expand_as(u), target, n_steps=STEPS, internal_batch_size=batch
        ),
        "smoothgrad": smoothgrad,
        "guided": lambda u: attr.GuidedBackprop(module).attribute(u, target),
        "deconvnet": lambda u: attr.Deconvolution(module).attribute(u, target),
        "grad-cam": grad_cam,
        "occlusion": occlusion,
    }[method]


def by_hooks(method: str, module: nn.Module, target: int) -> Callable[..., torch.Tensor]:
    """Guided back-propagation and the deconvnet of a module with ReLU6."""

    def answer(picture: torch.Tensor) -> torch.Tensor:
        def changed(_module: nn.Module, below: tuple[torch.Tensor], above: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            return ((below if method == "guided" else above)[0].clamp(min=0),)

        gates = [gate for gate in module.modules() if isinstance(gate, nn.ReLU6)]
        hooks = [gate.register_full_backward_hook(changed) for gate in gates]
        try:
            (found,) = torch.autograd.grad(module(picture)[0, target], picture)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    return answer


def timed(action: Callable[[], object]) -> tuple[object, float]:
    """What it returns, and processor seconds."""
    started = time.process_time()
    found = action()
    return found, time.process_time() - started


class Comparison:
    """One module, exported and opened, against itself.

    Args:
        module: of float32.
        exact: both sides in float64.
    """

    def __init__(self, module: nn.Module, pictures: list[np.ndarray], exact: bool) -> None:
        opening = InputOptions(size=(SIDE, SIDE), channels=3, preprocessing=IMAGENET)
        self.pictures, self.exact = pictures, exact
        self.explainer = Explainer(open_network(module, opening))
        self.backpropagation = Exact(self.explainer.network) if exact else self.explainer.backpropagation
        self.module = copy.deepcopy(module).double() if exact else module
        self.double = copy.deepcopy(module).double()

    def target(self, shown: str, pixels: np.ndarray) -> Target:
        """By its name in the table."""
        if shown == "a class":
            return self.explainer.target(pixels)
        layer, _, place = shown.rpartition(" of ")[2].partition("@")
        value = self.explainer.network.layer(layer).value
        strongest = int(self.explainer.backpropagation.measured(pixels[None], value)[0].mean((1, 2)).argmax())
        return self.explainer.target(pixels, f"{layer}:{strongest}" + (f"@{place}" if place else ""))

    def oracle(self, method: str, target: Target, module: nn.Module) -> Callable[..., torch.Tensor]:
        """The answer of the original."""
        if target.layer is not None:
            _, block, _, inner = target.layer.split(".")
            before, last = module.features[: int(block)], module.features[int(block)].conv[: int(inner) + 2]
            place = None if target.row is None else (target.row, target.column)
            whole = Whole(Channels(nn.Sequential(*before, last), place))
        else:
            whole = Whole(module)
        has_relu6 = any(isinstance(gate, nn.ReLU6) for gate in whole.modules())
        if has_relu6 and method in ("guided", "deconvnet"):
            return by_hooks(method, whole, target.channel)
        batch = self.explainer.backpropagation.batch(target.value)
        return by_captum(method, whole, target.channel, module.features[18][2], batch)

    def errors(self, method: str, shown: str) -> tuple[float, float, float, float]:
        """The worst error, the worst of the original's own rounding, mean seconds here and there."""
        worst, rounding, ours, theirs = 0.0, 0.0, 0.0, 0.0
        pictures = self.pictures[:1] if method in COSTLY else self.pictures
        for pixels in pictures:
            target = self.target(shown, pixels)
            picture = torch.from_numpy(np.moveaxis(pixels, -1, 0)[None] / np.float32(255)).contiguous()
            found, mine = timed(
                lambda p=pixels, t=target: self.explainer.explain(p, t, method, backpropagation=self.backpropagation)
            )
            expected, other = timed(lambda u=picture, t=target: answer(self.oracle(method, t, self.module), u))
            worst = max(worst, distance((found.signed, found.strength), expected))
            if not self.exact:
                truth = answer(self.oracle(method, target, self.double), picture)
                rounding = max(rounding, distance(expected, truth))
            ours, theirs = ours + mine, theirs + other
        return worst, rounding, ours / len(pictures), theirs / len(pictures)


def answer(oracle: Callable[..., torch.Tensor], picture: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The signed and the absolute map of a picture."""
    found = oracle(picture.clone().requires_grad_(True)).detach()[0].double().numpy()
    return found.sum(0), np.abs(found).sum(0)


def distance(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """The larger max |a − b| ÷ max |b| of two pairs of maps."""
    if not all(b.any() for b in expected):
        raise SystemExit("a map is 0 everywhere: nothing is compared; choose another target")
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, expected, strict=True))


def rows(pictures: list[np.ndarray]) -> Iterator[tuple[str, float]]:
    """The lines of the table, and the error with the same weights."""
    module = original()
    used, same = Comparison(module, pictures, False), Comparison(folded(module, nn.ReLU6), pictures, True)
    for method, shown in CASES:
        alike = same.errors(method, shown)[0]
        worst, rounding, ours, theirs = used.errors(method, shown)
        count = 1 if method in COSTLY else len(pictures)
        line = f"{METHODS[method].title} | {shown} | {count} | {alike:.1e} | {worst:.1e} | {rounding:.1e}"
        yield f"| {line} | {ours:.2f} | {theirs:.2f} |", alike
    relu = Comparison(folded(module, nn.ReLU), pictures, True)
    for method, shown in [(m, t) for t in ("a class", *OTHERS) for m in CHANGED]:
        alike = relu.errors(method, shown)[0]
        yield f"| {METHODS[method].title}, ReLU | {shown} | {len(pictures)} | {alike:.1e} | | | | |", alike


def sanity_rows(pictures: list[np.ndarray]) -> list[str]:
    """The table of the randomisation test."""
    network = open_network(CLASSIFIER, InputOptions(preprocessing=IMAGENET))
    explainer = Explainer(network)
    asked = []
    for pixels in pictures:
        target = explainer.target(pixels)
        strengths = {method: explainer.explain(pixels, target, method).strength for method in METHODS}
        asked.append(TrainedExplanation(pixels, target, strengths))
    rows = randomisation_test(explainer, asked)
    found = {(row["layer"], row["method"]): row for row in rows}
    lines = ["| shuffled down to | " + " | ".join(METHODS) + " |", "|---|" + "--:|" * len(METHODS)]
    for layer in dict.fromkeys(row["layer"] for row in rows):
        cells = [found[layer, method] for method in METHODS]
        numbers = (f"{cell['similarity']:.2f} / {cell['ssim']:.2f}" for cell in cells)
        lines.append(f"| {layer} | " + " | ".join(numbers) + " |")
    return lines


def described() -> str:
    """Each method in the words of its docstring."""
    parts = []
    for name, method in METHODS.items():
        text = " ".join(inspect.cleandoc(method.attribute.__doc__ or "").split())
        body, _, source = text.partition(" Source: ")
        parts.append(f"- **{method.title}** (`{name}`): {body} *{source}*")
    return "\n".join(parts)


def spellings() -> int:
    """How many the tests know: lines of the table in tests/analyzer/attribution/test_rectifiers.py."""
    text = (ROOT / "tests/analyzer/attribution/test_rectifiers.py").read_text(encoding="utf-8")
    table = text.partition("SPELLINGS = {")[2].partition("\n}\n")[0]
    return sum(line.startswith('    "') for line in table.splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=3, help="for the comparison with captum")
    parser.add_argument("--tested", type=int, default=2, help="photos for the randomisation test")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "attribution.md")
    options = parser.parse_args()
    for file in (WEIGHTS, CLASSIFIER):
        if not file.is_file():
            raise SystemExit(f"{file}: no such file; the benchmark's networks are not part of the repository")
    warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
    torch.set_num_threads(1)
    folder = DATA / "images" / "imagenet_mini_100"
    names = [path for start in PHOTOS for path in sorted(folder.glob(f"{start}_*.jpg"))]
    spec = open_network(CLASSIFIER, InputOptions(preprocessing=IMAGENET)).input
    pictures = [pixels for _, pixels in load(find(names), spec)]
    lines, worst = [], 0.0
    for line, error in rows(pictures[: options.photos]):
        print(line, flush=True)
        lines.append(line)
        worst = max(worst, error)
    if not worst <= LIMIT:
        raise SystemExit(f"worst error with the same weights {worst:.1e}: above {LIMIT:g}")
    head = HEAD.format(methods=described(), captum=captum.__version__, spellings=spellings())
    tested, seconds = timed(lambda: sanity_rows(pictures[: options.tested]))
    tail = SANITY.format(limit=LIMIT, worst=worst, photos=options.tested, seconds=seconds)
    machine = f"\n{platform.machine()}, one thread, torch {torch.__version__}, Python {platform.python_version()}.\n"
    options.out.write_text(head + "\n".join(lines) + "\n" + tail + "\n".join(tested) + "\n" + machine, encoding="utf-8")


if __name__ == "__main__":
    main()
