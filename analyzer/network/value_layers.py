"""Values of a network as layers beside its convolutions.

What is not laid out as maps (N, C, H, W) gets a view behind it that is. Knows graphs; computes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from filterscope.analyzer.network.layers import Ancestry, Layer
from filterscope.analyzer.network.nonlinearity import nonlinearity
from filterscope.analyzer.network.values import names_in
from filterscope.converters import checks
from filterscope.converters.normal_form.views import shapes_of

MOST_LISTED = 6  # values in a message

if TYPE_CHECKING:
    from filterscope.analyzer.network.network import Network
    from filterscope.analyzer.network.values import GraphValue


def with_values(network: Network, values: Sequence[GraphValue]) -> Network:
    """The network with some of its values among its layers, in graph order.

    Args:
        values: of `network.values`; convolutions and what is a layer already are passed over.
    """
    there = {layer.origin for layer in network.layers}
    added = [value for value in values if value.value not in there]
    if not added:
        return network
    first = len(network.convolutions)
    number = {value.value: first + place for place, value in enumerate(network.values)}  # whatever else is chosen
    model = network.model.with_views({value.value: value.view for value in added if value.view.suffix})
    shapes = dict(network.shapes)
    for value in added:
        shapes |= shapes_of(value.value, value.view, network.shapes[value.value]) if value.view.suffix else {}
    ancestry = Ancestry(network.model.graph, network.input.name)
    used = {layer.name for layer in network.layers}
    layers = list(network.layers)
    for value in added:
        name = value.name if value.name not in used else value.value
        used.add(name)
        layers.append(_layer(network, value, name, ancestry=ancestry, index=number[value.value]))
    order = {output: place for place, node in enumerate(network.model.graph.nodes) for output in node.outputs}
    layers.sort(key=lambda layer: order[layer.origin])
    extended = replace(network, model=model, shapes=shapes, layers=tuple(layers))
    extended.__dict__["values"] = network.values  # the same numbers, whichever of them are layers
    return extended


def check_names(network: Network, names: Sequence[str]) -> None:
    """See that no name stands for a value that cannot be a layer, or for several.

    Raises:
        SettingsError: a module that gives several values, or a value that has no channels that could be told.
    """
    layers = {name for layer in network.layers for name in (layer.name, layer.node, layer.value, *layer.paths)}
    layers |= {name for value in network.values for name in (value.name, value.value, *value.paths)}
    for name in names_in(names):
        if name in layers:
            continue
        several = network.model.module_outputs.get(name, ())
        if len(several) > 1:
            listed = ", ".join(several[:MOST_LISTED]) + (", …" if len(several) > MOST_LISTED else "")
            checks.refuse("layers", name, f"the module gives {len(several)} values, {listed}; name one of them")
        value = several[0] if several else name
        if value in network.shapes and network.model.graph.producer(value) is not None:
            shape = list(network.shapes[value])
            checks.refuse(
                "layers", name, f"the value {shape} is no float with channels that follows from the image; name another"
            )


def maps_of(value: GraphValue) -> str:
    """Name of the graph's value that holds a value's maps."""
    return value.value + value.view.suffix


def _layer(network: Network, value: GraphValue, name: str, *, ancestry: Ancestry, index: int) -> Layer:
    graph, node = network.model.graph, network.model.graph.producer(value.value)
    walk = network.walk
    has_places = walk.axes.get(value.value) is not None
    field, is_global = walk.field(value.value) if has_places else (None, True)
    names = {layer.node: layer.name for layer in network.layers}
    return Layer(
        index=index,
        name=name,
        node=value.value if node is None else node.name,
        value=maps_of(value),
        source="",
        op=value.op,
        rank=2,
        kernel=(),
        stride=(),
        dilation=(),
        pads=(),
        auto_pad="NOTSET",
        groups=1,
        in_channels=value.channels,
        out_channels=value.channels,
        output_shape=(value.channels, *value.places),
        parameters=0,
        macs=0,
        bias=False,
        batchnorm=False,
        nonlinearity=nonlinearity(graph, value.value),
        field=field,
        is_global=is_global,
        depth=ancestry.depth.get(value.value, 0),
        predecessors=tuple(names[each] for each in ancestry.before(value.value) if each in names),
        sees_image=False,
        weight=None,
        bias_vector=None,
        kind="block" if value.is_block else value.kind,
        paths=value.paths,
        viewed=value.value if value.view.suffix else "",
    )
