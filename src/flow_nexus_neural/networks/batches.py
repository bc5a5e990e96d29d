"""How many rows a batch needs so that a network can learn from it."""

from math import prod

from flow_nexus_neural.protocol.plan import NetworkPlan


def smallest_batch(plan: NetworkPlan) -> int:
    """2 if a batch norm gets one value per channel and row, of which one row has no variance; else 1."""
    for layer in plan.layers:
        learns = any(tensor.trainable for tensor in layer.tensors)
        one_value = layer.take_last_step or prod(layer.in_shape[:-1]) == 1
        if layer.type == "batch_normalization" and learns and one_value:
            return 2
    return 1
