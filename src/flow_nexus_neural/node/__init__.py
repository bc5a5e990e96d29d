"""What runs inside a node. The only package that imports torch."""
