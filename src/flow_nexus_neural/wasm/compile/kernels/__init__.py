"""Kernels of which `run` is made, as text: the same for every network."""
