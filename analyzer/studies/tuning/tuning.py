"""Tuning: what each unit answers to simple stimuli, shown where its neuron looks.

Every stimulus goes through ONNX Runtime on the neuron's canvas; all units of a layer are measured at once. Layers are
taken from the image onwards as long as their cost fits into a budget. Knows the study's run; what responses mean is
the business of analyzer.studies.tuning.selectivity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from filterscope.analyzer.maximize.presets import Recipe, preset_named, quality_named
from filterscope.analyzer.maximize.problem import Problem
from filterscope.analyzer.network.layers import Layer, layers_before
from filterscope.analyzer.network.network import Network
from filterscope.analyzer.network.receptive_fields import resolved_pads
from filterscope.analyzer.run import atlas
from filterscope.analyzer.run.reader import Run
from filterscope.analyzer.run.tables import TUNING_SCHEMA
from filterscope.analyzer.studies.strongest_responses import (
    BATCH,
    responses_to_saved_pictures,
    strongest_natural_responses,
)
from filterscope.analyzer.studies.study import Context
from filterscope.analyzer.studies.tuning.selectivity import Tuning, tuning
from filterscope.analyzer.studies.tuning.stimuli import GREY, Stimuli
from filterscope.analyzer.units.canvas import Canvas
from filterscope.analyzer.units.measure import Meter
from filterscope.analyzer.units.objectives import objective_for
from filterscope.converters import checks
from filterscope.converters.errors import setting

CLIMB = Recipe(preset_named("filterscope"), quality_named("draft"))  # what finds a strong response to compare with
PASSES = 3  # forward passes that a step of it costs, about
BUDGETS = {"draft": 2e10, "standard": 1e12, "fine": 1e13}  # multiply-accumulates of all layers together


@dataclass(frozen=True, slots=True)
class TuningStudy:
    """Responses to synthetic stimuli.

    Args:
        everything: every analysed layer, whatever it costs; else those that fit into the quality's budget.
    """

    everything: bool = False

    def __post_init__(self) -> None:
        checks.flag("everything", self.everything)

    name = "tuning"

    def settings(self, context: Context) -> dict[str, Any]:
        """The budget, and what else is known of strong responses."""
        return {
            "budget": None if self.everything else BUDGETS[context.settings.quality],
            "examples": _identity_of_examples(context),
        }

    def run(self, context: Context) -> None:
        """Write tuning/units.parquet and an atlas a layer of the strongest stimuli."""
        network = context.network
        chosen, left_out = self._affordable(context)
        context.progress.stage("tuning", len(chosen))
        rows: list[dict[str, Any]] = []
        for layer in chosen:
            rows += _layer_rows(context, layer)
            context.progress.advance()
        context.writer.write_table("tuning/units.parquet", pa.Table.from_pylist(rows, TUNING_SCHEMA))
        if network.input.channels not in (1, 3):
            context.notes.append(f"Hues are left out: the input has {network.input.channels} bands.")
        if left_out:
            context.notes.append(
                f"Stimuli were shown to {len(chosen)} of {len(chosen) + len(left_out)} layers, from the image "
                f"onwards; beyond {chosen[-1].name if chosen else 'the image'} they cost more than this quality spends "
                f"({setting('tuning', 'all')} shows them to every layer)."
            )

    def _affordable(self, context: Context) -> tuple[list[Layer], list[Layer]]:
        layers = [layer for layer in context.network.layers if layer.name in context.channels]
        if self.everything:
            return layers, []
        left = BUDGETS[context.settings.quality]
        for index, layer in enumerate(layers):
            stimuli = stimuli_for(context.network, layer, context.shop.canvas(layer, "neuron"))
            pictures = len(stimuli.all) + PASSES * CLIMB.steps * len(context.channels[layer.name])
            left -= pictures * cost(context.network, layer, stimuli.size)
            if left < 0:
                return layers[:index], layers[index:]
        return layers, []


def cost(network: Network, layer: Layer, size: tuple[int, int]) -> float:
    """Multiply-accumulates of all convolutions up to a layer for one picture of this size, scaled by its area."""
    area = size[0] * size[1] / (network.input.height * network.input.width)
    return area * sum(each.macs for each in (*layers_before(network.layers, layer), layer))


def stimuli_for(network: Network, layer: Layer, canvas: Canvas) -> Stimuli:
    """The stimuli for a layer's neuron, sized to its receptive field on the canvas; to its local field where a global
    operation lets it see the whole image."""
    field, size = layer.field, canvas.size
    if field is None:
        return Stimuli(size, (0, 0, *size), network.input.channels)
    places = (canvas.row or 0, canvas.column or 0)
    first = list(field.at(*places))
    node = network.model.graph.producer(layer.value)
    if layer.sees_image and layer.op == "Conv" and node is not None:  # padding worked out for this canvas
        pads = resolved_pads(node, {**network.shapes, layer.source: (1, layer.in_channels, *size)})
        first = [place * step - pad for place, step, pad in zip(places, layer.stride, pads[:2], strict=True)]
    ends = [min(start + extent, side) for start, extent, side in zip(first, field.size, size, strict=True)]
    first = [max(0, start) for start in first]
    extents = [max(1, end - start) for start, end in zip(first, ends, strict=True)]
    return Stimuli(size, (first[0], first[1], extents[0], extents[1]), network.input.channels)


def responses(network: Network, layer: Layer, canvas: Canvas, stimuli: Stimuli) -> tuple[np.ndarray, np.ndarray]:
    """What the neurons of all units answer.

    Returns:
        To each stimulus, less the answer to mid grey: (stimuli, C_out) float32; and to mid grey: (C_out,).
    """
    session = network.session([layer.value], canvas.size)

    def answered(pixels: np.ndarray) -> np.ndarray:
        maps = session.run(network.input.to_model(pixels))[layer.value]
        return np.asarray(maps[:, :, canvas.row, canvas.column], np.float32)

    grey = answered(np.full((1, *canvas.size, network.input.channels), GREY, np.uint8))[0]
    raised = np.empty((len(stimuli.all), layer.out_channels), np.float32)
    for part, pixels in stimuli.batches(max(1, min(256, BATCH // (canvas.height * canvas.width)))):
        raised[part] = answered(pixels) - grey
    return raised, grey


def _layer_rows(context: Context, layer: Layer) -> list[dict[str, Any]]:
    network, canvas = context.network, context.shop.canvas(layer, "neuron")
    stimuli = stimuli_for(network, layer, canvas)
    raised, grey = responses(network, layer, canvas, stimuli)
    channels = context.channels[layer.name]
    strongest = _strongest(context, layer)
    units = [tuning(stimuli, raised[:, channel], float(strongest[channel] - grey[channel])) for channel in channels]
    shown = [stimuli.all[unit.best] for unit in units if unit is not None]
    name = f"tuning/{context.slugs[layer.name]}.png"
    if shown:
        context.writer.write_bytes(name, atlas.to_png(atlas.pack(stimuli.pixels(shown))))
    rows, tile = [], 0
    for channel, unit in zip(channels, units, strict=True):
        row: dict[str, Any] = {"layer": layer.name, "channel": channel}
        if unit is not None:
            row |= _tuning_columns(unit, stimuli) | {
                "atlas": name,
                "tile": tile,
                "height": canvas.height,
                "width": canvas.width,
                "bands": stimuli.bands,
            }
            tile += 1
        rows.append(row)
    return rows


def _strongest(context: Context, layer: Layer) -> np.ndarray:
    """The strongest response known of each unit: (C_out,).

    Of natural images, of the run's pictures, and of a neuron's picture: the closed form where the layer sees the
    image, else a climb of its own. Without that every deep unit would seem content with an edge.
    """
    channels, run = context.channels[layer.name], Run(context.writer.folder)
    strongest = strongest_natural_responses(run, layer, context.slugs[layer.name])
    saved = responses_to_saved_pictures(run, context.network, layer, channels)
    for response in saved:
        strongest[response.channel] = np.fmax(strongest[response.channel], response.value)
    without = sorted(set(channels) - {response.channel for response in saved if response.objective == "neuron"})
    if without:
        from filterscope.analyzer.maximize.engine import ascend

        shop = context.shop
        canvas = shop.canvas(layer, "neuron")
        objective = objective_for("neuron", canvas)
        climbed = ascend(
            Problem(context.network, layer, canvas, objective),
            without,
            CLIMB,
            seed=shop.seed,
            device=shop.device,
            stop=shop.stop,
            prior=shop.prior,
        )
        meter = Meter(context.network, layer, canvas, objective)
        strongest[without] = np.fmax(strongest[without], meter.activation(climbed.tiles, np.array(without)))
    return strongest


def _tuning_columns(unit: Tuning, stimuli: Stimuli) -> dict[str, Any]:
    numbers = ("words", "response", "strongest", "orientation", "orientation_selectivity", "period", "phase_modulation")
    row = {name: getattr(unit, name) for name in (*numbers, "hue", "colour_selectivity")}
    for name in ("orientation_curve", "period_curve", "hue_curve"):
        curve = getattr(unit, name)
        row[name] = None if curve is None else curve.tolist()
    return row | {"best": stimuli.all[unit.best].pattern.kind, "periods": list(stimuli.periods)}


def _identity_of_examples(context: Context) -> str | None:
    place = "examples/study.json"
    return context.writer.read_json(place).get("identity") if context.writer.has(place) else None
