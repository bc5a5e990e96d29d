"""The live view of a cluster: in a conversation as an MCP App, and for people in a browser."""
