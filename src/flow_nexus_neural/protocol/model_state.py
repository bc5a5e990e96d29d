"""The state of a network in training: its vectors, which depend on the optimiser.

At most four flat float32 vectors, in the order of the plan's tensors: `params` [n_params], `buffers`
[n_buffers], and the client optimiser's moments `m` and `v` [n_params]; beside them the integer `opt_step`.
"""

from typing import Literal

from flow_nexus_neural.vocabulary import Optimizer

MOMENTS: dict[Optimizer, tuple[Literal["m", "v"], ...]] = {
    "adam": ("m", "v"),
    "sgd": (),
    "rmsprop": ("v",),
    "adagrad": ("v",),
}
"""The moment vectors of each optimiser."""
