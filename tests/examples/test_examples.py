"""The examples: the networks layer by layer, the readers of published files, a training that learns, the command."""

import gzip
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.paths import ROOT, SUPPORT

sys.path.append(str(ROOT / "examples"))

import networks_pytorch
import train
from data_files import CIFAR10_CLASSES, DataError, Part, load

EXAMPLES = Path(train.__file__).parent
DIGIT, PHOTO = (1, 28, 28), (3, 32, 32)

MNIST = [
    *("conv1 64 5x5 valid", "relu", "pool 2"),
    *("conv2 32 5x5 valid", "relu", "pool 2"),
    *("flatten", "dense1 10"),
]
TENSORFLOW = [
    *("conv1 32 5x5 same", "relu", "pool 2"),
    *("conv2 64 5x5 same", "relu", "pool 2"),
    *("flatten", "dense1 1024", "relu", "dense2 512", "relu", "dropout 0.5", "dense3 10"),
]
TWO_BLOCKS = [
    *("conv1 32 3x3 same", "relu", "conv2 32 3x3 valid", "relu", "pool 2", "dropout 0.25"),
    *("conv3 64 3x3 same", "relu", "conv4 64 3x3 valid", "relu", "pool 2", "dropout 0.25"),
    *("flatten", "dense1 512", "relu", "dropout 0.5", "dense2 10"),
]
NORMED = [word for layer in TWO_BLOCKS for word in ([layer, "norm"] if layer == "relu" else [layer])]

# (kernel · inputs + bias) · outputs, layer after layer. Maps are 28 → 24 → 12 → 8 → 4 wide in the first network,
# 32 → 16 → 8 in the second, 32 → 30 → 15 → 13 → 6 in the others.
MNIST_SIZE = (25 + 1) * 64 + (25 * 64 + 1) * 32 + (4 * 4 * 32 + 1) * 10
TENSORFLOW_SIZE = (25 * 3 + 1) * 32 + (25 * 32 + 1) * 64 + (8 * 8 * 64 + 1) * 1024 + (1024 + 1) * 512 + (512 + 1) * 10
TWO_BLOCKS_SIZE = (
    *((9 * 3 + 1) * 32, (9 * 32 + 1) * 32, (9 * 32 + 1) * 64, (9 * 64 + 1) * 64),
    *((6 * 6 * 64 + 1) * 512, (512 + 1) * 10),
)
NORMS_SIZE = 2 * (32 + 32 + 64 + 64 + 512)

NETWORKS = [  # factory, input (C, H, W), layers, trained numbers
    ("mnist", DIGIT, MNIST, MNIST_SIZE),
    ("svhn", PHOTO, TWO_BLOCKS, sum(TWO_BLOCKS_SIZE)),
    ("svhn_batchnorm", PHOTO, NORMED, sum(TWO_BLOCKS_SIZE) + NORMS_SIZE),
    ("cifar10_tensorflow", PHOTO, TENSORFLOW, TENSORFLOW_SIZE),
    ("cifar10_keras", PHOTO, TWO_BLOCKS, sum(TWO_BLOCKS_SIZE)),
]
each_network = pytest.mark.parametrize(("name", "shape", "layers", "size"), NETWORKS, ids=[row[0] for row in NETWORKS])


def words(name, layer):
    """A torch layer as the table writes it."""
    match layer:
        case torch.nn.Conv2d():
            height, width = layer.kernel_size
            return f"{name} {layer.out_channels} {height}x{width} {'same' if layer.padding == 'same' else 'valid'}"
        case torch.nn.Linear():
            return f"{name} {layer.out_features}"
        case torch.nn.MaxPool2d():
            return f"pool {layer.kernel_size}"
        case torch.nn.Dropout():
            return f"dropout {layer.p}"
        case torch.nn.BatchNorm1d() | torch.nn.BatchNorm2d():
            return "norm"
    return type(layer).__name__.lower()


