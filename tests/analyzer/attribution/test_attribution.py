"""Attributions are captum's on the original module, in pixel space, for every layout; targets are found by name."""

import warnings

import numpy as np
import pytest
import torch
from captum import attr
from torch import nn

import filterscope as fs
from filterscope.analyzer.attribution.explain import Explainer
from filterscope.analyzer.attribution.methods import (
    METHODS,
    NOISE,
    SAMPLES,
    STEPS,
    WINDOWS,
    AttributionInput,
    methods_named,
)
from filterscope.analyzer.attribution.targets import Target
from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.network.network import InputOptions
from filterscope.analyzer.network.preprocessing import PRESETS, custom
from filterscope.converters.errors import SettingsError
from support.networks import build, normal
from support.opened import opened

SIDE = 24
LABELS = ["cat", "dog", "sea lion", "gasmask", "layer:3"]
WORST = 1e-4  # max |a − b| ÷ max |b|


class Small(nn.Module):
    """Three convolutions with BatchNorm and ReLU, a pool, a shortcut, two dense layers."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv2, self.relu2 = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.ReLU()
        self.conv3, self.relu3 = nn.Conv2d(8, 12, 3, stride=2), nn.ReLU()
        self.dense, self.relu4, self.classes = nn.Linear(12 * 25, 10), nn.ReLU(), nn.Linear(10, 5)

    def forward(self, x):
        y = self.pool(self.relu1(self.bn1(self.conv1(x))))
        y = y + self.relu2(self.conv2(y))
        y = self.relu3(self.conv3(y))
        return self.classes(self.relu4(self.dense(y.flatten(1))))


@pytest.fixture(scope="module")
def original():
    generator = torch.Generator().manual_seed(4)
    module = Small().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(1, parameter[0].numel()) ** 0.5)
        module.bn1.running_mean.normal_(generator=generator)
        module.bn1.running_var.uniform_(0.5, 2, generator=generator)
    return module


@pytest.fixture(scope="module")
def network(original):
    return open_network(original, InputOptions(size=(SIDE, SIDE), channels=3, preprocessing=PRESETS["imagenet"]))


@pytest.fixture(scope="module")
def explainer(network):
    return Explainer(network, LABELS, seed=7)


@pytest.fixture(scope="module")
def pixels(network):
    return network.random_pixels(1, (SIDE, SIDE), 3)[0]


def scaled(found):
    """Captum's gradient by the preprocessed input, by pixels in [0, 1]."""
    return found / torch.tensor(PRESETS["imagenet"].std).reshape(1, 3, 1, 1)


