"""What `filterscope inspect` prints: the layers as a table of 100 columns, the input, the totals, the parity.

Knows an opened network; computes nothing.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from analyzer.ultralytics import export_of

if TYPE_CHECKING:
    from analyzer.layers import ConvLayer
    from analyzer.network import Network
    from converters.errors import Convolution
    from converters.parity import Parity

WIDTH = 100
SCHEMA = 1
COLUMNS = "{:>3}  {:<27} {:<10} {:>11} {:>9} {:>9} {:>7} {:>7} {}"
HEAD = COLUMNS.format("#", "layer", "kernel", "channels", "output", "field", "params", "MACs", "then")


def table(network: Network) -> str:
    """A line a layer."""
    return "\n".join([HEAD, *(_line(layer) for layer in network.layers)])


def raw_table(convolutions: tuple[Convolution, ...]) -> str:
    """The same for a network that cannot be opened: what its nodes and weights alone tell."""
    return "\n".join([HEAD, *(_raw_line(index, convolution) for index, convolution in enumerate(convolutions))])


def totals(network: Network) -> str:
    """Sums, and the input as understood."""
    channels = sum(layer.out_channels for layer in network.layers)
    spec = network.input
    export = export_of(network.model.metadata)
    order = f", {spec.preprocessing.order}" if spec.channels == 3 else ""
    lines = [
        f"{len(network.layers)} convolution layers, {channels:,} channels; whole network {short(network.parameters)} "
        f"parameters, {short(network.macs)} MACs.",
        f"Input {plain(spec.name)}: {spec.layout}, {spec.channels} channel{'s' if spec.channels != 1 else ''}, "
        f"{spec.height}×{spec.width}{order}, preprocessing {spec.preprocessing.name} "
        f"({_range(network)}).",
        plain(spec.why),
        *([plain(spec.size_why)] if spec.size_why else []),
        *([] if export is None else [plain(export.sentence())]),
        *(plain(note) for note in network.model.notes),
    ]
    return "\n".join(lines)


def parity_lines(parity: Parity) -> str:
    """Both comparisons in words."""
    lines = [
        f"Original and canonical form agree to {parity.original.error:.1e} (worst at {plain(parity.original.node)}), "
        f"canonical form and torch to {parity.nodes.error:.1e}",
        f"(worst at {plain(parity.nodes.node)}), node by node at batch 1 and 3; at the convolutions end to end "
        f"{parity.end_to_end.error:.1e}. Limit 1e-4, refused above 1e-3.",
        *(f"Warning: {plain(warning)}" for warning in parity.warnings),
    ]
    return "\n".join(lines)


def as_json(network: Network, parity: Parity | None) -> dict[str, Any]:
    """Everything, versioned (docs/run-format.md)."""
    spec = network.input
    return {
        "schema": SCHEMA,
        "model": network.to_json(),
        "input": {
            "name": spec.name,
            "layout": spec.layout,
            "channels": spec.channels,
            "height": spec.height,
            "width": spec.width,
            "preprocessing": spec.preprocessing.name,
            "high": spec.preprocessing.high,
            "mean": list(spec.preprocessing.mean),
            "std": list(spec.preprocessing.std),
            "order": spec.preprocessing.order,
            "why": spec.why,
            "certain": spec.certain,
            "size_why": spec.size_why,
            "size_certain": spec.size_certain,
        },
        "layers": [
            layer.to_json() | {"parity": None if parity is None else parity.layers.get(layer.node)}
            for layer in network.layers
        ],
        "parity": None if parity is None else parity.summary(),
    }


def short(number: int) -> str:
    """1234567 → 1.23M."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


def plain(text: str) -> str:
    """Text from a file without control characters, which a terminal would obey."""
    return "".join("�" if unicodedata.category(character).startswith("C") else character for character in text)


def _line(layer: ConvLayer) -> str:
    kernel = "×".join(map(str, layer.kernel))
    if layer.stride != (1,) * layer.rank:
        kernel += f"/{layer.stride[0]}"
    if layer.dilation != (1,) * layer.rank:
        kernel += f" d{layer.dilation[0]}"
    if layer.op == "ConvTranspose":
        kernel += " up"
    if layer.groups > 1:
        kernel += " dw" if layer.groups == layer.in_channels else f" g{layer.groups}"
    output = "×".join(map(str, layer.output_shape[1:]))
    cells = COLUMNS.format(
        layer.index,
        _clipped(plain(layer.name), 27),
        kernel,
        f"{layer.in_channels}→{layer.out_channels}",
        output,
        _field(layer),
        short(layer.parameters),
        short(layer.macs),
        layer.nonlinearity,
    )
    return cells[:WIDTH]


def _raw_line(index: int, convolution: Convolution) -> str:
    before, after = (str(c or "?") for c in (convolution.in_channels, convolution.out_channels))
    kernel = "×".join(map(str, convolution.kernel)) or "?"
    if any(step != 1 for step in convolution.stride):
        kernel += f"/{convolution.stride[0]}"
    if convolution.groups > 1:
        kernel += " dw" if convolution.groups == convolution.in_channels else f" g{convolution.groups}"
    parameters = short(convolution.parameters) if convolution.parameters is not None else "?"
    name = _clipped(plain(convolution.name), 27)
    cells = COLUMNS.format(index, name, kernel, f"{before}→{after}", "?", "?", parameters, "?", "?")
    return cells[:WIDTH]


def _field(layer: ConvLayer) -> str:
    if layer.rank != 2:
        return f"{layer.rank}-d"
    if layer.field is None:
        return "global"
    return "×".join(map(str, layer.field.size)) + ("*" if layer.is_global else "")


def _clipped(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[-(width - 1) :]


def _range(network: Network) -> str:
    low, high = network.input.domain()
    if len(set(low)) == len(set(high)) == 1:
        return f"values {low[0] + 0.0:.4g} to {high[0]:.4g}"
    return "values " + ", ".join(f"{a:.3g} to {b:.3g}" for a, b in zip(low, high, strict=True))
