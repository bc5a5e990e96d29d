"""Pure decisions: events in, verdicts and commands out. No clock, no I/O, no randomness."""
