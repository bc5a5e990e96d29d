"""The imperative shell: tasks, clocks and files. No torch, no MCP, no mathematics."""
