"""A version of the model: from updates to what answers predictions."""
