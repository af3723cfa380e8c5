"""Kernels of pooling: reductions over windows, and their gradients."""
