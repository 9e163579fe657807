"""What opening a model imports, all at once: for the process that forks one that opens."""


def import_all() -> None:
    """Import it, and let onnx2torch's parts find each other."""
    import onnxruntime
    import torch
    from onnxscript import optimizer

    from converters import parity
    from converters.normal_form import canonical
    from converters.sources import read
    from converters.torch_import.onnx2torch_loader import load

    load()
    _ = onnxruntime, torch, optimizer, canonical, parity, read
