"""The state of a network in training: which vectors it has under which optimiser.

At most four flat float32 vectors, in the order of the plan's tensors: `params` [n_params], `buffers`
[n_buffers], and the client optimiser's moments `m` and `v` [n_params]; beside them the integer `opt_step`.
"""

from typing import Literal

Optimizer = Literal["adam", "sgd", "rmsprop", "adagrad"]

MOMENTS: dict[Optimizer, tuple[Literal["m", "v"], ...]] = {
    "adam": ("m", "v"),
    "sgd": (),
    "rmsprop": ("v",),
    "adagrad": ("v",),
}
"""Which moment vectors an optimiser keeps."""
