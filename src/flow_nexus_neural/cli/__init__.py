"""The command line: flags, serving, and the commands `doctor` and `clusters`."""
