"""Answering predictions."""
