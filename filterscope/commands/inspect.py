"""`filterscope inspect`: the layers as a table of 100 columns, the input, the totals, the proof of the import."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from filterscope.commands.opening import Opening, opens_a_model
from filterscope.commands.options import OUTPUT, as_options
from filterscope.converters.plain_text import visible

if TYPE_CHECKING:
    from filterscope.analyzer.network.layers import Layer
    from filterscope.analyzer.network.network import Network
    from filterscope.converters.errors import Convolution, ModelError, UnsupportedOperatorError
    from filterscope.converters.parity import Alone, Parity

WIDTH = 100
SCHEMA = 1
COLUMNS = "{:>3}  {:<27} {:<10} {:>11} {:>9} {:>9} {:>7} {:>7} {}"
TITLES = ("#", "layer", "kernel", "channels", "output", "field", "params", "MACs", "then")
HEAD = COLUMNS.format(*TITLES)
VALUE_TITLES = ("layer", "kind", "operator", "channels", "output", "value")
VALUES = "{:<34} {:<17} {:<18} {:>8} {:>9}  {}"


@opens_a_model
def inspect(
    opening: Opening,
    has_all: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Every value that has channels, as a tree of your modules: any of these names is a --layer.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Everything as JSON (docs/run-format.md).", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """List a network's convolution layers, its input as understood, and the proof of its import."""
    from filterscope.converters.errors import ModelError, UnsupportedOperatorError

    try:
        network = opening.open()
    except UnsupportedOperatorError as error:
        if not error.convolutions:
            raise
        refusal = error.beside_the_layers()
        typer.echo(json.dumps(raw_json(refusal), indent=1) if as_json else raw_table(refusal))
        raise refusal from error
    parity: Parity | None = None
    failure: ModelError | None = None
    if not as_json:
        typer.echo(value_tree(network) if has_all else table(network))
        typer.echo(totals(network))
    try:
        parity = network.prove()
    except ModelError as error:
        failure = error.beside_the_layers() if isinstance(error, UnsupportedOperatorError) else error
    if as_json:
        content = to_json(network, parity, failure) | ({"values": values_json(network)} if has_all else {})
        typer.echo(json.dumps(content, indent=1))
    elif parity is not None:
        typer.echo(parity_lines(parity))
    if failure is not None:
        raise failure


def table(network: Network) -> str:
    """A line a layer."""
    return "\n".join([HEAD, *(_line(layer) for layer in network.layers)])


def value_tree(network: Network) -> str:
    """A line a value in network order, below the modules that it belongs to."""
    from filterscope.analyzer.network.values import holders_of

    lines = [VALUES.format(*VALUE_TITLES)]
    above: list[str] = []
    for value in network.values:
        is_named = bool(value.paths) or value.kind == "conv"
        holders = holders_of(value.name) if is_named else above
        shared = next((i for i, (a, b) in enumerate(zip(above, holders, strict=False)) if a != b), None)
        shared = min(len(above), len(holders)) if shared is None else shared
        lines += [f"{'  ' * depth}{visible(holder)}" for depth, holder in enumerate(holders) if depth >= shared]
        above = holders
        name = f"{'  ' * len(holders)}{visible(value.name)}"
        kind = f"{value.kind}, block" if value.is_block else value.kind
        maps = "×".join(map(str, value.places))
        lines.append(VALUES.format(*(name, kind, value.op, f"{value.channels:,}", maps, visible(value.value))))
    return "\n".join(lines)


def values_json(network: Network) -> list[dict[str, Any]]:
    """The same as JSON."""
    return [
        {
            "name": value.name,
            "value": value.value,
            "paths": list(value.paths),
            "kind": value.kind,
            "block": value.is_block,
            "op": value.op,
            "channels": value.channels,
            "maps": list(value.places),
        }
        for value in network.values
    ]


def raw_table(refusal: UnsupportedOperatorError) -> str:
    """The same for a network that cannot be opened: what its nodes and weights alone tell."""
    return "\n".join([HEAD, *(_raw_line(index, convolution) for index, convolution in enumerate(refusal.convolutions))])


def raw_json(refusal: UnsupportedOperatorError) -> dict[str, Any]:
    """The same as JSON: what is not known of a network that cannot be opened is null."""
    layers = [{"index": index} | asdict(convolution) for index, convolution in enumerate(refusal.convolutions)]
    return {
        "schema": SCHEMA,
        "model": {"conv_layers": len(layers)},
        "input": None,
        "layers": layers,
        "parity": None,
        "refusal": as_options(str(refusal)),
    }


