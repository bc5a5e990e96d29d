"""The MCP face of the product: the only package that knows the protocol of clients."""
