"""What torch computes with: devices, precision, frozen convolutions, ReLUs in other forms."""
