"""Find what each module of the user's network gives: `layer3.1` is the value that the block of this path ends in.

Exporters leave a node's module path in its metadata or in its name, as they do for convolutions. Knows those ways, and
onnx-ir.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import onnx_ir as ir

from filterscope.converters.normal_form.layer_names import module_path

SCOPES = "pkg.torch.onnx.name_scopes"  # PyTorch's default exporter: "['', 'layer3', 'layer3.1', …, 'conv2d_17']"


def module_outputs(model: ir.Model) -> dict[str, tuple[str, ...]]:
    """Module path → the values that its nodes give to nodes outside it, or to the caller, in graph order.

    A module that is applied several times, or that has several outputs, has several values.
    """
    paths = {node: frozenset(module_paths(node)) for node in model.graph}
    _fill_gaps(paths)
    results = {id(value) for value in model.graph.outputs}
    values: dict[str, list[str]] = {}
    for node, own in paths.items():
        for value in node.outputs:
            readers = [paths.get(reader, frozenset()) for reader, _ in value.uses()]
            for path in own:
                if value.name and (id(value) in results or any(path not in reader for reader in readers)):
                    values.setdefault(path, []).append(value.name)
    return {path: tuple(names) for path, names in values.items()}


def _fill_gaps(paths: dict[ir.Node, frozenset[str]]) -> None:
    """Put a node of which nothing is noted into the modules that both what it reads and what reads it belong to.

    PyTorch's exporter and our own passes replace nodes (chunk becomes Split) and leave the new ones without a note.
    """
    for node in reversed(paths):
        if paths[node] or SCOPES in node.metadata_props or "/" in str(node.name):
            continue
        makers = [value.producer() for value in node.inputs if value is not None]
        before = [paths[maker] for maker in makers if maker in paths]
        after = [paths[reader] for value in node.outputs for reader, _ in value.uses() if reader in paths]
        if before and after:
            paths[node] = frozenset.union(*before) & frozenset.intersection(*after)


def module_paths(node: ir.Node) -> Iterator[str]:
    """The paths of the modules that a node belongs to, the outermost first; none where no exporter left them."""
    scopes = _noted(node)
    if scopes:
        yield from filter(None, scopes[:-1])  # the last is the operation's own
        return
    parts = str(node.name).split("/")[:-1]
    if parts and not parts[0]:  # PyTorch's exporter by TorchScript: "/layer3/layer3.1/conv1/Conv"
        for count in range(2, len(parts) + 1):
            yield module_path("/".join(parts[1:count]))
        return
    for count in range(1, len(parts) + 1):  # TensorFlow's: "model/block1_pool/MaxPool"
        yield "/".join(parts[:count])


def _noted(node: ir.Node) -> list[str]:
    """The scopes in a node's metadata, the whole network's "" first; none where they are not such a list."""
    text = node.metadata_props.get(SCOPES, "")
    try:
        scopes = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    return scopes if isinstance(scopes, list) and all(isinstance(scope, str) for scope in scopes) else []
