"""Nodes as objects in this process, with planned faults."""
