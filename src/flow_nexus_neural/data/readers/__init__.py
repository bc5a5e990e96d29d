"""One module per file format, and `by_suffix`, which picks among them."""
