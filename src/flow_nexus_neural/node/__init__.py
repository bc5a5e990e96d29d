"""The code that runs in a node's process. The only package that imports torch."""
