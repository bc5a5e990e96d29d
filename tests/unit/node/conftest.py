"""One torch thread, as in a node."""

import torch

torch.set_num_threads(1)
