"""Train one of the example networks, save it, and let Filterscope analyse what was trained.

    python examples/train.py mnist --framework keras --data FOLDER --out FOLDER

Everything that differs between the networks stands in NETWORKS. Knows both frameworks, but imports only the one that
is asked for; knows nothing of Filterscope but its command.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from data_files import DataError, Dataset, Part, load

LEARNING_RATE = 1e-3  # of Adam at the start; it falls to 0 along half a cosine
QUICK_IMAGES = 6_000  # of --quick: one epoch of so many
SHOWN = 100  # test images that the report shows


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a network is trained on, and for how long unless --epochs says so."""

    dataset: str
    images_shown: int  # over all epochs: 3 epochs of 60,000 and 15 of 12,000 are the same work
    batch: int = 128  # images a step
    shift: int = 0  # pixels that a training image moves at most, up or down and left or right, each time it is shown


NETWORKS = {
    "mnist": Recipe("mnist", 180_000, batch=32, shift=2),
    "svhn": Recipe("svhn", 750_000),
    "svhn_batchnorm": Recipe("svhn", 750_000),
    "cifar10_tensorflow": Recipe("cifar10", 500_000),
    "cifar10_keras": Recipe("cifar10", 1_000_000),
}


@dataclass(frozen=True, slots=True)
class Lessons:
    """The training images of all epochs, a batch at a time, the same for both frameworks."""

    part: Part
    epochs: int
    batch: int
    shift: int
    seed: int

    @property
    def batches_per_epoch(self) -> int:
        return -(-len(self.part) // self.batch)

    @property
    def batches(self) -> int:
        return self.epochs * self.batches_per_epoch

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(N, H, W, C) float32 in 0..1 and (N,) int64 labels; each image once an epoch, in a new order."""
        random = np.random.default_rng(self.seed)
        for _ in range(self.epochs):
            order = random.permutation(len(self.part))
            for begin in range(0, len(order), self.batch):
                chosen = order[begin : begin + self.batch]
                yield unit(shifted(self.part.images[chosen], self.shift, random)), self.part.labels[chosen]


def shifted(images: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    """Move each (H, W, C) image by up to `most` pixels on either axis; what comes in from outside is black."""
    if most == 0:
        return images
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    corners = random.integers(0, 2 * most + 1, (len(images), 2))
    windows = [image[y : y + height, x : x + width] for image, (y, x) in zip(padded, corners, strict=True)]
    return np.stack(windows)


def train_keras(name: str, lessons: Lessons, test: Part, out: Path) -> tuple[Path, float]:
    """Train the Keras network, save it whole as NAME.keras; returns the file and the accuracy on the test images."""
    import keras
    import networks_keras

    keras.utils.set_random_seed(lessons.seed)
    model = getattr(networks_keras, name)()
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, lessons.batches)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        iter(lessons),
        steps_per_epoch=lessons.batches_per_epoch,
        epochs=lessons.epochs,
        shuffle=False,  # the lessons are shuffled already
        validation_data=(unit(test.images), test.labels),
        verbose=1 if sys.stdout.isatty() else 2,  # a moving bar, or a line an epoch
    )
    file = out / f"{name}.keras"
    model.save(file)
    return file, accuracy(model.predict(unit(test.images), batch_size=500, verbose=0), test.labels)


def train_pytorch(name: str, lessons: Lessons, test: Part, out: Path) -> tuple[Path, float]:
    """Train the PyTorch network, save its weights as NAME.pth; returns the file and the accuracy on the test images.

    The file is a state dict: numbers and no program. Whoever opens it needs the factory in networks_pytorch.py too.
    """
    import networks_pytorch
    import torch
    from rich.progress import track
    from torch.nn import functional as F

    torch.manual_seed(lessons.seed)
    model = getattr(networks_pytorch, name)()
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, lessons.batches)

    def logits(images: np.ndarray) -> torch.Tensor:
        answers: torch.Tensor = model(torch.from_numpy(images).permute(0, 3, 1, 2))  # channels first
        return answers

    def test_accuracy() -> float:
        model.eval()
        with torch.inference_mode():
            answers = [logits(unit(test.images[begin : begin + 500])) for begin in range(0, len(test), 500)]
        return accuracy(torch.cat(answers).numpy(), test.labels)

    shown, steps = iter(lessons), lessons.batches_per_epoch
    start = time.perf_counter()
    for epoch in range(1, lessons.epochs + 1):
        model.train()
        total = 0.0
        title = f"epoch {epoch}/{lessons.epochs}"
        for _ in track(range(steps), title, transient=True, disable=not sys.stdout.isatty()):
            images, labels = next(shown)
            loss = F.cross_entropy(logits(images), torch.from_numpy(labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        facts = f"loss {total / steps:.4f}  test accuracy {test_accuracy():.4f}"
        print(f"{title}  {facts}  {time.perf_counter() - start:.0f} s", flush=True)
    file = out / f"{name}.pth"
    torch.save(model.state_dict(), file)
    return file, test_accuracy()


TRAINERS: dict[str, Callable[[str, Lessons, Part, Path], tuple[Path, float]]] = {
    "keras": train_keras,
    "pytorch": train_pytorch,
}


def unit(images: np.ndarray) -> np.ndarray:
    """The preprocessing `unit`: uint8 0..255 → float32 0..1."""
    return images.astype(np.float32) / 255


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose highest logit is that of their class."""
    return float((logits.argmax(1) == labels).mean())


def analysis(name: str, framework: str, file: Path, data: Dataset, out: Path) -> list[str]:
    """The command that analyses what was trained, as the user would type it; writes the images and names it takes.

    What a weights file does not tell has to be said: that pixels are 0..1, and for PyTorch also which function makes
    the network and what its input looks like.
    """
    shown = data.test.first(SHOWN)
    dataset = NETWORKS[name].dataset
    pictures, names = out / f"{dataset}_images.npz", out / f"{dataset}_classes.txt"
    np.savez_compressed(pictures, x=shown.images, y=shown.labels)
    names.write_text("\n".join(data.classes) + "\n", encoding="utf-8")
    if framework == "keras":
        model = [str(file)]
    else:
        _, height, width, channels = shown.images.shape
        factory = os.path.relpath(Path(__file__).with_name("networks_pytorch.py"))
        model = [f"{factory}:{name}", "--weights", str(file)]
        model += ["--input-channels", str(channels), "--input-size", f"{height}x{width}"]
    options = ["--preprocess", "unit", "--images", str(pictures), "--labels", str(names)]
    return ["filterscope", "analyze", *model, *options, "--out", str(out / f"{name}-{framework}-filterscope")]


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train an example network, save it, and analyse it.")
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--framework", choices=TRAINERS, default="pytorch")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set's files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the network and its report")
    parser.add_argument("--batchnorm", action="store_true", help="svhn becomes svhn_batchnorm")
    parser.add_argument("--epochs", type=int, help="times that each training image is shown")
    parser.add_argument("--quick", action="store_true", help=f"one epoch of {QUICK_IMAGES:,} images, to try it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-analyze", action="store_true", help="only print the command that would analyse it")
    given = parser.parse_args(arguments)
    if given.batchnorm:
        if given.network != "svhn":
            parser.error("--batchnorm goes with svhn")
        given.network = "svhn_batchnorm"
    if given.epochs is not None and given.epochs < 1:
        parser.error(f"--epochs {given.epochs}: give 1 or more")
    return given


def refused(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return 2


def main(arguments: list[str] | None = None) -> int:
    given = parsed(arguments)
    name, recipe = given.network, NETWORKS[given.network]
    if given.framework == "keras" and find_spec("keras") is None:
        return refused("Keras is not installed: pip install tensorflow, or pip install keras and KERAS_BACKEND=torch")
    try:
        data = load(recipe.dataset, given.data)
    except DataError as error:
        return refused(str(error))
    images = data.train.first(QUICK_IMAGES) if given.quick else data.train
    epochs = given.epochs or (1 if given.quick else max(1, round(recipe.images_shown / len(images))))
    lessons = Lessons(images, epochs, recipe.batch, recipe.shift, given.seed)
    given.out.mkdir(parents=True, exist_ok=True)

    print(f"{name}: {epochs} × {len(images):,} images, in {given.framework}", flush=True)
    file, right = TRAINERS[given.framework](name, lessons, data.test, given.out)
    print(f"{file}: {right:.2%} of {len(data.test):,} test images", flush=True)

    command = analysis(name, given.framework, file, data, given.out)
    print(f"$ {shlex.join(command)}", flush=True)
    if given.no_analyze:
        return 0
    return subprocess.run([sys.executable, "-m", *command], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
