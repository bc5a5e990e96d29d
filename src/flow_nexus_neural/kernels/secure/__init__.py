"""Formulas behind secure aggregation: shares of secrets, agreed keys, masks, fixed-point numbers."""
