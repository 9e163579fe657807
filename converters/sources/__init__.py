"""Whatever the user names as a model, read as ONNX: files, Keras, PyTorch, live models."""
