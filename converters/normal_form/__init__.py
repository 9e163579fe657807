"""The passes that bring an ONNX model into one form."""
