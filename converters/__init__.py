"""From a model, whatever wrote it, to one normal form and a torch twin, proven against ONNX Runtime."""
