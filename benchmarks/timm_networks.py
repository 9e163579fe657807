"""Networks of timm with weights like trained ones, exported to ONNX by either of PyTorch's exporters.

    python benchmarks/timm_networks.py resnet18 dynamo resnet18.onnx

Nothing is equal by accident: biases, scales and BatchNorm statistics are drawn at random, since exporters share equal
tensors, and a constant scale hides a channel order that is wrong.
"""

import contextlib
import io
import logging
import sys
import warnings
from pathlib import Path

NAMES = [
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "seresnet50",
    "resnetv2_50",
    "resnetv2_50x1_bit",
    "wide_resnet50_2",
    "res2net50_26w_4s",
    "resnest26d",
    "skresnet18",
    "ecaresnet26t",
    "densenet121",
    "vgg11",
    "vgg16_bn",
    "inception_v3",
    "inception_v4",
    "inception_resnet_v2",
    "xception",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "mobilenetv4_conv_small",
    "efficientnet_b0",
    "efficientnet_lite0",
    "tf_efficientnet_b0",
    "tf_efficientnetv2_s",
    "mixnet_s",
    "convnext_atto",
    "convnextv2_atto",
    "dm_nfnet_f0",
    "nf_resnet50",
    "ghostnet_100",
    "ghostnetv2_100",
    "hrnet_w18_small",
    "dla34",
    "dpn68",
    "rexnet_100",
    "repvgg_a0",
    "mobileone_s0",
    "cspdarknet53",
    "ese_vovnet19b_dw",
    "selecsls42b",
    "regnety_002",
    "lcnet_050",
    "edgenext_xx_small",
    "fastvit_t8",
    "poolformer_s12",
    "starnet_s1",
    "hgnetv2_b0",
    "inception_next_tiny",
    "pnasnet5large",
    "lambda_resnet26t",
    "botnet26t_256",
    "coatnet_pico_rw_224",
    "focalnet_tiny_srf",
    "gcresnet33ts",
    "xcit_nano_12_p16_224",
    "efficientvit_b0",
    "mambaout_femto",
    "rdnet_tiny",
]
EXPORTERS = ("dynamo", "legacy")
LEGACY_OPSET = 17


def build(name: str):
    """The network in eval mode; the same weights whenever it is built."""
    from filterscope.converters.torch_import.onnx2torch_loader import load_torchvision

    load_torchvision()  # lets torchvision, which timm imports, load beside a CPU build of torch
    import timm
    import torch

    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False).train()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() > 1 and (parameter == parameter.flatten()[0]).all():  # a bias, a scale, a gain
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif parameter.numel() == 1 and parameter == 0:  # what multiplies a residual branch
                parameter.add_(0.3)
        norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = None  # the mean over what follows: statistics that fit the weights
        network(pictures(8, *size(network)))
        for norm in norms:
            norm.running_mean.add_(0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean))
            norm.running_var.mul_(1 + 3 * torch.rand_like(norm.running_var))  # noise varies less deep inside
    return network.eval()


def pictures(count: int, channels: int, height: int, width: int):
    """Random pictures as different from each other as photos are: pixel noise alone looks the same everywhere, and
    statistics taken from it make a network amplify rounding."""
    import torch

    noise = torch.rand(count, channels, height, width)
    scales = [torch.rand(count, channels, side, side) for side in (1, 4, 16)]
    smooth = [torch.nn.functional.interpolate(scale, (height, width), mode="bilinear") for scale in scales]
    return (noise * torch.rand(count, 1, 1, 1) * 2 + sum(smooth)) / 4


def size(network) -> tuple[int, int, int]:
    """Channels, height and width that the network was made for."""
    return tuple(network.default_cfg["input_size"])


def path_of(name: str, exporter: str, folder: Path) -> Path:
    """Where `export` writes."""
    return folder / f"{name}-{exporter}.onnx"


def export(name: str, exporter: str, folder: Path) -> Path:
    """Write the network as ONNX with a free batch dimension; raises whatever PyTorch's exporter raises."""
    import torch

    network = build(name)
    path = path_of(name, exporter, folder)
    example = torch.randn(2, *size(network))
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            free = ({0: torch.export.Dim.DYNAMIC},)
            torch.onnx.export(network, (example,), path, dynamo=True, dynamic_shapes=free, verbose=False)
        else:
            free = {"x": {0: "N"}}
            torch.onnx.export(
                network,
                (example,),
                path,
                dynamo=False,
                opset_version=LEGACY_OPSET,
                input_names=["x"],
                dynamic_axes=free,
            )
    return path


if __name__ == "__main__":
    name, exporter, out = sys.argv[1:]
    export(name, exporter, Path(out).parent).replace(out)