def by_captum(method, module, x, target, at=None):
    """Captum on the original module, preprocessed input, baseline 0."""
    x = x.clone().requires_grad_(True)
    if method == "saliency":
        return scaled(attr.Saliency(module).attribute(x, target, abs=False))
    if method == "input-x-gradient":
        return attr.InputXGradient(module).attribute(x, target=target)
    if method == "integrated-gradients":
        return attr.IntegratedGradients(module).attribute(x, target=target, n_steps=STEPS)
    if method == "guided":
        return scaled(attr.GuidedBackprop(module).attribute(x, target=target))
    if method == "deconvnet":
        return scaled(attr.Deconvolution(module).attribute(x, target=target))
    if method == "grad-cam":
        found = attr.LayerGradCam(module, at).attribute(x, target=target)
        return attr.LayerAttribution.interpolate(found, (SIDE, SIDE), "bilinear")
    side = SIDE // WINDOWS
    window, steps = (3, side, side), (3, side // 2, side // 2)
    return attr.Occlusion(module).attribute(x, sliding_window_shapes=window, strides=steps, target=target)[:, :1]


def assert_same(found, expected):
    expected = expected.detach()[0].numpy()
    for ours, theirs in ((found.signed, expected.sum(0)), (found.strength, np.abs(expected).sum(0))):
        assert np.abs(theirs).max() > 0
        assert np.abs(ours - theirs).max() <= WORST * np.abs(theirs).max()


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations", "ignore:Converting a tensor with")
@pytest.mark.parametrize("method", [name for name in METHODS if name != "smoothgrad"])
def test_a_class_is_explained_as_captum_explains_the_original(method, original, network, explainer, pixels):
    x = torch.from_numpy(network.input.to_model(pixels[None]))
    for index in (0, 3):
        found = explainer.explain(pixels, explainer.target(pixels, LABELS[index]), method)
        assert_same(found, by_captum(method, original, x, index, original.relu3))
        assert found.score == pytest.approx(float(original(x)[0, index].detach()), rel=1e-4)


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
@pytest.mark.parametrize("method", ["saliency", "guided", "deconvnet", "integrated-gradients"])
@pytest.mark.parametrize("place", [None, (3, 4)], ids=["channel", "neuron"])
def test_channels_and_neurons_of_pools_and_convolutions_too(method, place, original, network, explainer, pixels):
    class Part(nn.Module):
        def __init__(self, *modules):
            super().__init__()
            self.way = nn.Sequential(*modules)

        def forward(self, x):
            maps = self.way(x)
            return maps.sum((2, 3)) if place is None else maps[:, :, place[0], place[1]]

    x = torch.from_numpy(network.input.to_model(pixels[None]))
    pool = next(node for node in network.model.graph.nodes if node.op == "MaxPool")
    to_pool = [original.conv1, original.bn1, original.relu1, original.pool]
    suffix = "" if place is None else f"@{place[0]},{place[1]}"
    for name, modules in (("conv1", to_pool[:2]), (pool.name, to_pool), (pool.outputs[0], to_pool)):
        if name == "conv1" and method in ("guided", "deconvnet"):
            continue  # no rectifier stands before it
        target = explainer.target(pixels, f"{name}:2{suffix}")
        assert target.name == f"{name}:2{suffix}"
        assert_same(explainer.explain(pixels, target, method), by_captum(method, Part(*modules), x, 2))


def test_smoothgrad_is_captums_with_the_same_noise(original, network, explainer, pixels):
    given = PRESETS["imagenet"]
    mean, std = (torch.tensor(numbers).reshape(1, 3, 1, 1) for numbers in (given.mean, given.std))
    picture = torch.from_numpy(np.moveaxis(pixels, -1, 0)[None] / np.float32(255)).requires_grad_(True)
    torch.manual_seed(7)
    expected = attr.NoiseTunnel(attr.Saliency(lambda u: original((u - mean) / std))).attribute(
        picture,
        nt_samples=SAMPLES,
        nt_samples_batch_size=explainer.backpropagation.batch(explainer.target(pixels).value),
        stdevs=NOISE * float((picture.max() - picture.min()).detach()),
        target=1,
        abs=False,
    )
    found = explainer.explain(pixels, explainer.target(pixels, "1"), "smoothgrad")
    assert_same(found, expected)


def test_the_random_state_of_the_caller_is_left_alone(explainer, pixels):
    torch.manual_seed(1)
    first = torch.rand(1)
    torch.manual_seed(1)
    one, other = (explainer.explain(pixels, explainer.target(pixels), "smoothgrad") for _ in range(2))
    assert torch.rand(1) == first
    np.testing.assert_array_equal(one.signed, other.signed)


def test_integrated_gradients_add_up_to_the_difference_of_the_scores(network, explainer, pixels):
    target = explainer.target(pixels)
    found = explainer.explain(pixels, target, "integrated-gradients")
    nothing = network.session([target.value]).run(np.zeros((1, 3, SIDE, SIDE), np.float32))[target.value]
    grey = float(target.of(nothing)[0])
    assert abs(found.signed.sum() - (found.score - grey)) < 0.01 * found.strength.sum()


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations", "ignore:Converting a tensor with")
@pytest.mark.parametrize("method", [name for name in METHODS if name != "smoothgrad"])
def test_one_class_rather_than_another_is_captums_of_the_difference(method, original, network, explainer, pixels):
    class Difference(nn.Module):
        def __init__(self):
            super().__init__()
            self.whole = original

        def forward(self, x):
            scores = self.whole(x)
            return scores[:, 3:4] - scores[:, 1:2]

    x = torch.from_numpy(network.input.to_model(pixels[None]))
    found = explainer.explain(pixels, explainer.target(pixels, "gasmask - dog"), method)
    assert_same(found, by_captum(method, Difference(), x, 0, original.relu3))


def test_a_difference_of_classes_adds_up_to_what_onnx_runtime_says(network, explainer, pixels):
    target = explainer.target(pixels, "cat - sea lion")
    found = explainer.explain(pixels, target, "integrated-gradients")
    session = network.session([target.value])
    scores, nothing = (
        session.run(images)[target.value][0].astype(np.float64)
        for images in (network.input.to_model(pixels[None]), np.zeros((1, 3, SIDE, SIDE), np.float32))
    )
    assert found.score == pytest.approx(scores[0] - scores[2], rel=1e-6)
    change = scores[0] - scores[2] - (nothing[0] - nothing[2])
    assert abs(found.signed.sum() - change) < 0.01 * found.strength.sum()
    alone = [
        explainer.explain(pixels, explainer.target(pixels, name), "saliency").signed for name in ("0", "2", "0 - 2")
    ]
    np.testing.assert_allclose(alone[2], alone[0] - alone[1], atol=1e-5 * np.abs(alone[0]).max())


def test_the_contrast_of_an_answer_is_the_next_class_or_the_label_that_it_missed(network, explainer, pixels):
    (scores,) = network.session([]).run(network.input.to_model(pixels[None])).values()
    best, following, third = np.argsort(-scores.reshape(-1))[:3].tolist()
    for label, minus in ((None, following), (best, following), (third, third), (99, following)):
        target = explainer.contrast(pixels, label)
        assert (target.channel, target.minus) == (best, minus)
        assert target == explainer.target(pixels, target.name)


def test_grad_cam_of_pooled_maps_is_class_activation_mapping(tmp_path):
    """Zhou et al. 2016: with a mean and a dense layer behind the maps, the weights are the dense layer's own."""
    constants = {"k": normal(6, 3, 3, 3), "m": normal(6, 4)}
    nodes = [("Conv", "x k", "a", {"name": "conv"}), ("Relu", "a", "r"), ("GlobalAveragePool", "r", "p")]
    nodes += [("Flatten", "p", "f"), ("MatMul", "f m", "y")]
    network = opened(tmp_path, build(nodes, constants, shape=("N", 3, 8, 8)), PRESETS["unit"], (8, 8))
    pixels = network.random_pixels(1, (8, 8), 0)[0]
    explainer = Explainer(network)
    found = explainer.explain(pixels, explainer.target(pixels, "2"), "grad-cam")
    maps = network.session(["r"]).run(network.input.to_model(pixels[None]))["r"][0]
    cam = np.einsum("chw,c->hw", maps, constants["m"][:, 2]) / 36
    enlarged = torch.nn.functional.interpolate(torch.from_numpy(cam)[None, None], (8, 8), mode="bilinear")
    np.testing.assert_allclose(found.signed, enlarged[0, 0].numpy(), rtol=1e-4, atol=1e-6)
    assert found.at == "conv"


LAST = {"name": "conv"}
OPENED = {  # channels, layout, preprocessing, nodes behind the input, value and channel that are explained
    "grey": (1, "NCHW", custom(1, (0.4,), (-0.5,), "RGB", 1), [("Conv", "x k", "a", LAST)], "conv:1"),
    "five bands": (5, "NCHW", PRESETS["raw255"], [("Conv", "x k", "a", LAST)], "conv:1"),
    "BGR": (3, "NCHW", PRESETS["caffe-bgr"], [("Conv", "x k", "a", LAST)], "conv:0@2,1"),
    "channels last": (
        *(3, "NHWC", PRESETS["caffe-bgr"]),
        [("Transpose", "x", "t", {"perm": [0, 3, 1, 2]}), ("Conv", "t k", "a", LAST)],
        "conv:1",
    ),
    "a value with channels last": (
        *(3, "NHWC", PRESETS["imagenet"]),
        [
            *(("Transpose", "x", "t", {"perm": [0, 3, 1, 2]}), ("Conv", "t k", "a", LAST)),
            *(("Transpose", "a", "b", {"perm": [0, 2, 3, 1]}), ("Mul", "b h", "y")),
        ],
        "y:1@3,0",
    ),
}


@pytest.mark.parametrize("name", OPENED)
def test_gradients_are_per_pixel_in_the_pictures_own_order(name, tmp_path):
    """Against differences of the scores of ONNX Runtime for whole steps of a pixel: the networks are linear."""
    channels, layout, preprocessing, nodes, wanted = OPENED[name]
    shape = ("N", channels, 7, 6) if layout == "NCHW" else ("N", 7, 6, channels)
    constants = {"k": normal(2, channels, 3, 3), "h": np.float32(0.5)}
    kept = {name: constants[name] for _, inputs, *_ in nodes for name in inputs.split() if name in constants}
    network = opened(tmp_path, build(nodes, kept, shape=shape), preprocessing, (7, 6), layout)
    pixels = network.random_pixels(1, (7, 6), 0)[0]
    pixels[pixels > 127] = 127
    explainer = Explainer(network)
    target = explainer.target(pixels, wanted)
    found = explainer.explain(pixels, target, "saliency")
    changed = np.repeat(pixels[None], pixels.size, 0).reshape(pixels.size, -1)
    changed[np.arange(pixels.size), np.arange(pixels.size)] += 128
    session = network.session([target.value])
    base, moved = (
        target.of(session.run(network.input.to_model(p.reshape(-1, *pixels.shape)))[target.value]).astype(np.float64)
        for p in (pixels, changed)
    )
    expected = ((moved - base) / (128 / 255)).reshape(pixels.shape)
    np.testing.assert_allclose(found.signed, expected.sum(-1), atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(found.strength, np.abs(expected).sum(-1), atol=1e-4 * np.abs(expected).max())


def test_targets_are_found_by_number_name_layer_and_place(explainer, pixels):
    value = explainer.target(pixels).value
    assert explainer.target(pixels, "SEA LION") == Target(value, None, 2, "sea lion")
    assert explainer.target(pixels, "4").label == "layer:3"
    assert explainer.target(pixels, "layer:3").channel == 4, "a label may look like a layer and a channel"
    conv2 = explainer.network.layer("conv2")
    assert explainer.target(pixels, "conv2:5@1,11") == Target(conv2.value, "conv2", 5, None, 1, 11)
    assert explainer.target(pixels, "#2:1").layer == "conv3"
    best = explainer.network.session([]).run(explainer.network.input.to_model(pixels[None]))
    assert explainer.target(pixels).channel == int(next(iter(best.values())).argmax())


def test_a_difference_is_told_from_a_label_that_holds_its_sign(network, pixels):
    labels = ["cat", "black - tan", "dog - cat", "dog", "t-shirt"]
    explainer = Explainer(network, labels)
    classes = {
        "cat - t-shirt": (0, 4),
        "3 - 1": (3, 1),
        "dog - cat": (2, None),
        "Black - Tan - dog": (1, 3),
        "dog - black - tan": (3, 1),
        "dog - cat - black - tan": (2, 1),
    }
    for text, (channel, minus) in classes.items():
        target = explainer.target(pixels, text)
        assert (target.channel, target.minus, target.layer) == (channel, minus, None)
        assert target.label == labels[channel]
        assert target.minus_label == (None if minus is None else labels[minus])


WRONG = {
    "cat - gas mask": r"^`target=gas mask`: no label is called that; did you mean gasmask\?$",
    "cat - 5": "^`target=5`: the network has classes 0 to 4$",
    "cat - 0": "^`target=cat - 0`: a class minus itself is 0; give two classes$",
    "gas mask": r"^`target=gas mask`: no label is called that; did you mean gasmask\?$",
    "5": "^`target=5`: the network has classes 0 to 4$",
    "conv4:1": "^`target`: no layer or value is called 'conv4'; near: conv",
    "conv2:8": "^`target=conv2:8`: conv2 has channels 0 to 7$",
    "conv2:0@12,0": "^`target=conv2:0@12,0`: the maps of conv2 have rows 0 to 11 and columns 0 to 11$",
    "conv*:0": "^`target`: conv\\* fits 3 layers, conv1, conv2, conv3; name one$",
}


@pytest.mark.parametrize("wanted", WRONG)
def test_a_wrong_target_is_named_with_what_is_near(wanted, explainer, pixels):
    with pytest.raises(SettingsError, match=WRONG[wanted]):
        explainer.target(pixels, wanted)


def test_a_neuron_of_a_value_without_places_is_refused(explainer, pixels):
    value = explainer.target(pixels).value
    with pytest.raises(SettingsError, match="has no rows and columns"):
        explainer.target(pixels, f"{value}:1@0,0")


def test_grad_cam_weighs_maps_before_the_target_alone(explainer, pixels):
    first, second = (explainer.target(pixels, name) for name in ("conv1:0", "conv2:1"))
    assert explainer.maps(first) is None
    assert "no layer with maps stands before conv1:0" in explainer.why_not("grad-cam", first)
    assert explainer.maps(second)[1] == "conv1"
    with pytest.raises(SettingsError, match="does not stand before conv2:1; give another `layer`"):
        explainer.explain(pixels, second, "grad-cam", "conv3")
    with pytest.raises(SettingsError, match=r"has no maps, only \[1, 5\]"):
        explainer.maps(first, explainer.target(pixels).value)


def test_a_layer_stands_for_what_it_hands_on_and_a_value_for_itself(explainer, network):
    graph = network.model.graph
    added = next(node for node in graph.nodes if node.op == "Add")
    relu2 = graph.consumers(network.layer("conv2").value)[0]
    assert explainer.values.maps("conv2") == (added.outputs[0], "conv2")
    assert explainer.values.maps(relu2.outputs[0]) == (relu2.outputs[0], relu2.outputs[0])


def test_methods_by_name():
    assert methods_named("all") == tuple(METHODS)
    assert methods_named(["occlusion", "saliency,guided"]) == ("saliency", "guided", "occlusion")
    with pytest.raises(SettingsError, match=r"^`method=gradcam`: give all, default or some of saliency, "):
        methods_named("gradcam")


def test_every_method_names_its_source():
    for method in METHODS.values():
        assert "Source: " in (method.attribute.__doc__ or "")


def test_a_network_without_scores_is_asked_about_its_strongest_channel(tmp_path):
    nodes = [("Conv", "x k", "a", {"name": "first"}), ("Relu", "a", "r"), ("Conv", "r w", "y", {"name": "last"})]
    constants = {"k": normal(4, 3, 3, 3), "w": normal(5, 4, 3, 3)}
    network = opened(tmp_path, build(nodes, constants, shape=("N", 3, 9, 9)), PRESETS["unit"], (9, 9))
    pixels = network.random_pixels(1, (9, 9), 0)[0]
    explainer = Explainer(network)
    target = explainer.target(pixels)
    means = network.session(["y"]).run(network.input.to_model(pixels[None]))["y"].mean((2, 3))
    assert (target.layer, target.channel) == ("last", int(means.argmax()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in METHODS:
            assert np.isfinite(explainer.explain(pixels, target, method).signed).all()


def test_a_target_that_nothing_moves_is_noted(tmp_path):
    """As the class scores of 8-bit networks at the end of their range."""
    nodes = [("Conv", "x k", "a", {"name": "conv"}), ("Clip", "a zero little", "y", {"name": "clip"})]
    constants = {"k": np.ones((2, 3, 3, 3), np.float32), "zero": np.float32(0), "little": np.float32(1e-3)}
    network = opened(tmp_path, build(nodes, constants, shape=("N", 3, 6, 6)), PRESETS["unit"], (6, 6))
    pixels = np.full((6, 6, 3), 200, np.uint8)
    explainer, notes = Explainer(network), []
    (found,) = explainer.explain_all(
        pixels, explainer.target(pixels, "clip:1"), ["saliency"], layer=None, notes=notes, done=lambda: None
    )
    assert not found.signed.any()
    assert notes == ["saliency: 0 everywhere; clip:1 is at the end of its range, or dead, on a picture."]


def test_what_is_not_finite_is_noted_and_no_picture(tmp_path):
    nodes = [("Conv", "x k", "a", {"name": "conv"}), ("Exp", "a", "y", {"name": "exp"})]
    network = opened(tmp_path, build(nodes, {"k": np.full((1, 3, 3, 3), 99, np.float32)}), PRESETS["unit"], (16, 16))
    pixels = np.full((16, 16, 3), 255, np.uint8)
    explainer, notes = Explainer(network), []
    target = explainer.target(pixels, "exp:0")
    assert explainer.explain_all(pixels, target, ["saliency"], layer=None, notes=notes, done=lambda: None) == []
    assert notes == ["saliency: what it says of exp:0 is not finite."]


def test_the_baseline_is_what_the_network_reads_as_zeros_in_its_own_order(tmp_path):
    model = build([("Conv", "x k", "y")], {"k": normal(2, 3, 3, 3)}, shape=("N", 3, 9, 8))
    network = opened(tmp_path, model, custom(255, (10, 20, 100), (1, 1, 1), "BGR"))
    explainer = Explainer(network)
    pixels = network.random_pixels(1, (9, 8), 1)[0]
    request = AttributionInput(explainer.backpropagation, explainer.target(pixels, "y:0"), torch.zeros(1, 3, 9, 8))
    colour = request.baseline.numpy().reshape(1, 1, 1, 3) * 255
    np.testing.assert_allclose(colour.reshape(-1), [100, 20, 10], rtol=1e-5)  # RGB
    np.testing.assert_allclose(network.input.to_model(np.rint(colour).astype(np.uint8)), 0, atol=1e-4)


def test_a_network_without_scores_and_maps_asks_for_a_target(tmp_path):
    nodes = [("Reshape", "x s", "r"), ("Conv", "r k", "y")]
    model = build(nodes, {"s": np.array([0, 3, -1]), "k": normal(2, 3, 3)}, shape=("N", 3, 9, 8))
    network = opened(tmp_path, model)
    with pytest.raises(SettingsError, match="neither class scores nor 2-d convolutions; give `target=VALUE:CHANNEL`"):
        Explainer(network).target(network.random_pixels(1, (9, 8), 1)[0])


def test_a_picture_in_whose_place_a_folder_stands_is_named(network, pixels, tmp_path):
    answer = fs.attribute(network, pixels, 0, method="saliency", device="cpu")
    written = answer.save(tmp_path / "first")
    (tmp_path / "second" / written[0].name).mkdir(parents=True)
    with pytest.raises(SettingsError, match=r"^`out=.*second`: cannot be written \(Is a directory\)$"):
        answer.save(tmp_path / "second")
