"""Common to all nodes that are processes: start order, environment, exit status, stderr, isolation level."""
