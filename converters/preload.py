"""Import everything that opening a model needs: for the server process, whose forked workers then start at once."""


def import_libraries() -> None:
    """Import the libraries and our modules that open and prove a model, and register onnx2torch's converters."""
    import onnxruntime
    import torch
    from onnxscript import optimizer

    from filterscope.converters import parity
    from filterscope.converters.normal_form import canonical
    from filterscope.converters.sources import read
    from filterscope.converters.torch_import.onnx2torch_loader import load

    load()
    _ = onnxruntime, torch, optimizer, canonical, parity, read
