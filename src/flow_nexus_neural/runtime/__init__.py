"""Runtimes, which start nodes and connect the engine to them: one interface, several implementations."""
