"""Numerical kernels: one file an operation, with a plain torch reference."""
