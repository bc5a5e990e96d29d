"""The voters of a cluster under raft: network, clock and disk of state machines that run inside nodes."""
