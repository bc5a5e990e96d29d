"""A training: from its arguments to its last round."""
