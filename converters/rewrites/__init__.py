"""Operators said in other operators: older opsets, 8-bit and half-precision forms, what runtimes write."""
