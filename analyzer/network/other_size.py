"""A network at another size than its file declares, where it runs at it.

Many exporters write the size that they traced with, though the network would take any. Knows sessions; knows nothing
of pictures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from filterscope.analyzer.network.inputs import LAYOUTS, image_input, layout_of
from filterscope.converters.errors import ModelError, SettingsError, setting
from filterscope.converters.normal_form.canonical import CanonicalModel, canonicalize
from filterscope.converters.normal_form.declared import with_free_sides
from filterscope.converters.onnx_file import ModelFile
from filterscope.converters.runtime import Session

if TYPE_CHECKING:
    from filterscope.analyzer.network.network import InputOptions


def at_another_size(model: CanonicalModel, file: ModelFile, options: InputOptions) -> CanonicalModel:
    """The model with free height and width, where its file declares another size than is asked for.

    Args:
        model: the normal form of `file`.
        options: which name a size.

    Raises:
        SettingsError: the network does not run at that size, or makes of it something else than answers to one picture.
    """
    size = options.size
    if size is None:
        return model
    graph = model.graph
    value = image_input(graph)
    layout, channels = layout_of(graph, value, options.layout, options.channels)
    axes = [axis for axis in (1, 2, 3) if axis != LAYOUTS[layout]]
    declared = [graph.shapes[value][axis] for axis in axes]
    if all(side == own for side, own in zip(declared, size, strict=True) if isinstance(side, int)):
        return model
    listed = "x".join(str(side) for side in declared)
    text = "x".join(map(str, size))
    try:
        free = canonicalize(with_free_sides(file, model.input, axes), options.image, options.feeds, model.batch)
        shape = (1, channels, *size) if layout == "NCHW" else (1, *size, channels)
        _check_answers(model, free, shape, axes)
    except ModelError as error:
        raise SettingsError(
            f"{setting('input_size', text)}: the file fixes input {value!r} to {listed}, and the network does not run "
            f"at another ({str(error).removeprefix(f'{model.path}: ')}); leave it out",
            field="input_size",
            value=size,
        ) from error
    note = f"The file declares its input as {listed}; it runs at {text} too, as {setting('input_size')} asks."
    return dataclasses.replace(free, notes=(*free.notes, note))


def _check_answers(model: CanonicalModel, free: CanonicalModel, shape: tuple[int, ...], axes: list[int]) -> None:
    """Check that one picture gives one answer of the same rank, as at the declared size: a Reshape may split it up."""
    own = list(shape)
    for axis in axes:
        side = model.input_shape[axis]
        own[axis] = side if isinstance(side, int) else shape[axis]
    declared = _extents(Session(model.proto).run(np.zeros(own, np.float32)))
    here = _extents(Session(free.proto).run(np.zeros(shape, np.float32)))
    for name, extents in declared.items():
        other = here.get(name)
        if other is None or len(other) != len(extents) or other[:1] != extents[:1]:
            raise ModelError(f"output {name!r} is {list(extents)} there and {list(other or ())} here")


def _extents(answers: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    return {name: answer.shape for name, answer in answers.items() if isinstance(answer, np.ndarray)}
