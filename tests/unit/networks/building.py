"""Networks planned from raw layer lists, and what tests ask of them."""

import pytest

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import check_structure, plan_network
from flow_nexus_neural.protocol.plan import InputSpec

CRYPTO = InputSpec(vector_length=50, n_scalars=3)
WINDOW = InputSpec(vector_length=0, n_scalars=16, window=20)
FLAT_16 = InputSpec(vector_length=0, n_scalars=16)

SEED = {
    "worker": [
        {"type": "lstm", "units": 256, "return_sequences": True},
        {"type": "attention", "heads": 8, "key_dim": 64},
        {"type": "dense", "units": 128, "activation": "relu"},
        {"type": "dense", "units": 64, "activation": "tanh"},
        {"type": "dense", "units": 1, "activation": "sigmoid"},
    ],
    "parameter_server": [
        {"type": "dense", "units": 512, "activation": "relu"},
        {"type": "dropout", "rate": 0.3},
        {"type": "dense", "units": 256, "activation": "relu"},
        {"type": "dense", "units": 128, "activation": "linear"},
    ],
    "aggregator": [
        {"type": "dense", "units": 256, "activation": "relu"},
        {"type": "batch_normalization"},
        {"type": "dense", "units": 128, "activation": "relu"},
        {"type": "dense", "units": 1, "activation": "linear"},
    ],
    "validator": [
        {"type": "dense", "units": 64, "activation": "relu"},
        {"type": "dense", "units": 32, "activation": "relu"},
        {"type": "dense", "units": 1, "activation": "sigmoid"},
    ],
}


def planned(layers, rows=CRYPTO, task="binary", n_outputs=1, limit=10_000_000):
    parsed = parse_layers(layers)
    check_structure(parsed.layers)
    return plan_network(
        parsed.layers, input=rows, task=task, n_outputs=n_outputs, max_parameters=limit
    )


def plan_of(layers, rows=CRYPTO, **task):
    return planned(layers, rows, **task).plan


def tensors(layer):
    return [(tensor.name.split(".", 2)[2], tensor.shape, tensor.init) for tensor in layer.tensors]


def count(layer):
    return sum(tensor.size for tensor in layer.tensors)


def refusal(layers, rows=CRYPTO, error=InvalidArchitecture, **task):
    with pytest.raises(error) as caught:
        planned(layers, rows, **task)
    assert caught.value.hint
    return caught.value.message


def dense(units, activation="linear", **more):
    return {"type": "dense", "units": units, "activation": activation, **more}
