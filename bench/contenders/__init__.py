"""Programs that do the same work in different ways; each runs as a fresh process and prints one JSON line."""
