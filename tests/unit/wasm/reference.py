"""Networks in float64, which modules are held against."""

import numpy as np
import torch

from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.weights import Weights
from flow_nexus_neural.protocol.digest import named_tensors
from flow_nexus_neural.wasm.compile.network import compile_network
from flow_nexus_neural.wasm.machine import LoadedNetwork, assemble


class _Double:
    def __init__(self, weights):
        self.layers = [{k: v.double() for k, v in parts.items()} for parts in weights.layers]


def random_state(plan, seed=0, scale=0.4):
    draw = np.random.default_rng(seed)
    params = (draw.normal(size=plan.n_params) * scale).astype(np.float32)
    return params, (np.abs(draw.normal(size=plan.n_buffers)) + 0.1).astype(np.float32)


def in_float64(plan, state, rows):
    """What PyTorch computes of the same weights in double precision."""
    network, weights = Network(plan), Weights(plan)
    weights.load(*state)
    for layer in network._layers:
        for name in ("adjacency", "table"):
            if hasattr(layer, name):
                object.__setattr__(layer, name, getattr(layer, name).double())
    with torch.inference_mode():
        return network.logits(torch.from_numpy(rows.astype(np.float64)), _Double(weights)).numpy()


def loaded(plan, state):
    compiled = compile_network(plan)
    made = LoadedNetwork(compiled, assemble(compiled.text))
    made.load(named_tensors(plan, *state))
    return made
