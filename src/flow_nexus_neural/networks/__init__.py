"""What a layer list means: vocabulary, shapes, parameters, defaults. Pure, and known to both sides.

The engine plans a network before any node is touched, so a list that cannot work is refused with the
layer's index; the node builds exactly the plan. Neither needs the other's code.
"""
