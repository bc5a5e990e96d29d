"""Raft as pure decisions: what a voter does with a message, and with time that has passed."""
