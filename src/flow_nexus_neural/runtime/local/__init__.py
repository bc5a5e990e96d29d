"""Nodes forked on this machine by a process that has imported everything."""
