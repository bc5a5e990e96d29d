"""What a layer list means: layer types, shapes, parameters, defaults. Pure, and known to both sides.

The engine plans a network before any node is touched, so a list that cannot work is refused with the
layer's index; the node builds exactly the plan. Neither needs the other's code.

`layers` describes the layer types. `parsing` reads a list, `shapes` follows it, `heads` finds its output
layer, `planner` makes the plan, `defaults` gives the lists of nodes deployed without one.
"""
