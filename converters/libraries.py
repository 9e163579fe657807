"""What opening a model imports, all at once: for the process that forks one that opens."""


def import_all() -> None:
    """Import it, and let onnx2torch's parts find each other."""
    import onnxruntime
    import torch
    from onnxscript import optimizer

    from filterscope.converters import parity
    from filterscope.converters.normal_form import canonical
    from filterscope.converters.sources import read
    from filterscope.converters.torch_import.onnx2torch_loader import load

    load()
    _ = onnxruntime, torch, optimizer, canonical, parity, read
