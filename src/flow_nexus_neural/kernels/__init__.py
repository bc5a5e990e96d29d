"""Formulas on numpy arrays. Pure functions of their arguments."""
