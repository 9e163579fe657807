"""How much of the world of networks opens: `make coverage` writes docs/coverage.md.

A row a network: worst error of its import node by node and at any conv layer end to end, at batch 1 and 3, how far a
picture's values in a batch of 3 are from those that it has alone, and whether ascent raises a channel of the first, the
middle and the last conv layer. What is refused stands there with the reason. Each network is opened in a process of its
own. Rows are kept in docs/coverage.json, so that some can be made again, and so may be what other projects' exporters
wrote:

    python benchmarks/network_coverage.py --only 'timm/resnet*' --jobs 2 --exports FOLDER
"""

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx

sys.path.insert(0, str(Path(__file__).parent))

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "models"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
DOCS = Path(__file__).resolve().parents[1] / "docs"
SECONDS = 1200  # that one network may take
CONSTANT_WEIGHTS = "onnx package"

HEAD = """# Coverage

Made by `make coverage`. **Nodes** is the worst relative error of any node, of the file against its canonical form and
of that against torch; **layers** the worst error at any conv layer when torch runs the whole network by itself. Both
are the larger of batch 1 and batch 3. **Alone** is the worst relative difference, at any conv layer or output, between
pictures in a batch of 3 and each of them alone; above 1e-4 a network is computed one picture at a time, as is one that
takes no batch. **Raised**: of the first, the middle and the last conv layer, how many have a
channel among the first eight that ascent of quality `draft` lifts above the best of 16 random images. **Seconds** are
for opening and proving, in a process that shares two cores with another and, in this recording, with other work; they
tell no more than the order of magnitude. Networks of timm and keras.applications have
random weights, biases and BatchNorm statistics; those of the onnx package one constant nearly everywhere, which leaves
deep layers the same answer to every image and nothing to raise. "10 of 10": so many of them open with both errors at
most {limit:.4g} and rise in all three layers; those of the onnx package need not rise.

"""


@dataclass(frozen=True)
class Case:
    """A network and how it comes to be."""

    group: str
    name: str
    exporter: str
    make: Callable[[Path], tuple[str, dict[str, object]]]  # folder → source to open and options of open_network

    @property
    def key(self) -> str:
        """What --only matches, and the row's name in coverage.json."""
        return f"{self.group}/{self.name}" + (f"/{self.exporter}" if self.exporter else "")


@dataclass(frozen=True)
class Row:
    """What came of it; numbers are None where it was refused."""

    key: str
    group: str
    name: str
    exporter: str
    opset: int | None = None
    layers: int | None = None
    nodes_error: float | None = None
    layers_error: float | None = None
    raised: int | None = None
    seconds: float | None = None
    refused: str = ""
    alone_error: float | None = None  # None: no batch was run, or the row is older than this column
    one_at_a_time: bool = False

    @property
    def passed(self) -> bool:
        """Whether the network opens, agrees and can be raised everywhere that weights let it."""
        from filterscope.converters.parity import AGREES

        errors = (self.nodes_error, self.layers_error)
        agrees = all(error is not None and error <= AGREES for error in errors)
        return agrees and (self.raised == 3 or self.group == CONSTANT_WEIGHTS)


def cases() -> Iterator[Case]:
    """Every network, the quick ones first."""
    for path in sorted((DATA / "onnx").glob("*.onnx")):
        yield Case("real ONNX", path.stem, "", lambda _, path=path: (str(path), {}))
    for path in sorted((DATA / "keras").iterdir()):
        yield Case("real Keras", path.stem, "tf2onnx", lambda _, path=path: (str(path), {}))
    for network, weights in (
        ("resnet20", "resnet20_cifar10-12fca82f.th"),
        ("mobilenet_v2", "mobilenetv2_features_imagenet.pt"),
    ):
        factory = str(Path(__file__).parent / f"real_pytorch.py:{network}")
        given: dict[str, object] = {"weights": DATA / "pytorch" / weights}
        yield Case("real PyTorch", weights, "torch", lambda _, factory=factory, given=given: (factory, given))
    for path in sorted(LIGHT.glob("light_*.onnx")):
        yield Case(CONSTANT_WEIGHTS, path.stem, "", lambda _, path=path: (str(path), {"limits": _of_constants()}))
    import timm_networks

    for name in timm_networks.NAMES:
        for exporter in ("dynamo", "legacy"):
            yield Case("timm", name, exporter, lambda folder, n=name, e=exporter: _timm(n, e, folder))
    import keras_networks

    for name in keras_networks.NAMES:
        yield Case("keras.applications", name, "tf2onnx", lambda folder, name=name: _keras(name, folder))


def _of_constants() -> object:
    """Limits for files of some kilobytes whose weights, up to 574 MB, are made when they are opened."""
    from filterscope.analyzer.boundary.limits import Limits

    return Limits(memory=12 << 30, seconds=300)


def _timm(name: str, exporter: str, folder: Path) -> tuple[str, dict[str, object]]:
    import timm_networks

    path = timm_networks.path_of(name, exporter, folder)
    return str(path if path.is_file() else timm_networks.export(name, exporter, folder)), {}


def _keras(name: str, folder: Path) -> tuple[str, dict[str, object]]:
    import keras_networks

    path = folder / f"{name}.keras"
    return str(path if path.is_file() else keras_networks.save(name, folder)), {}


