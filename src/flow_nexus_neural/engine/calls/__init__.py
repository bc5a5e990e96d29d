"""Asking a node: deadlines, the kind of the reply, and counters."""
