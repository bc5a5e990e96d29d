"""The MCP server: the only package that depends on the MCP SDK."""