def twin(name):
    """The torch network with random weights and BatchNorm statistics, none of them equal by accident."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        network = getattr(networks_pytorch, name)().eval()
        for values in (*network.parameters(), *network.buffers()):
            if values.ndim == 1:
                values.uniform_(0.5, 1.5)
    return network


def noise(shape, count=2):
    return np.random.default_rng(5).random((count, *shape), np.float32)


def answers(network, images):
    with torch.inference_mode():
        return network(torch.from_numpy(images)).numpy()


def digits(count=256):
    """Pictures of one bright row each, whose place is the class: soon learnt. (N, 28, 28) uint8 and (N,) uint8."""
    labels = np.arange(count, dtype=np.uint8) % 10
    images = np.zeros((count, 28, 28), np.uint8)
    images[np.arange(count), 2 + 2 * labels] = 255
    return images, labels


def save_digits(folder):
    images, labels = digits()
    np.savez(folder / "mnist.npz", x_train=images, y_train=labels, x_test=images[:50], y_test=labels[:50])


@pytest.fixture(scope="module")
def keras_tells(tmp_path_factory):
    """What keras_examples.py says of the Keras networks, given the twins' weights."""
    if find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    folder = tmp_path_factory.mktemp("keras")
    (folder / "twins").mkdir()
    for name, shape, _, _ in NETWORKS:
        weights = {key: values.numpy() for key, values in twin(name).state_dict().items()}
        np.savez(folder / "twins" / f"{name}.npz", images=noise(shape), **weights)
    save_digits(folder)
    script = SUPPORT / "keras_examples.py"
    environment = os.environ | {"KERAS_BACKEND": "torch", "PYTHONPATH": str(EXAMPLES), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, script, folder], env=environment, check=True, stderr=subprocess.PIPE)
    return json.loads((folder / "told.json").read_text(encoding="utf-8"))


@each_network
def test_network_in_pytorch_has_the_layers_of_the_paper(name, shape, layers, size):
    network = getattr(networks_pytorch, name)()
    assert [words(*item) for item in network.named_children()] == layers
    assert sum(values.numel() for values in network.parameters()) == size
    assert answers(network.eval(), noise(shape)).shape == (2, 10)


@each_network
def test_network_in_keras_has_the_same_layers(name, shape, layers, size, keras_tells):
    told = keras_tells["networks"][name]
    assert (told["layers"], told["parameters"]) == (layers, size)


@each_network
def test_twins_answer_alike_when_they_have_the_same_weights(name, shape, layers, size, keras_tells):
    expected = answers(twin(name), noise(shape))
    scale = np.abs(expected).max()
    assert scale > 0.1
    np.testing.assert_allclose(keras_tells["networks"][name]["answers"], expected, atol=1e-5 * scale)


PICTURES = {part: np.random.default_rng(len(part)).integers(0, 256, (10, 32, 32, 3), np.uint8) for part in ("a", "bc")}
LABELS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 0, 5], np.uint8)


