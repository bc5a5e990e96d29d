"""Formulas behind private training: clipping, noise, key streams."""
