"""Pure functions and state machines for the decisions of a cluster. No clock, no I/O, no randomness."""