def idx(array):
    """An IDX file of bytes, as the page of MNIST describes it."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


def mnist_as_idx(folder, packed=False):
    images, labels = digits(12)
    files = {"train-images-idx3": images, "train-labels-idx1": labels, "t10k-images-idx3": images[:5]}
    for name, array in (files | {"t10k-labels-idx1": labels[:5]}).items():
        data = idx(array)
        (folder / f"{name}-ubyte{'.gz' * packed}").write_bytes(gzip.compress(data) if packed else data)


def svhn_as_mat(folder):
    savemat = pytest.importorskip("scipy.io").savemat
    for part, pictures in zip(("train", "test"), PICTURES.values(), strict=True):
        labels = np.where(LABELS == 0, 10, LABELS)[:, None]  # the digit 0 is class 10 there
        savemat(folder / f"{part}_32x32.mat", {"X": pictures.transpose(1, 2, 3, 0), "y": labels}, do_compression=True)


class Python2Pickler(pickle._Pickler):
    """Writes byte strings as Python 2 did, which wrote the batches of CIFAR-10."""

    def save_string(self, value):
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch = pickle._Pickler.dispatch | {bytes: save_string}


def batch(pictures, labels):
    file = io.BytesIO()
    data = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).reshape(len(pictures), -1)
    Python2Pickler(file, protocol=2).dump({b"data": data, b"labels": labels.tolist()})
    written = file.getvalue()
    assert written.count(b"cnumpy._core.multiarray\n") == 1
    return written.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")  # its place before NumPy 2


def cifar10_batches():
    train_part, test_part = PICTURES.values()
    files = {f"data_batch_{i + 1}": batch(train_part[2 * i : 2 * i + 2], LABELS[2 * i : 2 * i + 2]) for i in range(5)}
    return files | {"test_batch": batch(test_part, LABELS)}


def cifar10_as_folder(folder):
    inner = folder / "cifar-10-batches-py"
    inner.mkdir()
    for name, data in cifar10_batches().items():
        (inner / name).write_bytes(data)


def cifar10_as_archive(folder):
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name, data in cifar10_batches().items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def cifar10_as_npz(folder):
    for part, pictures in zip(("train", "test"), PICTURES.values(), strict=True):
        files = []
        for picture in pictures:
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "png")
            files.append(file.getvalue())
        offsets = np.cumsum([0, *map(len, files)])
        data = np.frombuffer(b"".join(files), np.uint8)
        np.savez(folder / f"cifar10_{part}_10.npz", data=data, offsets=offsets, labels=LABELS, classes=CIFAR10_CLASSES)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_mnist_is_read_from_the_files_of_its_page(packed, tmp_path):
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)  # where torchvision puts them
    mnist_as_idx(tmp_path / "MNIST" / "raw", packed)
    data = load("mnist", tmp_path)
    images, labels = digits(12)
    np.testing.assert_array_equal(data.train.images, images[..., None])
    np.testing.assert_array_equal(data.test.images, images[:5, :, :, None])
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == (labels.tolist(), labels[:5].tolist())


def test_mnist_is_read_from_the_file_of_keras(tmp_path):
    save_digits(tmp_path)
    data = load("mnist", tmp_path)
    np.testing.assert_array_equal(data.train.images, digits()[0][..., None])
    assert data.test.labels.tolist() == digits()[1][:50].tolist()


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("svhn", svhn_as_mat),
        ("cifar10", cifar10_as_folder),
        ("cifar10", cifar10_as_archive),
        ("cifar10", cifar10_as_npz),
    ],
)
def test_colour_pictures_are_read_from_their_published_files(name, write, tmp_path):
    write(tmp_path)
    data = load(name, tmp_path)
    for part, pictures in zip((data.train, data.test), PICTURES.values(), strict=True):
        np.testing.assert_array_equal(part.images, pictures)
        assert part.labels.dtype == np.int64
        assert part.labels.tolist() == LABELS.tolist()
    assert data.classes[1] == {"svhn": "1", "cifar10": "automobile"}[name]


@pytest.mark.parametrize(
    ("name", "page", "files"),
    [
        ("mnist", "http://yann.lecun.com/exdb/mnist/", "train-images-idx3-ubyte.gz"),
        ("svhn", "http://ufldl.stanford.edu/housenumbers/", "train_32x32.mat and test_32x32.mat"),
        ("cifar10", "https://www.cs.toronto.edu/~kriz/cifar.html", "cifar-10-python.tar.gz"),
    ],
)
def test_missing_data_is_named_with_the_page_that_has_it(name, page, files, tmp_path, capsys):
    network = {"cifar10": "cifar10_keras"}.get(name, name)
    assert train.main([network, "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {tmp_path}: no ")
    assert page in message
    assert files in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_svhn_without_scipy_is_told_what_to_install(tmp_path, monkeypatch):
    for part in ("train", "test"):
        (tmp_path / f"{part}_32x32.mat").touch()
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match="pip install scipy"):
        load("svhn", tmp_path)


def test_keras_where_it_is_missing_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "find_spec", lambda _: None)
    assert train.main(["mnist", "--framework", "keras", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "Keras is not installed: pip install" in capsys.readouterr().err


def test_batch_that_is_a_program_is_not_run(tmp_path):
    cifar10_as_folder(tmp_path)
    harmful = b"cos\nsystem\n(S'touch harm'\ntR."
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(harmful)
    with pytest.raises(DataError, match=r"holds no os\.system"):
        load("cifar10", tmp_path)


def test_truncated_file_is_told_to_be_fetched_again(tmp_path):
    mnist_as_idx(tmp_path, packed=True)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"MNIST cannot be read .* get it again"):
        load("mnist", tmp_path)


def test_lessons_show_every_image_once_an_epoch_moved_by_at_most_the_shift():
    spots = np.zeros((300, 9, 9, 1), np.uint8)
    spots[:, 4, 4, 0] = 255
    labels = np.arange(300)
    lessons = train.Lessons(Part(spots, labels), 2, 128, 2, 0)
    batches = list(lessons)
    assert [len(shown) for _, shown in batches] == [128, 128, 44, 128, 128, 44]
    assert lessons.batches_per_epoch == 3
    epochs = np.concatenate([shown for _, shown in batches]).reshape(2, 300)
    np.testing.assert_array_equal(np.sort(epochs), [labels, labels])
    assert not np.array_equal(*epochs)
    images = np.concatenate([images for images, _ in batches])
    assert (images.dtype, images.max(), np.count_nonzero(images)) == (np.float32, 1, 600)
    places = {(int(y), int(x)) for _, y, x, _ in np.argwhere(images)}
    assert places == {(y, x) for y in range(2, 7) for x in range(2, 7)}


def losses(printed):
    """The training losses in the order of the epochs, from what either framework prints."""
    return [float(number) for number in re.findall(r"(?<!_)loss:? ([\d.]+)", printed)]


def test_pytorch_learns_and_its_weights_fit_the_factory_again(tmp_path, capsys):
    images, labels = digits()
    part = Part(images[..., None], labels.astype(np.int64))
    file, accuracy = train.train_pytorch("mnist", train.Lessons(part, 6, 32, 0, 0), part.first(50), tmp_path)
    history = losses(capsys.readouterr().out)
    assert len(history) == 6
    assert history[-1] < 0.5 * history[0]

    network = networks_pytorch.mnist().eval()
    network.load_state_dict(torch.load(file, weights_only=True))
    logits = answers(network, images[:50, None].astype(np.float32) / 255)
    assert (logits.argmax(1) == labels[:50]).mean() == accuracy


def test_keras_learns_and_saves_the_layers_under_their_names(keras_tells):
    training = keras_tells["training"]
    history = losses(training["printed"])
    assert len(history) == 6
    assert history[-1] < 0.5 * history[0]
    assert [name for name in training["saved"] if name[:4] in ("conv", "dens")] == ["conv1", "conv2", "dense1"]
    assert training["accuracy"] > 0.3


def test_quick_training_ends_with_the_command_that_analyses_it(tmp_path, capsys, monkeypatch):
    save_digits(tmp_path)
    monkeypatch.chdir(EXAMPLES.parent)
    out = tmp_path / "out"
    assert train.main(["mnist", "--quick", "--no-analyze", "--data", str(tmp_path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "mnist: 1 × 256 images, in pytorch"
    assert printed[-1] == (
        f"$ filterscope analyze examples/networks_pytorch.py:mnist --weights {out}/mnist.pth --input-channels 1 "
        f"--input-size 28x28 --preprocess unit --images {out}/mnist_images.npz --labels {out}/mnist_classes.txt "
        f"--out {out}/mnist-pytorch-filterscope"
    )
    with np.load(out / "mnist_images.npz") as shown:
        assert (shown["x"].shape, shown["y"].tolist()) == ((50, 28, 28, 1), digits()[1][:50].tolist())
    assert (out / "mnist_classes.txt").read_text(encoding="utf-8").split() == list("0123456789")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnist", "--batchnorm"], "--batchnorm goes with svhn"),
        (["mnist", "--epochs", "0"], "--epochs 0: give 1 or more"),
        (["lenet"], "invalid choice: 'lenet'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        train.main([*arguments, "--data", ".", "--out", "."])
    assert message in capsys.readouterr().err


def test_example_ends_with_a_report_on_the_layers_that_were_trained(tmp_path):
    save_digits(tmp_path)
    out = tmp_path / "out"
    command = [sys.executable, "examples/train.py", "mnist", "--quick", "--data", tmp_path, "--out", out]
    done = subprocess.run(command, cwd=EXAMPLES.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = out / "mnist-pytorch-filterscope"
    assert done.stdout.splitlines()[-1] == str(run / "site" / "index.html")
    layers = json.loads((run / "layers.json").read_text(encoding="utf-8"))["layers"]
    assert [(layer["name"], layer["out_channels"]) for layer in layers] == [("conv1", 64), ("conv2", 32)]
    told = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert (told["status"], told["input"]["preprocessing"]["name"]) == ("complete", "unit")
