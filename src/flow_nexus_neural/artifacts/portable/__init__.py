"""What an export as WebAssembly has beside its modules: a script for Node and a page for browsers."""
