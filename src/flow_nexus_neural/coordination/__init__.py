"""Pure functions and state machines that decide for a cluster. No clock, no I/O, no randomness."""
