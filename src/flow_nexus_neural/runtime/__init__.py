"""Where nodes live: one protocol, several implementations."""
