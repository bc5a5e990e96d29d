"""Nodes started one by one, where nothing can fork them."""
