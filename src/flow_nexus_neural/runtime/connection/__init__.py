"""The engine's end of the wire to a node, and the memory that travels over it."""
