"""What survives a restart: journal, rows, checkpoint files and the directory they live in."""
