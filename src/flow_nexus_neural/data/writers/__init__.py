"""Formats in which rows are written, one file each, and `by_suffix`, which picks among them."""
