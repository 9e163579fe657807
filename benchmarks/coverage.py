"""How much of the world of networks opens: `make coverage` writes docs/coverage.md.

A row an ONNX file of a folder: conv layers, parity of the import at batch 1 and 3, and whether ascent raises a channel
of the first, the middle and the last conv layer. Files that are refused stand there with the reason.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from analyzer.canvas import canvas_for
from analyzer.maximize.engine import ascend, choose_device
from analyzer.maximize.presets import quality
from analyzer.measure import Meter
from analyzer.network import Network, open_network
from converters.errors import FilterscopeError

HEAD = """# Coverage

Made by `make coverage` from the ONNX files of ../shared/data/models/onnx. Parity is the worst relative error, node by
node, of the file against its canonical form and of that against torch, at batch 1 and 3. Raised: ascent of quality
`draft` lifts one channel of the first, the middle and the last conv layer above the best of 16 random images.

| network | producer | opset | conv layers | channels | parity | raised | open and prove, s |
|---|---|---|---|---|---|---|---|
"""


def row(path: Path) -> str:
    """One line of the table."""
    started = time.perf_counter()
    try:
        network = open_network(path)
        parity = network.prove()
    except FilterscopeError as error:
        return f"| {path.name} | | | | | refused: {str(error).removeprefix(f'{path}: ')} | | |"
    seconds = time.perf_counter() - started
    worst = max(parity.original.error, parity.nodes.error)
    channels = sum(layer.out_channels for layer in network.layers)
    model = network.model
    return (
        f"| {path.name} | {model.producer or '–'} | {model.opset} | {len(network.layers)} | {channels:,} | {worst:.1e} "
        f"| {raised(network)} of 3 | {seconds:.1f} |"
    )


def raised(network: Network) -> int:
    """Of the first, the middle and the last layer, how many have a channel of the first eight that ascent raises."""
    count = 0
    device = choose_device("cpu")
    draft = quality("draft")
    for layer in (network.layers[0], network.layers[len(network.layers) // 2], network.layers[-1]):
        canvas = canvas_for(network, layer, "channel", draft.cap)
        channels = np.arange(min(8, layer.out_channels))
        found = ascend(network, layer, canvas, "channel", channels.tolist(), draft, 0, device)
        meter = Meter(network, layer, canvas)
        count += bool((meter.activation(found.tiles, channels) > meter.best_of_random()[channels]).any())
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("../shared/data/models/onnx"))
    parser.add_argument("--out", type=Path, default=Path("docs/coverage.md"))
    options = parser.parse_args()
    files = sorted(options.folder.glob("*.onnx"))
    if not files:
        raise SystemExit(f"{options.folder}: no .onnx file; name a folder that holds some")
    lines = []
    for path in files:
        lines.append(row(path))
        print(lines[-1], flush=True)
    options.out.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
