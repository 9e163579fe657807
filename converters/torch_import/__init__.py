"""The normal form as a torch module, to take gradients from."""
