"""Status, waiting, ending a cluster, and reading clusters back."""
