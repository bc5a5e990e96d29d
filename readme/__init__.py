"""Parts of the README that are generated, so that they cannot go stale."""
