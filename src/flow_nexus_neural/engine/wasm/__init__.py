"""Predictions by WebAssembly in the server's process, for nodes that live and hold the same weights."""