def totals(network: Network) -> str:
    """Sums, and the input as understood."""
    from filterscope.analyzer.network.ultralytics import export_of

    channels = sum(layer.out_channels for layer in network.layers)
    spec = network.input
    export = export_of(network.model.metadata)
    order = f", {spec.preprocessing.order}" if spec.channels == 3 else ""
    lines = [
        f"{len(network.layers)} convolution layers, {channels:,} channels; whole network {short(network.parameters)} "
        f"parameters, {short(network.macs)} MACs.",
        f"Input {visible(spec.name)}: {spec.layout}, {spec.channels} channel{'s' if spec.channels != 1 else ''}, "
        f"{spec.height}×{spec.width}{order}, preprocessing {spec.preprocessing.name} "
        f"({_range(network)}).",
        visible(as_options(spec.why)),
        *([visible(as_options(spec.size_why))] if spec.size_why else []),
        *([] if export is None else [visible(export.sentence())]),
        *(visible(as_options(note)) for note in network.model.notes),
        *_computed(network),
    ]
    return "\n".join(lines)


def _computed(network: Network) -> list[str]:
    """Layers that have no weights of their own."""
    names = [layer.name for layer in network.layers if not layer.is_constant]
    if not names:
        return []
    return [
        "Kernel or bias computed by the network itself, so that there are no weights to show and no analytic "
        f"pictures: {visible(', '.join(names))}."
    ]


def parity_lines(parity: Parity) -> str:
    """All comparisons in words."""
    alone = parity.alone
    batches = "batch 1" if alone is not None and alone.one_at_a_time else "batch 1 and 3"
    limits = parity.summary()
    lines = [
        f"Original and canonical form agree to {parity.original.error:.1e} (worst at {visible(parity.original.node)}), "
        f"canonical form and torch to {parity.nodes.error:.1e}",
        f"(worst at {visible(parity.nodes.node)}), node by node at {batches}; at the convolutions end to end "
        f"{parity.end_to_end.error:.1e}. Limit of each {_power(limits['limit'])}; node by node, refused above "
        f"{_power(limits['refuse'])}.",
        *_alone(alone),
        *(f"Warning: {visible(as_options(warning))}" for warning in (*parity.not_finite, *parity.warnings)),
    ]
    return "\n".join(lines)


def _alone(alone: Alone | None) -> list[str]:
    if alone is None:
        return []
    if alone.one_at_a_time:
        return [f"Note: {visible(as_options(alone.sentence))}"]
    worst = alone.difference
    return (
        []
        if worst is None
        else [f"A batch of 3 and each picture alone agree to {worst.error:.1e} (worst at {visible(worst.node)})."]
    )


def _power(limit: float) -> str:
    """1e-4 rather than 1e-04."""
    mantissa, _, exponent = f"{limit:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def to_json(network: Network, parity: Parity | None, refusal: ModelError | None = None) -> dict[str, Any]:
    """Everything, versioned (docs/run-format.md); why there is no parity, where there is none."""
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
            "why": as_options(spec.why),
            "certain": spec.certain,
            "size_why": as_options(spec.size_why),
            "size_certain": spec.size_certain,
        },
        "layers": [
            layer.to_json() | {"parity": None if parity is None else parity.layers.get(layer.node)}
            for layer in network.layers
        ],
        "parity": None if parity is None else parity.summary(),
        "refusal": None if refusal is None else as_options(str(refusal)),
    }


def short(number: int) -> str:
    """1234567 → 1.23M."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(number)


def _line(layer: Layer) -> str:
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
    cells = (
        layer.index,
        _clipped(visible(layer.name), 27),
        kernel,
        f"{layer.in_channels}→{layer.out_channels}",
        output,
        _field(layer),
        short(layer.parameters) if layer.is_constant else "–",
        short(layer.macs),
        layer.nonlinearity,
    )
    return COLUMNS.format(*cells)[:WIDTH]


def _raw_line(index: int, convolution: Convolution) -> str:
    before, after = (str(c or "?") for c in (convolution.in_channels, convolution.out_channels))
    kernel = "×".join(map(str, convolution.kernel)) or "?"
    if any(step != 1 for step in convolution.stride):
        kernel += f"/{convolution.stride[0]}"
    if convolution.groups > 1:
        kernel += " dw" if convolution.groups == convolution.in_channels else f" g{convolution.groups}"
    parameters = short(convolution.parameters) if convolution.parameters is not None else "?"
    name = _clipped(visible(convolution.name), 27)
    cells = (index, name, kernel, f"{before}→{after}", "?", "?", parameters, "?", "?")
    return COLUMNS.format(*cells)[:WIDTH]


def _field(layer: Layer) -> str:
    if layer.rank != 2:
        return f"{layer.rank}-d"
    if not layer.has_maps:
        return "apart"
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
