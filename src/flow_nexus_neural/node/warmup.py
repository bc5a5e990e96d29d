"""Do everything a node may ever do once, before the process that forks is frozen.

A confined node cannot read a module from disk, and what is imported or compiled here is shared by every fork.
After `warm_up` no operation of a node adds to `sys.modules`.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue

from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.networks.vocabulary import parse_layers
from flow_nexus_neural.node.activations import ACTIVATIONS
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import (
    Build,
    GetWeights,
    Infer,
    Load,
    Pass,
    Ping,
    Predict,
    ServiceRequest,
    Train,
)
from flow_nexus_neural.protocol.model_state import MOMENTS, Optimizer
from flow_nexus_neural.protocol.plan import InputSpec, NetworkPlan, Task

_STEPS, _ROWS = 6, 5
_INPUT = InputSpec(vector_length=_STEPS, n_scalars=2)

Layers = list[dict[str, JsonValue]]

SEQUENCE_LAYERS: Layers = [
    {"type": "conv1d", "filters": 4, "kernel_size": 3, "padding": "same", "activation": "relu"},
    {"type": "batch_normalization"},
    {"type": "spatial_dropout1d", "rate": 0.1},
    {"type": "conv1d", "filters": 4, "kernel_size": 2, "padding": "causal", "dilation_rate": 2},
    {"type": "positional_encoding"},
    {"type": "transformer_encoder", "heads": 2},
    {"type": "lstm", "units": 4, "return_sequences": True, "dropout": 0.1},
    {"type": "lstm", "units": 4, "return_sequences": True, "activation": "relu"},
    {"type": "gru", "units": 4, "return_sequences": True, "go_backwards": True},
    {"type": "gru", "units": 4, "return_sequences": True, "activation": "elu"},
    {"type": "simple_rnn", "units": 4, "return_sequences": True},
    {"type": "simple_rnn", "units": 4, "return_sequences": True, "activation": "relu"},
    {"type": "simple_rnn", "units": 4, "return_sequences": True, "activation": "selu"},
    {
        "type": "bidirectional",
        "layer": {"type": "lstm", "units": 2, "return_sequences": True},
        "merge_mode": "ave",
    },
    {"type": "bidirectional", "layer": {"type": "gru", "units": 2, "return_sequences": True}},
    {"type": "graph_conv", "units": 4},
    {"type": "graph_conv", "units": 6},
    {"type": "layer_normalization"},
    {"type": "attention", "heads": 2, "key_dim": 3},
    {"type": "attention", "heads": 2, "key_dim": 3, "dropout": 0.1, "causal": True},
    {"type": "average_pooling1d", "pool_size": 2, "strides": 1},
    {"type": "max_pooling1d", "pool_size": 2, "strides": 1},
]
"""Every layer of the vocabulary that keeps a sequence."""

ENDINGS: dict[str, Layers] = {
    "last query": [{"type": "attention", "heads": 2, "key_dim": 3, "dropout": 0.1}],
    "last block": [{"type": "transformer_encoder", "heads": 2}],
    "flatten": [{"type": "flatten"}],
    "average": [{"type": "global_average_pooling1d"}],
    "maximum": [{"type": "global_max_pooling1d"}],
}
"""Every way in which a sequence ends."""


def flat_layers() -> Layers:
    """Every layer of the vocabulary that needs no sequence, and every activation."""
    activations: Layers = [{"type": "activation", "activation": name} for name in ACTIVATIONS]
    return [
        {"type": "dense", "units": 4, "activation": "relu"},
        {"type": "batch_norm"},
        {"type": "batch_norm", "trainable": False},
        {"type": "layer_norm"},
        {"type": "gaussian_noise", "stddev": 0.1},
        {"type": "dropout", "rate": 0.1},
        {"type": "leaky_relu"},
        *activations,
        {"type": "dense", "units": 3, "use_bias": False},
    ]


def warm_up() -> None:
    """Use one torch thread, then build, train, evaluate and serve every layer type, optimiser and task.

    Results are discarded. Afterwards no operation of a node imports anything.

    Raises:
        RuntimeError: If one of the operations fails: this installation cannot run nodes.
    """
    torch.set_num_threads(1)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    for plan, optimizer in _exercises():
        _exercise(plan, optimizer)
    _fail_once()


def _exercises() -> Iterator[tuple[NetworkPlan, Optimizer]]:
    """Every optimiser and every task at least once."""
    optimizers = tuple(MOMENTS)
    for number, ending in enumerate(ENDINGS.values()):
        yield _plan([*SEQUENCE_LAYERS, *ending], "binary"), optimizers[number % len(optimizers)]
    tasks: tuple[Task, ...] = ("binary", "multiclass", "regression")
    for number, task in enumerate(tasks):
        yield _plan(flat_layers(), task), optimizers[number]


def _plan(layers: Layers, task: Task) -> NetworkPlan:
    return plan_network(
        parse_layers(layers).layers,
        input=_INPUT,
        task=task,
        n_outputs=3 if task == "multiclass" else 1,
        max_parameters=100_000,
    ).plan


def _exercise(plan: NetworkPlan, optimizer: Optimizer) -> None:
    service = NodeService(node_id="warm-up", incarnation=0, seed=0)
    x = np.random.Generator(np.random.PCG64(0)).normal(size=(_ROWS, *plan.input.row_shape))
    rows = {"x": x.astype(np.float32)}
    y = np.arange(_ROWS) % 2
    targets = y if plan.task == "multiclass" else y.astype(np.float32)
    state = {"params": _vector(plan.n_params), "buffers": _vector(plan.n_buffers)}
    state |= {name: _vector(plan.n_params) for name in MOMENTS[optimizer]}
    service.attach("shard", rows | {"y": targets}, writable=False)
    service.attach("base", state, writable=False)
    service.attach("publish", {name: np.zeros_like(a) for name, a in state.items()}, writable=True)
    requests: tuple[ServiceRequest, ...] = (
        Build(network="main", plan=plan, seed=1),
        GetWeights(network="main"),
        Load(network="main", region="base"),
        Train(
            network="main",
            base="base",
            opt_step=0,
            shard="shard",
            publish="publish",
            optimizer=optimizer,
            learning_rate=1e-3,
            batch_size=2,
            passes=(Pass(order_seed=2),),
            dropout_seed=3,
            feature_dropout=0.1,
        ),
        Infer(network="main", weights="publish", data="shard"),
        Predict(network="main"),
        Ping(),
    )
    for request in requests:
        _succeed(service, request, rows)


def _vector(size: int) -> NDArray[np.float32]:
    return np.full(size, 0.01, np.float32)


def _succeed(
    service: NodeService, request: ServiceRequest, arrays: dict[str, NDArray[np.float32]]
) -> None:
    reply, _ = service.handle(request, arrays, lambda: False)
    if reply.kind == "failed":
        raise RuntimeError(f"{request.kind} failed while warming up: {reply.type}: {reply.message}")


def _fail_once() -> None:
    """Errors load modules too."""
    service = NodeService(node_id="warm-up", incarnation=0, seed=0)
    service.handle(Predict(network="none"), {}, lambda: False)
