"""How telling the pictures of a network are: a table of ways to make them, by the two-way choice of two_way_choice.

200 units of 50 layers, spread over all depths. Photos are cut at about the size of each layer's field; the pictures of
a unit are brought to that size. The observer is another network: the features of another MobileNetV2 for MobileNetV2
(photos), ResNet-20 for the CIFAR-10 network (test images). Pictures are kept in a folder, a file a unit, so that a way
is not gone twice, and other programs' pictures can be put there: KEEP/SUBJECT/WAY/LAYER-CHANNEL.npy, (H, W, C) or
(P, H, W, C) uint8.

    python benchmarks/telling.py --keep pictures --ways natural,first,default,distill,maco,lucent

A second table says how the units come by their activation. *From padding*: the share of the positive activation, on the
picture's own canvas, that neurons have whose field reaches beyond it; 100 % where all do; mean over units.
*In natural surroundings*: the picture in the middle of the mean of 8 photos at the network's input size; what the
neurons of the middle (64 of 224 px) gain over these surroundings alone, as a part of what the best of the unit's nine
natural exemplars gains there; median over units. *Path likeness*: the mean rank correlation of
channels' means, in four earlier layers, with those of the exemplars; for natural, of these among themselves.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from naturalness import (
    SURROUNDING,
    Axis,
    Paths,
    activation_in_the_middle,
    mean_of,
    middle_of,
    paths,
    placed,
    resized,
    share_from_padding,
)
from PIL import Image
from real_pytorch import mobilenet_v2, resnet20
from torch import nn
from two_way_choice import accuracy, choices, features, interval

from filterscope.analyzer.boundary.opening import open_network
from filterscope.analyzer.data.images import find, load
from filterscope.analyzer.execution.strongest_patches import StrongestPatches
from filterscope.analyzer.maximize.accentuation import faded
from filterscope.analyzer.maximize.engine import ascend
from filterscope.analyzer.maximize.presets import Recipe
from filterscope.analyzer.maximize.problem import Problem
from filterscope.analyzer.network.layers import Layer, layers_before
from filterscope.analyzer.network.network import InputOptions, Network
from filterscope.analyzer.network.preprocessing import preset
from filterscope.analyzer.studies.truth import _channel_means, _ranks
from filterscope.analyzer.units.canvas import canvas_for
from filterscope.analyzer.units.objectives import objective_for
from filterscope.converters.runtime import Session

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
CPU = torch.device("cpu")
LAYERS, CHANNELS = 50, 4
PLACES = ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))  # of the crops of a photo
SHORTER_SIDE = 256  # of photos, pixels
THUMB = 32  # side at which pictures of a layer are correlated
THROUGH = 4  # earlier layers of a path, the first and the last among them
OTHERS = 8  # random crops that paths are compared with
CANVAS = {"lucent": 224}  # pixels a side that its network saw: it enlarges the 128 that it saves
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Subject:
    """A network, photos and an observer."""

    key: str
    title: str
    model: Path
    preprocessing: str
    sides: tuple[int, ...]  # of crops, pixels: a layer's is the first that covers its field
    photos: Callable[[], list[np.ndarray]]
    observer: Callable[[], list[nn.Module]]  # its blocks, one after another
    looks: tuple[int, ...]  # blocks whose maps the observer compares
    every: int = 1  # 3: every third of the layers only

    @cached_property
    def network(self) -> Network:
        return open_network(self.model, InputOptions(preprocessing=preset(self.preprocessing)))

    @cached_property
    def units(self) -> list[tuple[Layer, list[int]]]:
        """Layers spread over all depths, and four channels spread over each."""
        layers = self.network.layers
        picked = sorted({round(i * (len(layers) - 1) / (LAYERS - 1)) for i in range(LAYERS)})[:: self.every]
        return [
            (layers[i], [(2 * k + 1) * layers[i].out_channels // (2 * CHANNELS) for k in range(CHANNELS)])
            for i in picked
        ]

    def side(self, layer: Layer) -> int:
        """Of the crops that a layer's units are asked about."""
        field = max(layer.field.size)
        return next((side for side in self.sides if side >= field), self.sides[-1])

    @cached_property
    def blocks(self) -> list[nn.Module]:
        return self.observer()

    @cached_property
    def patches(self) -> StrongestPatches:
        """Of the photos that exemplars are taken from, at the network's input size."""
        size = (self.network.input.height, self.network.input.width)
        images = [cut([photo], size[0])[0][0] for photo in self.photos()[::2]]

        return StrongestPatches(self.network, images)

    @torch.no_grad()
    def levels(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Pooled maps of the observer at its depths, (N, D) each, of (N, H, W, 3) uint8."""
        seen: list[list[np.ndarray]] = [[] for _ in self.looks]
        for first in range(0, len(pixels), 32):
            x = torch.tensor(pixels[first : first + 32]).permute(0, 3, 1, 2).float() / 255
            x = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
            for index, block in enumerate(self.blocks):
                x = block(x)
                if index in self.looks:
                    seen[self.looks.index(index)].append(x.mean((2, 3)).numpy())
        return [np.concatenate(parts) for parts in seen]


def imagenet_photos() -> list[np.ndarray]:
    """A hundred photos, the shorter side at 256 pixels."""
    photos = []
    for path in sorted((DATA / "images" / "imagenet_mini_100").glob("*.jpg")):
        image = Image.open(path).convert("RGB")
        scale = SHORTER_SIDE / min(image.size)
        photos.append(np.asarray(image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)))
    return photos


def cifar_photos() -> list[np.ndarray]:
    """The 2,000 test images."""
    subject = SUBJECTS["cifar10"]
    return [
        pixels
        for _, pixels in load(find([DATA / "cifar10" / "cifar10_test_2000_lossless_webp.npz"]), subject.network.input)
    ]


def other_mobilenet() -> list[nn.Module]:
    """MobileNetV2 with weights of another training."""
    model = mobilenet_v2()
    state = torch.load(DATA / "models/pytorch/mobilenetv2_features_imagenet.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state, strict=False)
    return list(model.features.eval())


def other_resnet() -> list[nn.Module]:
    """ResNet-20, of which nothing behind the last block is used."""
    model = resnet20()
    file = DATA / "models/pytorch/resnet20_cifar10-12fca82f.th"
    state = torch.load(file, map_location="cpu", weights_only=False)["state_dict"]
    model.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    stem = nn.Sequential(model.conv1, model.bn1, nn.ReLU())
    return [block.eval() for block in (stem, *model.layer1, *model.layer2, *model.layer3)]


SUBJECTS = {
    subject.key: subject
    for subject in (
        Subject(
            key="mobilenetv2",
            title="MobileNetV2",
            model=DATA / "models/onnx/mobilenetv2_fp32_dequant.onnx",
            preprocessing="imagenet",
            sides=(64, 96, 128, 160, 224),
            photos=imagenet_photos,
            observer=other_mobilenet,
            looks=(10, 13, 16, 18),
        ),
        Subject(
            key="cifar10",
            title="the bundled CIFAR-10 network",
            model=ROOT / "filterscope/data/cifar10_cnn.onnx",
            preprocessing="unit",
            sides=(32,),
            photos=cifar_photos,
            observer=other_resnet,
            looks=(3, 6, 9),
        ),
    )
}


@dataclass(frozen=True, slots=True, eq=False)
class Photos:
    """Crops of one size, what the observer sees of them, and what they do to the units of some layers."""

    crops: np.ndarray  # (N, H, W, C) uint8
    numbers: np.ndarray  # (N,) int, of the photo
    levels: list[np.ndarray]
    activations: dict[str, np.ndarray]  # layer → (N, channels): the mean of the map


def cut(photos: list[np.ndarray], side: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops of all photos, and the number of each one's photo."""
    crops, numbers = [], []
    for number, photo in enumerate(photos):
        places = PLACES if min(photo.shape[:2]) > side else PLACES[:1]
        for down, right in places:
            top, left = int((photo.shape[0] - side) * down), int((photo.shape[1] - side) * right)
            crops.append(photo[top : top + side, left : left + side])
            numbers.append(number)
    return np.stack(crops), np.array(numbers)


def looked_at(subject: Subject) -> dict[int, Photos]:
    """The crops of each size, measured."""
    photos, result = subject.photos(), {}
    for side in subject.sides:
        layers = [layer for layer, _ in subject.units if subject.side(layer) == side]
        if not layers:
            continue
        crops, numbers = cut(photos, side)
        session = subject.network.session([layer.value for layer in layers], (side, side))
        parts: dict[str, list[np.ndarray]] = {layer.name: [] for layer in layers}
        for first in range(0, len(crops), 20):
            values = session.run(subject.network.input.to_model(crops[first : first + 20]))
            for layer in layers:
                parts[layer.name].append(values[layer.value].mean((2, 3)))
        activations = {name: np.concatenate(rows) for name, rows in parts.items()}
        result[side] = Photos(crops, numbers, subject.levels(crops), activations)
    return result


def of_recipe(recipe: Recipe) -> Callable[[Subject, Layer, list[int]], np.ndarray]:
    """Pictures by one of our recipes: (units, P, H, W, C)."""

    def make(subject: Subject, layer: Layer, channels: list[int]) -> np.ndarray:
        canvas = canvas_for(subject.network, layer, "channel", recipe.quality.cap)
        problem = Problem(subject.network, layer, canvas, objective_for("channel", canvas))
        tiles = ascend(problem, channels, recipe, seed=0, device=CPU).tiles
        return tiles.reshape(len(channels), -1, *tiles.shape[1:])

    return make


def of_photos(subject: Subject, layer: Layer, channels: list[int]) -> np.ndarray:
    """Accentuations of the photos of even number, as a run makes them of its user's images: (units, 1, H, W, C)."""
    recipe = Recipe.named("filterscope", "standard")
    canvas = canvas_for(subject.network, layer, "channel", recipe.quality.cap)
    problem = Problem(subject.network, layer, canvas, objective_for("channel", canvas))
    start = faded(subject.patches.of(layer, channels, canvas)[0])
    return ascend(problem, channels, recipe.accentuation, seed=0, device=CPU, start=start).tiles[:, None]


def of_both(subject: Subject, layer: Layer, channels: list[int]) -> np.ndarray:
    """What a page shows first of a unit: its picture and its accentuation."""
    plain = WAYS["standard"](subject, layer, channels)
    return np.concatenate([plain, of_photos(subject, layer, channels)], axis=1)


WAYS: dict[str, Callable[[Subject, Layer, list[int]], np.ndarray]] = {
    "first": of_recipe(Recipe.named("filterscope", "draft")),
    "standard": of_recipe(Recipe.named("filterscope", "standard")),
    "accentuation": of_photos,
    "default": of_both,
    "distill": of_recipe(Recipe.named("distill", "standard")),
    "maco": of_recipe(Recipe.named("maco", "standard")),
}


def made(subject: Subject, way: str, folder: Path) -> float:
    """Make what is missing of one way's pictures: processor seconds a unit; 0 where nothing was."""
    make = WAYS[way]
    folder.mkdir(parents=True, exist_ok=True)
    started, units = time.process_time(), 0
    for layer, channels in subject.units:
        files = [folder / f"{layer.name}-{channel}.npy" for channel in channels]
        if all(file.is_file() for file in files):
            continue
        for file, tiles in zip(files, make(subject, layer, channels), strict=True):
            np.save(file, tiles)
        units += len(files)
    return (time.process_time() - started) / units if units else 0.0


@dataclass(frozen=True, slots=True)
class Scores:
    """What came of one way."""

    accuracies: np.ndarray  # (units,)
    quarters: np.ndarray  # (units,) int, 0 to 3 from the image on
    alike: dict[str, float]  # layer → median correlation between its channels' first pictures

    def row(self, title: str) -> str:
        """A line of the table."""
        low, high = interval(self.accuracies)
        depths = [f"{self.accuracies[self.quarters == quarter].mean():.3f}" for quarter in range(4)]
        worst = max(self.alike, key=lambda name: self.alike[name]) if self.alike else None
        alike = (
            ""
            if worst is None
            else f"{np.median(list(self.alike.values())):.2f}, at most {self.alike[worst]:.2f} ({worst})"
        )
        return f"| {title} | {self.accuracies.mean():.3f} ({low:.3f} to {high:.3f}) | {' | '.join(depths)} | {alike} |"


def score(subject: Subject, photos: dict[int, Photos], folder: Path | None) -> Scores:
    """The two-way choice of every unit.

    Args:
        folder: of the pictures; None: natural exemplars in their place.
    """
    accuracies, quarters, alike = [], [], {}
    for layer, channels in subject.units:
        own = photos[subject.side(layer)]
        crops = features(own.levels, own.levels)
        thumbs = []
        for channel in channels:
            task = choices(own.activations[layer.name][:, channel], own.numbers)
            if folder is None:
                pictures = crops[task.exemplars]
            else:
                tiles = pictures_in(folder, layer, channel)
                thumbs.append(resized(tiles[:1], THUMB).astype(float).ravel())
                pictures = features(subject.levels(resized(tiles, subject.side(layer))), own.levels)
            accuracies.append(accuracy(pictures, crops, task))
            quarters.append(min(3, layer.index * 4 // len(subject.network.layers)))
        if thumbs and min(thumb.std() for thumb in thumbs) > 0:
            between = np.corrcoef(np.stack(thumbs))[np.triu_indices(len(thumbs), 1)]
            alike[layer.name] = float(np.median(between))
    return Scores(np.array(accuracies), np.array(quarters), alike)


@dataclass(frozen=True, slots=True, eq=False)
class NaturalOfLayer:
    """What natural images do, with which the pictures of a layer are compared."""

    exemplars: list[np.ndarray]  # a channel: (EXEMPLARS, H, W, C)
    alone: np.ndarray  # (channels,) activation in the middle of the surroundings alone
    best: np.ndarray  # (channels,) the same with the best of the exemplars there
    earlier: list[Layer]  # of the paths
    ranks: list[list[tuple[np.ndarray, np.ndarray]]]  # channel → earlier layer → of the exemplars, of random crops


class Naturalness:
    """Measures of the second table, by ONNX Runtime on the subject itself."""

    def __init__(self, subject: Subject, photos: dict[int, Photos]) -> None:
        self.subject, self.photos = subject, photos
        self.size = (subject.network.input.height, subject.network.input.width)
        shown = [cut([photo], self.size[0])[0][0] for photo in subject.photos()[: 2 * SURROUNDING : 2]]
        self.surroundings = mean_of(np.stack(shown))
        self.sessions: dict[tuple[object, ...], Session] = {}
        self.natural = {layer.name: self._of_exemplars(layer, channels) for layer, channels in subject.units}

    def row(self, way: str, folder: Path | None) -> str:
        """A line of the table.

        Args:
            folder: of the pictures; None: natural exemplars in their place.
        """
        shares: list[float] = []
        gains: list[float] = []
        through: list[Paths] = []
        for layer, channels in self.subject.units:
            natural = self.natural[layer.name]
            for index, channel in enumerate(channels):
                exemplars = natural.exemplars[index]
                pictures = exemplars if folder is None else pictures_in(folder, layer, channel)
                if way in CANVAS:
                    pictures = resized(pictures, CANVAS[way])
                shares.append(self._padding(layer, channel, pictures))
                best = natural.best[index] - natural.alone[index]
                gain = self._middle(layer, channel, pictures).mean() - natural.alone[index]
                gains.append(gain / best if best > 0 else np.nan)
                if natural.earlier:
                    own = self._ranks(natural.earlier, middle_of(pictures, self.subject.side(layer)))
                    for depth, (strongest, others) in enumerate(natural.ranks[index]):
                        through.append(paths(strongest if folder is None else own[depth], strongest, others))
        likeness = np.mean([one.natural if folder is None else one.picture for one in through])
        return f"| {way} | {100 * np.nanmean(shares):.0f} % | {np.nanmedian(gains):.2f} | {likeness:.2f} |"

    @property
    def chance(self) -> float:
        """Path likeness of random crops."""
        pairs = [pair for layer in self.natural.values() for channel in layer.ranks for pair in channel]
        return float(np.mean([paths(others, strongest, others).chance for strongest, others in pairs]))

    def _of_exemplars(self, layer: Layer, channels: list[int]) -> NaturalOfLayer:
        own = self.photos[self.subject.side(layer)]
        before = [one for one in layers_before(self.subject.network.layers, layer) if one.has_maps]
        depths = sorted({round(i) for i in np.linspace(0, len(before) - 1, THROUGH)}) if before else []
        earlier = [before[i] for i in depths]
        exemplars, alone, best, ranks = [], [], [], []
        for channel in channels:
            task = choices(own.activations[layer.name][:, channel], own.numbers)
            exemplars.append(own.crops[task.exemplars])
            alone.append(self._answers(layer, channel, self.surroundings[None])[0])
            best.append(self._middle(layer, channel, exemplars[-1]).max())
            strange = np.flatnonzero(~np.isin(own.numbers, own.numbers[task.exemplars]))
            drawn = np.random.default_rng([layer.index, channel]).choice(strange, OTHERS, replace=False)
            both = np.concatenate([exemplars[-1], own.crops[drawn]])
            parts = self._ranks(earlier, both)
            ranks.append([(part[: len(task.exemplars)], part[len(task.exemplars) :]) for part in parts])
        return NaturalOfLayer(exemplars, np.array(alone), np.array(best), earlier, ranks)

    def _maps(self, layers: list[Layer], pictures: np.ndarray) -> dict[str, np.ndarray]:
        network, size = self.subject.network, (pictures.shape[1], pictures.shape[2])
        key = (*(layer.value for layer in layers), size)
        if key not in self.sessions:
            self.sessions = dict(list(self.sessions.items())[-8:])  # the last few, of the layer that is looked at
            self.sessions[key] = network.session([layer.value for layer in layers], size, threads=1)
        return self.sessions[key].run(network.input.to_model(pictures))

    def _padding(self, layer: Layer, channel: int, pictures: np.ndarray) -> float:
        maps = self._maps([layer], pictures)[layer.value][:, channel]
        axes, size = axes_of(layer), (pictures.shape[1], pictures.shape[2])
        shares = [1.0 if axes is None else share_from_padding(own, axes, size) for own in maps]
        return float(np.mean(shares))

    def _middle(self, layer: Layer, channel: int, pictures: np.ndarray) -> np.ndarray:
        """(N,) activation in the middle, the pictures placed in the surroundings."""
        return self._answers(layer, channel, placed(pictures, self.surroundings))

    def _answers(self, layer: Layer, channel: int, canvases: np.ndarray) -> np.ndarray:
        maps = self._maps([layer], canvases)[layer.value][:, channel]
        axes = axes_of(layer)
        return maps.mean(axis=(1, 2)) if axes is None else activation_in_the_middle(maps, axes, self.size)

    def _ranks(self, earlier: list[Layer], pictures: np.ndarray) -> list[np.ndarray]:
        """Of the channels of each earlier layer: (N, channels)."""
        if not earlier:
            return []
        maps = self._maps(earlier, pictures)
        return [_ranks(np.stack([_channel_means(own) for own in maps[one.value]])) for one in earlier]


def axes_of(layer: Layer) -> tuple[Axis, Axis] | None:
    """Rows and columns; None where a neuron sees the whole picture."""
    field = layer.field
    if field is None or layer.is_global:
        return None
    rows, columns = (Axis(field.start[i], field.jump[i], field.size[i]) for i in (0, 1))
    return rows, columns


def pictures_in(folder: Path, layer: Layer, channel: int) -> np.ndarray:
    """A unit's pictures: (P, H, W, C) uint8."""
    tiles = np.load(folder / f"{layer.name}-{channel}.npy")
    return tiles[None] if tiles.ndim == 3 else tiles


def main() -> None:
    """Make, score, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--subject", default="mobilenetv2", choices=SUBJECTS)
    parser.add_argument("--ways", default="natural,first,default", help="natural, ours, or folders in KEEP/SUBJECT")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth layer of the subject's only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    subject = replace(SUBJECTS[options.subject], every=options.every)
    photos = looked_at(subject)
    ways = {way: None if way == "natural" else options.keep / subject.key / way for way in options.ways.split(",")}
    print("| pictures | right (95 %) | first quarter | second | third | last | alike within a layer |")
    print("|---|---|---|---|---|---|---|")
    for way, folder in ways.items():
        seconds = made(subject, way, folder) if folder is not None and way in WAYS else 0.0
        title = f"{way}, {seconds:.2f} CPU s a unit" if seconds else way
        print(score(subject, photos, folder).row(title), flush=True)
    print("\n| pictures | from padding | in natural surroundings | path likeness |")
    print("|---|---|---|---|")
    naturalness = Naturalness(subject, photos)
    for way, folder in ways.items():
        print(naturalness.row(way, folder), flush=True)
    print(f"| random crops | | | {naturalness.chance:.2f} |")


if __name__ == "__main__":
    main()
