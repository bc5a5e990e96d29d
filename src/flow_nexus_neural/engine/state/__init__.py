"""What the engine knows of a cluster: data, and the only methods that change it."""
