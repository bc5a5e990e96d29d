"""A confined node trains and predicts to the same bytes as the service in this process."""

import numpy as np
import pytest
import torch

from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import Build, GetWeights, Infer, Load, Predict
from flow_nexus_neural.runtime.base import NodeSpec
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.settings import Settings
from tests.unit.node.building import ask, plan_of, service_with, train_request

pytestmark = pytest.mark.anyio

LAYERS = [
    {"type": "lstm", "units": 24, "return_sequences": True, "dropout": 0.1},
    {"type": "transformer_encoder", "heads": 3},
    {"type": "attention", "heads": 2, "key_dim": 8, "dropout": 0.1},
    {"type": "dense", "units": 16, "activation": "relu"},
    {"type": "dropout", "rate": 0.2},
    {"type": "dense", "units": 1, "activation": "sigmoid"},
]
STEPS = (
    train_request(),
    Load(network="net", region="publish"),
    Infer(network="net", weights="base", data="shard"),
    GetWeights(network="net"),
)


def _without_time(reply):
    return {name: value for name, value in reply.model_dump().items() if name != "cpu_s"}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


async def test_a_confined_node_does_exactly_what_the_service_does_here(one_thread):
    plan = plan_of(LAYERS)
    service, state, published, x, y = service_with(plan)
    assert isinstance(service, NodeService)
    async with LocalRuntime(Settings()) as runtime:
        node = await runtime.start(NodeSpec("worker-0#1", "worker-0", 1, seed=3))
        await node.call(Build(network="net", plan=plan, seed=1))
        base, shard = runtime.share("base", state), runtime.share("shard", {"x": x, "y": y})
        layout = [(name, "f4", array.shape) for name, array in state.items()]
        buffer = runtime.buffer("publish", layout)
        for region in (base, shard, buffer):
            await node.grant(region)
        for request in STEPS:
            reply, arrays = await node.call(request)
            expected, own = ask(service, request)
            assert _without_time(reply) == _without_time(expected)
            for name, array in own.items():
                np.testing.assert_array_equal(arrays[name], array)
        for name, array in buffer.copy().items():
            np.testing.assert_array_equal(array, published[name])
        _, remote = await node.call(Predict(network="net"), {"x": x[:1]})
        np.testing.assert_array_equal(
            remote["y"], ask(service, Predict(network="net"), {"x": x[:1]})[1]["y"]
        )
        await node.stop()
        for region in (base, shard, buffer):
            region.close()
