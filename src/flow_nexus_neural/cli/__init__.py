"""What a person types: flags, serving, and the two commands that need no client."""
