"""The protocol between the engine and a node: messages, plans, frames, digests."""
