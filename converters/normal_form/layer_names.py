"""Find the name that each convolution has for its user.

Exporters leave it in the kernel's name, the node's or the output's, each in its own way. Knows those ways, and onnx-ir.
"""

from __future__ import annotations

import re
from collections import Counter

import onnx_ir as ir

from filterscope.converters.operator_facts import CONVOLUTIONS


def layer_names(model: ir.Model) -> dict[str, str]:
    """The name that each convolution has for its user, by node name.

    The module path is looked for in the kernel's name ("layer1.0.conv1.weight"), in the node's metadata (PyTorch's
    default exporter, which gives a fused pair that of its second), then in the node's name, then in the output's
    (PaddlePaddle: "conv2d_53.tmp_0"). A name that two layers would share gets the node's beside it.
    """
    convolutions = [node for node in model.graph if node.op_type in CONVOLUTIONS and not node.domain]
    names = {
        str(node.name): _of_kernel(str(node.inputs[1].name))
        or _of_metadata(node)
        or _of_node(str(node.name), str(node.outputs[0].name))
        for node in convolutions
        if node.inputs[1] is not None
    }
    counts = Counter(names.values())
    return {node: name if counts[name] == 1 else f"{name} ({node})" for node, name in names.items()}


def _of_kernel(kernel: str) -> str:
    kernel = kernel.removeprefix("ConvBnFusion_W_")  # ONNX Runtime's optimiser's
    kernel = re.sub(r"(_quantized)?(::\w+|_DequantizeLinear_Output)?$", "", kernel)  # ONNX Runtime's quantiser's
    module = re.fullmatch(r"(.+?)[./](weight|kernel)(:0)?", kernel)
    if module and not module[1].startswith("onnx::"):
        return module[1]
    caffe = re.fullmatch(r"(.+)_w_\d+", kernel)
    return caffe[1] if caffe else ""


def _of_metadata(node: ir.Node) -> str:
    """The module path that PyTorch's exporter notes beside a node, empty where it does not."""
    scopes = re.findall(r"'([^']*)'", node.metadata_props.get("pkg.torch.onnx.name_scopes", ""))
    return scopes[-2] if len(scopes) > 1 else ""  # the last is the operation's own


def _of_node(node: str, output: str) -> str:
    node = node.removesuffix("_quant")
    path = re.fullmatch(r"(/?)(.+?)/(Conv|ConvTranspose|Conv2D|convolution|BiasAdd)(_\d+)?", node)
    if path:
        return module_path(path[2]) if path[1] else path[2]
    numbered = re.fullmatch(r"(p2o\.)?(Conv|ConvTranspose)[_.@]\d+", node)
    paddle = re.fullmatch(r"(.+)\.tmp_\d+", output)
    return paddle[1] if numbered and paddle else node


def module_path(scopes: str) -> str:
    """PyTorch's scopes as its module path: "layer1/layer1.0/conv1", where a scope may repeat the one that holds it."""
    path: list[str] = []
    for scope in scopes.split("/"):
        if path and scope.startswith(f"{path[-1]}."):
            path.pop()
        path.append(scope)
    return ".".join(path)