def measure(case: Case, exports: Path | None) -> Row:
    """Open, prove, raise; what is exported is kept in `exports`, or taken from there."""
    from filterscope.analyzer.boundary.opening import open_network
    from filterscope.converters.errors import FilterscopeError

    with tempfile.TemporaryDirectory() as place:
        folder = exports or Path(place)
        try:
            source, options = case.make(folder)
        except Exception as error:  # whatever another project's exporter raises
            said = " ".join(str(error).split())[:160]
            return Row(case.key, case.group, case.name, case.exporter, refused=f"not exported: {said}")
        started = time.perf_counter()
        try:
            network = open_network(source, **options)
            parity = network.prove()
        except FilterscopeError as error:
            reason = " ".join(str(error).replace(f"{folder}/", "").replace(f"{DATA}/", "").split())
            return Row(case.key, case.group, case.name, case.exporter, refused=reason[:300])
        seconds = time.perf_counter() - started
        return Row(
            case.key,
            case.group,
            case.name,
            case.exporter,
            network.model.opset,
            len(network.layers),
            max(parity.original.error, parity.nodes.error),
            parity.end_to_end.error,
            raised(network),
            round(seconds, 1),
            alone_error=parity.alone.summary()["worst"],
            one_at_a_time=parity.alone.one_at_a_time,
        )


def alone(row: Row) -> str:
    """The cell of comparison C."""
    number = "" if row.alone_error is None else f"{row.alone_error:.1e}"
    return f"{number} (one at a time)".strip() if row.one_at_a_time else number


def raised(network) -> int:
    """Of the first, the middle and the last layer, how many have a channel of the first eight that ascent raises."""
    from filterscope.analyzer.compute.devices import choose_devices
    from filterscope.analyzer.execution.plan import Task
    from filterscope.analyzer.execution.tasks import Workshop, run_task
    from filterscope.analyzer.maximize.presets import Recipe, preset_named, quality_named

    shop = Workshop(network, Recipe(preset_named("filterscope"), quality_named("draft")), 0, choose_devices("cpu"))
    flat = [layer for layer in network.layers if layer.has_maps]  # the others are listed and not raised

    def rises(layer, channels: tuple[int, ...]) -> bool:
        rows, _ = run_task(shop, Task(layer.name, "channel", "ascent", channels, recipe=shop.recipe))
        return any(row["activation"] > row["random"] for row in rows)

    count = 0
    for layer in (flat[0], flat[len(flat) // 2], flat[-1]):
        first = range(min(8, layer.out_channels))
        count += any(rises(layer, tuple(first[k : k + 2])) for k in range(0, len(first), 2))  # most often, two do
    return count


def apart(case: Case, exports: Path | None) -> Row:
    """`measure` in a process of its own: one network's crash or memory is its own."""
    try:
        with tempfile.TemporaryDirectory() as cache:  # each is opened and not remembered
            ended = subprocess.run(
                [sys.executable, __file__, "--one", case.key, *(["--exports", str(exports)] if exports else [])],
                env=os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": cache},
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
        return Row(**json.loads(ended.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        reason = f"not done after {SECONDS} s"
    except (IndexError, ValueError, TypeError):
        reason = f"crashed: {' '.join(ended.stderr.split())[-200:]}"
    return Row(case.key, case.group, case.name, case.exporter, refused=reason)


def table(rows: list[Row]) -> str:
    """The page's part on networks."""
    parts = []
    for group in dict.fromkeys(row.group for row in rows):
        own = [row for row in rows if row.group == group]
        parts.append(f"## {group}: {sum(row.passed for row in own)} of {len(own)}\n")
        parts.append("| network | exporter | opset | conv layers | nodes | layers | alone | raised | seconds |")
        parts.append("|---|---|---|---|---|---|---|---|---|")
        for row in own:
            if row.refused:
                parts.append(f"| {row.name} | {row.exporter} | | | {row.refused.replace('|', '/')} | | | | |")
            else:
                parts.append(
                    f"| {row.name} | {row.exporter} | {row.opset} | {row.layers} | {row.nodes_error:.1e} "
                    f"| {row.layers_error:.1e} | {alone(row)} | {row.raised} of 3 | {row.seconds} |"
                )
        parts.append("")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="make again the rows whose keys match; keep the others")
    parser.add_argument("--jobs", type=int, default=2, help="networks side by side")
    parser.add_argument("--no-operators", action="store_true", help="keep the operators' table")
    parser.add_argument("--exports", type=Path, help="folder of exported networks, kept and used again")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    from filterscope.converters.parity import AGREES

    known = {case.key: case for case in cases()}
    if options.one:
        print(json.dumps(asdict(measure(known[options.one], options.exports))))
        return
    store = DOCS / "coverage.json"
    kept = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {"networks": {}, "operators": []}
    chosen = [case for key, case in known.items() if fnmatch.fnmatch(key, options.only)]
    with ThreadPoolExecutor(options.jobs) as pool:
        for row in pool.map(lambda case: apart(case, options.exports), chosen):
            kept["networks"][row.key] = asdict(row)
            print(row.key, "passed" if row.passed else row.refused or row, flush=True)
            store.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    if not options.no_operators:
        import operators

        kept["operators"] = operators.rows()
        store.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    rows = [Row(**kept["networks"][key]) for key in known if key in kept["networks"]]
    head = HEAD.format(limit=AGREES)
    (DOCS / "coverage.md").write_text(head + table(rows) + "\n" + "\n".join(kept["operators"]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
