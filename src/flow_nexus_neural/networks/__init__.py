"""From a layer list to a network plan: layer types, shapes, tensors, defaults. Pure, without torch.

The engine plans a network before it contacts a node, so that an invalid list is refused with the layer's
index. The node builds exactly the plan. Neither imports the other's code.

`layers` describes the layer types. `parsing` reads a list, `shapes` infers its shapes, `heads` finds its
output layer, `planner` makes the plan, `defaults` holds the lists for nodes deployed without layers.
"""
