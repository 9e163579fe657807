"""The methods: which pixels speak for a target, and which against it.

Each takes an AttributionInput and returns an attribution of pixels: (1, C, H, W) for pictures in [0, 1], RGB order, or
(1, 1, H, W) with one number for all channels. A gradient is thus per full range of a pixel, 0 to 255; where a method
multiplies by the input, that is the difference to the baseline, and the preprocessing cancels out. A new method is a
function and a row of METHODS. Knows torch and captum; knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from filterscope.analyzer.attribution.backpropagation import Backpropagation
from filterscope.analyzer.attribution.targets import Target
from filterscope.converters.errors import SettingsError, setting

SAMPLES = 50  # noisy pictures of SmoothGrad
NOISE = 0.15  # their deviation, as a part of the picture's range
STEPS = 50  # on the way from the baseline to the picture
WINDOWS = 8  # occluding squares along a side, before they overlap by half


@dataclass(frozen=True, eq=False)
class AttributionInput:
    """A picture, the target that is explained, and how gradients are computed."""

    backpropagation: Backpropagation
    target: Target
    picture: torch.Tensor  # (1, C, H, W) in [0, 1], RGB order
    at: str | None = None  # value whose maps Grad-CAM weighs
    at_last: bool = False  # whether the last of its axes counts channels
    seed: int = 0

    @property
    def baseline(self) -> torch.Tensor:
        """The picture that says nothing, (1, C, 1, 1): the network reads it as zeros, or as near to them as can be.

        Black for networks that are fed 0..1 or 0..255, the mean colour for those that subtract one.
        """
        scale, offset = self.backpropagation.network.input.affine()
        colour = torch.tensor(-offset / scale, dtype=torch.float32, device=self.picture.device).clamp(0, 1)
        spec = self.backpropagation.network.input
        if spec.channels == 3 and spec.preprocessing.order == "BGR":
            colour = colour.flip(0)
        return colour[None, :, None, None]

    @property
    def batch(self) -> int:
        """Pictures that go through the network at once."""
        return self.backpropagation.batch(self.target.value)

    def score(self, pictures: torch.Tensor, rule: str = "plain") -> torch.Tensor:
        """The target's number for some pictures: (N,)."""
        score: torch.Tensor = self.target.of(self.backpropagation.values(pictures, [self.target.value], rule)[0])
        return score

    def gradient(self, rule: str = "plain") -> torch.Tensor:
        """Of the score at the picture, (1, C, H, W)."""
        from captum.attr import Saliency

        picture = self.picture.clone().requires_grad_(True)
        attribution: torch.Tensor = Saliency(lambda pictures: self.score(pictures, rule)).attribute(picture, abs=False)
        return attribution.detach()


def saliency(request: AttributionInput) -> torch.Tensor:
    """The gradient of the score by each pixel: how much the score rises when the pixel does, a little.

    It tells what the network is sensitive to at this picture, and not what the score is made of.

    Source: Simonyan, Vedaldi & Zisserman 2013, arXiv:1312.6034, section 3 (there its absolute value).
    """
    return request.gradient()


def input_x_gradient(request: AttributionInput) -> torch.Tensor:
    """The gradient times the pixel's difference to the baseline: what a linear network would owe to the pixel.

    Pixels with the baseline's colour get nothing, however much the network looks at them.

    Source: Shrikumar, Greenside, Shcherbina & Kundaje 2016, arXiv:1605.01713.
    """
    return (request.picture - request.baseline) * request.gradient()


def integrated_gradients(request: AttributionInput) -> torch.Tensor:
    """The difference to the baseline times the mean gradient on the straight way from it to the picture.

    The attributions add up to the difference of the two scores. The mean is Gauss and Legendre's, of 50 points.

    Source: Sundararajan, Taly & Yan 2017, arXiv:1703.01365.
    """
    from captum.attr import IntegratedGradients

    attribution: torch.Tensor = IntegratedGradients(request.score).attribute(
        request.picture.clone().requires_grad_(True),
        baselines=request.baseline.expand_as(request.picture),
        n_steps=STEPS,
        internal_batch_size=request.batch,
    )
    return attribution.detach()


def smoothgrad(request: AttributionInput) -> torch.Tensor:
    """The mean gradient of 50 copies of the picture with normal noise on them, of 0.15 times the picture's range.

    What changes from one copy to the next, the gradient's own noise, averages out.

    Source: Smilkov, Thorat, Kim, Viégas & Wattenberg 2017, arXiv:1706.03825.
    """
    from captum.attr import NoiseTunnel, Saliency

    picture = request.picture.clone().requires_grad_(True)
    spread = NOISE * float(request.picture.max() - request.picture.min())
    devices = [picture.device] if picture.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(request.seed)
        attribution: torch.Tensor = NoiseTunnel(Saliency(request.score)).attribute(
            picture,
            nt_type="smoothgrad",
            nt_samples=SAMPLES,
            nt_samples_batch_size=request.batch,
            stdevs=spread,
            abs=False,
        )
    return attribution.detach()


