"""Small networks, regions and requests for the tests of a node."""

import numpy as np
import torch

from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.node.layers import LAYERS
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.node.weights import Weights
from flow_nexus_neural.protocol.messages import Build, Failed, GetWeights, Pass, Train
from flow_nexus_neural.protocol.model_state import MOMENTS
from flow_nexus_neural.protocol.plan import InputSpec, PlannedLayer

SEQUENCE = InputSpec(vector_length=6, n_scalars=2)
FLAT = InputSpec(vector_length=0, n_scalars=5)


def plan_of(layers, spec=SEQUENCE, task="binary", n_outputs=None):
    outputs = n_outputs or (3 if task == "multiclass" else 1)
    return plan_network(
        parse_layers(layers).layers, input=spec, task=task, n_outputs=outputs, max_parameters=10**7
    ).plan


def planned(spec, in_shape, *, last_query_only=False, trainable=True):
    """One layer as a plan has it, apart from any network."""
    layer = parse_layers([spec]).layers[0]
    tensors = layer.named_tensors(in_shape[-1], "layers.0")
    if not trainable:
        tensors = tuple(tensor.model_copy(update={"trainable": False}) for tensor in tensors)
    return PlannedLayer(
        index=0,
        type=layer.type,
        args=dict(layer.args),
        in_shape=in_shape,
        out_shape=in_shape,
        last_query_only=last_query_only,
        tensors=tensors,
    )


def layer_and_parts(spec, in_shape, *, seed=0, dtype=torch.float64, **kwargs):
    """A built layer and random tensors for it: float64, so that references can be compared tightly."""
    described = planned(spec, in_shape, **kwargs)
    draw = torch.Generator().manual_seed(seed)
    prefix = "layers.0."
    parts = {
        tensor.name.removeprefix(prefix): torch.randn(
            tensor.shape, generator=draw, dtype=dtype
        ).mul_(0.5)
        for tensor in described.tensors
    }
    return LAYERS[described.type].planned(described), parts


def rows(count, spec, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *spec.row_shape)).astype(np.float32)


def weights_of(plan, seed=1):
    from flow_nexus_neural.node.initializers import initial_weights

    weights = Weights(plan)
    weights.load(*initial_weights(plan, seed))
    return weights


def never():
    return False


def ask(service, request, arrays=None, poll=never):
    """The reply, which must not be a failure."""
    reply, answers = service.handle(request, arrays or {}, poll)
    assert not isinstance(reply, Failed), reply
    return reply, answers


def service_with(plan, count=20, optimizer="adam", seed=7, build_seed=1):
    """A service with network `net`, a shard, a base of its own weights and a publish buffer."""
    service = NodeService(node_id="worker-0.1", incarnation=1, seed=seed)
    ask(service, Build(network="net", plan=plan, seed=build_seed))
    _, weights = ask(service, GetWeights(network="net"))
    state = weights | {name: np.zeros_like(weights["params"]) for name in MOMENTS[optimizer]}
    service.attach("base", state, writable=False)
    published = {name: np.full_like(array, np.nan) for name, array in state.items()}
    service.attach("publish", published, writable=True)
    x = rows(count, plan.input)
    targets = np.random.default_rng(3).integers(
        0, plan.n_outputs if plan.n_outputs > 1 else 2, count
    )
    y = targets if plan.task == "multiclass" else targets.astype(np.float32)
    service.attach("shard", {"x": x, "y": y}, writable=False)
    return service, state, published, x, y


def train_request(**changes):
    values = {
        "network": "net",
        "base": "base",
        "opt_step": 0,
        "shard": "shard",
        "publish": "publish",
        "optimizer": "adam",
        "learning_rate": 0.01,
        "batch_size": 8,
        "passes": (Pass(order_seed=11),),
        "dropout_seed": 13,
    }
    return Train(**(values | changes))
