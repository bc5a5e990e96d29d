"""Sandboxing of a node process: the policy as data, and the modules that apply it through ctypes."""
