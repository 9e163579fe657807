"""Read any supported model as ONNX: files, Keras, PyTorch, live models."""
