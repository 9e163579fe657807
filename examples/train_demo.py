"""The network that ships with Filterscope as its demo: `cifar10_keras`, trained longer and exported to ONNX.

Against train.py: images are shifted and mirrored, the learning rate rises and falls, labels are smoothed; and the
file is compared with torch in ONNX Runtime before it is used. Knows torch and ONNX Runtime; knows nothing of
Filterscope.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from data_files import Part, read_cifar10_packed
from networks_pytorch import cifar10_keras
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 128
PEAK_RATE = 2e-3  # of Adam, at the top of the one-cycle schedule
LABEL_SMOOTHING = 0.05
SHIFT = 4  # pixels that a training image may move in each direction
THREADS = 2


def tensors(part: Part) -> tuple[Tensor, Tensor]:
    """(N, 3, 32, 32) uint8 images and (N,) int64 labels."""
    return torch.from_numpy(part.images.transpose(0, 3, 1, 2).copy()), torch.from_numpy(part.labels)


def unit(images: Tensor) -> Tensor:
    """The preprocessing `unit`: uint8 0..255 → float32 0..1."""
    return images.float() / 255


def augmented(padded: Tensor, generator: torch.Generator) -> Tensor:
    """Cut a random 32×32 window from each (N, 3, 40, 40) image and mirror half of them."""
    n = len(padded)
    top, left = torch.randint(0, 2 * SHIFT + 1, (2, n, 1), generator=generator)
    rows = top + torch.arange(32)
    columns = left + torch.arange(32)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    pick = torch.arange(n)[:, None, None]
    windows = padded.permute(0, 2, 3, 1)[pick, rows[:, :, None], columns[:, None, :]]
    return windows.permute(0, 3, 1, 2)  # NHWC in memory: what the convolutions like best


@torch.inference_mode()
def torch_predictions(model: nn.Module, images: Tensor) -> Tensor:
    """(N,) int64 classes that the torch network gives."""
    model.eval()
    return torch.cat([model(unit(batch)).argmax(1) for batch in torch.split(images, 500)])


def onnx_predictions(path: Path, images: Tensor) -> Tensor:
    """(N,) int64 classes that the exported file gives in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    answers = [session.run(["logits"], {"image": unit(batch).numpy()})[0] for batch in torch.split(images, 500)]
    return torch.from_numpy(np.concatenate(answers).argmax(1))


@torch.inference_mode()
def first_layer_that_fires(model: nn.Sequential, images: Tensor) -> float:
    """Fraction of the conv1 units that are above zero somewhere on at least one image."""
    answers = [model[0](unit(batch)).amax((0, 2, 3)) > 0 for batch in torch.split(images, 500)]
    return torch.stack(answers).any(0).float().mean().item()


def train(
    model: nn.Module, images: Tensor, labels: Tensor, test: tuple[Tensor, Tensor], epochs: int, seed: int
) -> None:
    """Train in place: Adam, one-cycle schedule, no weight decay; prints a line an epoch.

    Weight decay is left out on purpose: it smooths the filters of the first layer or silences them.
    """
    generator = torch.Generator().manual_seed(seed)
    padded = F.pad(images, (SHIFT,) * 4)
    steps = len(images) // BATCH
    optimizer = torch.optim.Adam(model.parameters(), lr=PEAK_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=epochs * steps)
    start = time.perf_counter()
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        order = torch.randperm(len(images), generator=generator)[: steps * BATCH]
        for chosen in order.view(steps, BATCH):
            logits = model(unit(augmented(padded[chosen], generator)))
            loss = F.cross_entropy(logits, labels[chosen], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item()
        accuracy = (torch_predictions(model, test[0]) == test[1]).float().mean().item()
        seconds = time.perf_counter() - start
        print(f"epoch {epoch:3d}/{epochs}  loss {total / steps:.4f}  test {accuracy:.4f}  {seconds:6.0f} s", flush=True)


def export(model: nn.Module, path: Path) -> None:
    """Write the network as ONNX opset 17: `image` (N, 3, 32, 32) → `logits` (N, 10), N free."""
    model.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # The older exporter keeps the module names in nodes and initializers: /conv1/Conv, conv1.weight.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (torch.zeros(1, 3, 32, 32),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        )


def description(
    classes: tuple[str, ...], accuracy: float, train_images: int, test_images: int, epochs: int, seed: int
) -> dict[str, object]:
    """What the file beside the network says about it."""
    return {
        "name": "cifar10_cnn",
        "architecture": (
            "conv1 32 3x3 same, conv2 32 3x3 valid, max-pool 2, conv3 64 3x3 same, conv4 64 3x3 valid, max-pool 2, "
            "dense1 512, dense2 10 (logits); ReLU after every layer but the last, dropout in training, no BatchNorm."
        ),
        "source": "The Keras team's cifar10_cnn example, trained by us with examples/train_demo.py.",
        "data": (
            f"CIFAR-10 (Krizhevsky 2009): {train_images:,} training images coded as WebP of quality 80, "
            f"{test_images:,} unchanged test images."
        ),
        "preprocess": "unit",
        "classes": classes,
        "test_images": test_images,
        "test_accuracy": round(accuracy, 4),
        "epochs": epochs,
        "seed": seed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the CIFAR-10 demo network and export it to ONNX.")
    parser.add_argument("--data", type=Path, required=True, help="folder of cifar10_train*.npz and cifar10_test*.npz")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("cifar10_cnn.onnx"), help="a .json goes beside it")
    parser.add_argument("--quick", action="store_true", help="one epoch, to try the script")
    arguments = parser.parse_args()
    data = read_cifar10_packed(arguments.data)  # what the description says of the images is true of these alone
    if data is None:
        parser.error(f"{arguments.data}: no cifar10_train*.npz and cifar10_test*.npz; see examples/README.md")
    epochs = 1 if arguments.quick else arguments.epochs

    torch.set_num_threads(THREADS)
    torch.manual_seed(arguments.seed)
    images, labels = tensors(data.train)
    test_images, test_labels = tensors(data.test)
    model = cifar10_keras()
    train(model, images, labels, (test_images, test_labels), epochs, arguments.seed)

    export(model, arguments.out)
    in_torch = torch_predictions(model, test_images)
    in_onnx = onnx_predictions(arguments.out, test_images)
    differing = int((in_torch != in_onnx).sum())
    if differing > 1:
        sys.exit(f"{arguments.out}: torch and ONNX Runtime differ on {differing} test images; do not use this file")
    accuracy = (in_onnx == test_labels).double().mean().item()
    facts = description(data.classes, accuracy, len(images), len(test_images), epochs, arguments.seed)
    arguments.out.with_suffix(".json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    fires = first_layer_that_fires(model, test_images)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes, test {accuracy:.4f} in ONNX Runtime")
    print(f"{differing} predictions differ from torch's; {fires:.0%} of the conv1 units fire on the test images")


if __name__ == "__main__":
    main()
