"""An ONNX file that a stranger made, read whole and safely, or refused in one clear line."""
