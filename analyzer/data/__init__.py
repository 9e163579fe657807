"""The user's images and data sets: found, decoded within limits, brought to the network's size."""
