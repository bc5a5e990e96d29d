"""Models as files: a committed version in the formats of other tools, and what is read back of them."""