def guided(request: AttributionInput) -> torch.Tensor:
    """The gradient, of which at every rectifier only what is above 0 flows back.

    At a rectifier f, max(0, g · f′(x)) flows on: only where the rectifier is open, and never with a negative sign.

    Source: Springenberg, Dosovitskiy, Brox & Riedmiller 2014, arXiv:1412.6806, section 3.4.
    """
    return request.gradient("guided")


def deconvnet(request: AttributionInput) -> torch.Tensor:
    """What the network turned round projects back to the picture: at every rectifier the signal itself is rectified.

    max(0, g) flows on, whether the rectifier is open or not; pools hand it to the place of their
    maximum.

    Source: Zeiler & Fergus 2013, arXiv:1311.2901, section 2.1.
    """
    return request.gradient("deconvnet")


def grad_cam(request: AttributionInput) -> torch.Tensor:
    """The maps of one layer, each weighed by the mean of the score's gradient over it, added and enlarged.

    Without the last rectification: what is above 0 is the paper's map, what is below speaks against the target.
    Enlarging is bilinear.

    Source: Selvaraju et al. 2017, arXiv:1610.02391, section 3.
    """
    if request.at is None:
        raise SettingsError(f"grad-cam: no layer with maps stands before {request.target.name}")
    picture = request.picture.clone().requires_grad_(True)
    value, maps = request.backpropagation.values(picture, [request.target.value, request.at])
    gradient = None
    if maps.requires_grad:
        (gradient,) = torch.autograd.grad(request.target.of(value).sum(), maps, allow_unused=True)
    if gradient is None:
        raise SettingsError(
            f"grad-cam: {request.at} does not stand before {request.target.name}; give another {setting('layer')}",
            field="layer",
            value=request.at,
        )
    if request.at_last:
        maps, gradient = maps.movedim(-1, 1), gradient.movedim(-1, 1)
    weighed = (maps * gradient.mean((2, 3), keepdim=True)).sum(1, keepdim=True)
    return F.interpolate(weighed.detach(), request.picture.shape[2:], mode="bilinear", align_corners=False)


def occlusion(request: AttributionInput) -> torch.Tensor:
    """How far the score falls when a square of the picture is covered with the baseline, the mean over all squares.

    A square has an eighth of the side and moves by half its own.

    Source: Zeiler & Fergus 2013, arXiv:1311.2901, section 4.2 (there with grey).
    """
    from captum.attr import Occlusion

    _, channels, height, width = request.picture.shape
    window = [max(1, round(side / WINDOWS)) for side in (height, width)]
    with torch.no_grad():
        attribution: torch.Tensor = Occlusion(request.score).attribute(
            request.picture,
            sliding_window_shapes=(channels, *window),
            strides=(channels, *(max(1, side // 2) for side in window)),
            baselines=request.baseline.expand_as(request.picture),
            perturbations_per_eval=request.batch,
        )
    return attribution[:, :1]  # a square covers all channels at once: the same number in each


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table."""

    title: str
    attribute: Callable[[AttributionInput], torch.Tensor]
    needs: str = ""  # rectifiers, maps, or nothing


METHODS: dict[str, Method] = {
    "saliency": Method("Saliency", saliency),
    "input-x-gradient": Method("Input × gradient", input_x_gradient),
    "integrated-gradients": Method("Integrated gradients", integrated_gradients),
    "smoothgrad": Method("SmoothGrad", smoothgrad),
    "guided": Method("Guided back-propagation", guided, "rectifiers"),
    "deconvnet": Method("Deconvnet", deconvnet, "rectifiers"),
    "grad-cam": Method("Grad-CAM", grad_cam, "maps"),
    "occlusion": Method("Occlusion", occlusion),
}
DEFAULT = ("saliency", "integrated-gradients", "guided", "grad-cam")


def methods_named(names: str | list[str] | tuple[str, ...], field: str = "method") -> tuple[str, ...]:
    """Methods by name, in the table's order; `all` and `default` stand for several.

    Raises:
        SettingsError: no such method.
    """
    listed = [names] if isinstance(names, str) else list(names)
    chosen: set[str] = set()
    for name in (part.strip() for text in listed for part in text.split(",")):
        if name not in (*METHODS, "all", "default"):
            raise SettingsError(
                f"{setting(field, name)}: give all, default or some of {', '.join(METHODS)}", field=field, value=name
            )
        chosen.update({"all": tuple(METHODS), "default": DEFAULT}.get(name, (name,)))
    return tuple(name for name in METHODS if name in chosen)
