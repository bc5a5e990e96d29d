"""What travels between the engine and a node: messages, plans, frames, digests."""
