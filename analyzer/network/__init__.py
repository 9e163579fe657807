"""An opened network: its layers, receptive fields, input, scores and labels."""
