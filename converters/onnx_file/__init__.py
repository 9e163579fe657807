"""Reading an ONNX file from an untrusted source: whole and safely, or refused in one clear line."""
