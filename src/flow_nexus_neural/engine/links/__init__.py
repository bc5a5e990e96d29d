"""The links between nodes."""
