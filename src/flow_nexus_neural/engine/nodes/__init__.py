"""Nodes: deploy, start, watch, restart."""
