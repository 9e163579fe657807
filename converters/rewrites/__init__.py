"""Rewrite operators in others: older opsets, 8-bit and half-precision forms, operators that runtimes write."""
