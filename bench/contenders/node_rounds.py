"""Rounds on this project's nodes, driven directly.

What a round does is what the product's rounds do between nodes: grant the base state, train, copy the update,
verify its digest, fold in slot order. Moments start fresh each round, as in all contenders. Evaluation,
commit and MCP are in `ours_tools`.
"""

from dataclasses import dataclass

import anyio
import numpy as np
import torch
from torch import nn

from bench.contenders.result import Stopwatch, arguments, report
from bench.work import (
    BATCH_ROWS,
    HEADS,
    KEY_DIM,
    LEARNING_RATE,
    LSTM_UNITS,
    Work,
    client_data,
    make_model,
    order_seed,
    pooled_loss,
    trained_parameters,
)
from flow_nexus_neural.kernels.averaging import federated_average
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.protocol.digest import weights_digest
from flow_nexus_neural.protocol.messages import Build, Pass, Together, Train, Trained
from flow_nexus_neural.protocol.plan import InputSpec, NetworkPlan
from flow_nexus_neural.runtime.base import Buffer, NodeHandle, NodeSpec, Region
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess
from flow_nexus_neural.settings import Settings


@dataclass(frozen=True)
class Client:
    """A node with its rows and the buffer it publishes to."""

    number: int
    node: NodeHandle
    shard: Region
    publish: Buffer


def layers_of(work: Work) -> list[dict[str, object]]:
    """The work's network in the product's words."""
    front: list[dict[str, object]] = []
    if work.recurrent:
        front = [
            {"type": "lstm", "units": LSTM_UNITS, "return_sequences": True},
            {"type": "attention", "heads": HEADS, "key_dim": KEY_DIM},
        ]
    hidden = [{"type": "dense", "units": units, "activation": act} for units, act in work.hidden]
    return [*front, *hidden, {"type": "dense", "units": 1, "activation": "linear"}]


def plan_of(work: Work) -> NetworkPlan:
    """The same network as a plan."""
    return plan_network(
        parse_layers(layers_of(work)).layers,
        input=InputSpec(vector_length=work.steps, n_scalars=0),
        task="regression",
        n_outputs=1,
        max_parameters=10_000_000,
    ).plan


def to_vector(model: nn.Module) -> np.ndarray:
    """The model's parameters in the plan's order: matrices as [in, out]."""
    parts = [parameter.detach().numpy().T.ravel() for parameter in trained_parameters(model)]
    return np.concatenate(parts).astype(np.float32)


def load_vector(model: nn.Module, vector: np.ndarray) -> None:
    """Inverse of `to_vector`."""
    start = 0
    for parameter in trained_parameters(model):
        part = vector[start : start + parameter.numel()]
        start += parameter.numel()
        shaped = part.reshape(tuple(reversed(parameter.shape))).T
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(shaped)))


async def start_client(
    runtime: LocalRuntime, plan: NetworkPlan, work: Work, number: int, groups: int = 0
) -> Client:
    """Start a node, build its network, hand it its rows; with groups it shares one of so many processes."""
    slot = f"worker-{number}"
    spec = NodeSpec(
        node_id=f"node_{number:012x}",
        slot=slot,
        incarnation=1,
        seed=number,
        group=f"clients/{number % groups}" if groups else None,
        group_size=-(-work.clients // groups) if groups else 1,
    )
    node = await runtime.start(spec)
    await node.call(Build(network="train", plan=plan, seed=0))
    x, y = client_data(work, number)
    shard = runtime.share(f"shard:{slot}", {"x": x, "y": y})
    size = (plan.n_params,)
    publish = runtime.buffer(
        f"publish:{slot}",
        [
            ("params", "f4", size),
            ("buffers", "f4", (plan.n_buffers,)),
            ("m", "f4", size),
            ("v", "f4", size),
        ],
    )
    await node.grant(shard)
    await node.grant(publish)
    return Client(number, node, shard, publish)


async def train_round(
    runtime: LocalRuntime,
    plan: NetworkPlan,
    clients: list[Client],
    params: np.ndarray,
    round_number: int,
    groups: int = 0,
) -> np.ndarray:
    """One round: all clients at once, then the average in slot order."""
    fresh = np.zeros_like(params)
    buffers = np.zeros(plan.n_buffers, dtype=np.float32)
    base = runtime.share("base", {"params": params, "buffers": buffers, "m": fresh, "v": fresh})
    updates: dict[int, np.ndarray] = {}

    async def train(client: Client) -> None:
        await client.node.grant(base)
        reply, _ = await client.node.call(
            Train(
                network="train",
                base=base.key,
                opt_step=0,
                shard=client.shard.key,
                publish=client.publish.key,
                optimizer="adam",
                learning_rate=LEARNING_RATE,
                batch_size=BATCH_ROWS,
                passes=(Pass(order_seed=order_seed(round_number, client.number)),),
                dropout_seed=0,
                together=_together(client.number, len(clients), round_number, groups),
            )
        )
        copied = client.publish.copy()
        sent = weights_digest(plan, copied["params"], copied["buffers"])
        if not isinstance(reply, Trained) or reply.digest != sent:
            raise SystemExit(f"client {client.number} did not answer with its update")
        updates[client.number] = copied["params"]

    async with anyio.create_task_group() as group:
        for client in clients:
            group.start_soon(train, client)
    base.close()
    ordered = [updates[number] for number in sorted(updates)]
    return federated_average(ordered, [1] * len(ordered))


def _together(number: int, clients: int, round_number: int, groups: int) -> Together | None:
    """Who is asked at the same time in the process of this client."""
    if not groups:
        return None
    size = len(range(number % groups, clients, groups))
    return Together(round=round_number, size=size, place=number // groups)


async def run(zygote: ZygoteProcess, groups: int = 0) -> None:
    """Run the rounds on nodes of this zygote."""
    torch.set_num_threads(1)
    work, rounds, _ = arguments()
    plan, model = plan_of(work), make_model(work)
    params = to_vector(model)
    watch = Stopwatch()
    async with LocalRuntime(Settings(), zygote) as runtime:
        clients = [await start_client(runtime, plan, work, n, groups) for n in range(work.clients)]
        for round_number in range(1, rounds + 1):
            with watch:
                params = await train_round(runtime, plan, clients, params, round_number, groups)
        load_vector(model, params)
        report(watch.round_s, pooled_loss(work, model), watch.first_round_at_s)
