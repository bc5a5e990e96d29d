"""One round of real nodes, plain, secure and private by turns: everything of it but the optimiser steps.

Real engine, real confined processes. Each way makes the same rounds: base state out, a training of no passes,
then what the nodes hold becomes the next state. Steps would cost each way as much, and hide the difference.
"""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.requests import ConnectRequest, DeployRequest, InitRequest
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.training.base_states import BaseStates
from flow_nexus_neural.engine.training.collect import Pace, collect, prepare_all
from flow_nexus_neural.engine.training.combining import Combiner
from flow_nexus_neural.engine.training.delivery import Delivery
from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.secure_sum import SecureSum
from flow_nexus_neural.engine.training.tasks import Recipe, Task
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.protocol.messages import Pass
from flow_nexus_neural.protocol.plan import InputSpec
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.settings import Settings

INPUTS: Final = 100
ROWS: Final = 8
RUN: Final = (1, 0)
POLICY: Final = FederatedAveraging()
WAYS: Final = ("plain", "secure")
NOTHING: Final = (Pass(order_seed=0, start=0, stop=0),)


def layers(parameters: int) -> list[dict[str, Any]]:
    """A dense network of about so many parameters, at least ten thousand."""
    first = 1000 if parameters >= 200_000 else 50
    second = (parameters - first * (INPUTS + 1)) // (first + 2)
    return [{"type": "dense", "units": n, "activation": "relu"} for n in (first, second)] + [
        {"type": "dense", "units": 1}
    ]


@dataclass
class Nodes:
    """Workers that have a network and a shard, and the ways in which their updates become a state."""

    cluster: LiveCluster
    exchange: Exchange
    networks: dict[str, NetworkGroup]

    async def round(self, way: str) -> float:
        """One round of this way; returns its milliseconds.

        Args:
            way: `plain`, or `secure`.
        """
        self.exchange.keeps = way == "secure"
        left_out, network = LeftOut(), self.networks[way]
        members = [(slot, network) for slot in self.cluster.slots.healthy("worker")]
        delivery = self._delivery(way, left_out)
        copied = delivery.detour(network) is not None
        began_s = perf_counter()
        async with BaseStates(self.exchange, members) as bases:
            tasks = [
                Task(
                    slot=slot,
                    network=network,
                    base=bases.of(slot, network),
                    copied=copied,
                    opt_step=0,
                    passes=NOTHING,
                    dropout_seed=0,
                    work=1.0,
                )
                for slot, network in members
            ]
            collected = await collect(
                self.exchange,
                tasks,
                min_contributors=len(tasks),
                pace=Pace(),
                left_out=left_out,
                context=self.cluster.context,
            )
        made = await delivery.combine(network, collected.updates, ())
        ms = 1000 * (perf_counter() - began_s)
        if made.excluded:
            raise SystemExit(f"a {way} round lost workers: {made.excluded}")
        self.networks[way] = replace(network, state=made.state)
        return ms

    def _delivery(self, way: str, left_out: LeftOut) -> Delivery | SecureSum:
        if way == "secure":
            return SecureSum(self.cluster, self.exchange, POLICY, left_out)
        combiner = Combiner(
            context=self.cluster.context, policy=POLICY, trusted=None, run=RUN, local_epochs=0
        )
        return Delivery(self.cluster, self.exchange, combiner, left_out, audited=False)


@asynccontextmanager
async def nodes(clients: int, parameters: int, topology: str | None) -> AsyncIterator[Nodes]:
    """An engine with one cluster whose workers are ready for a round.

    Args:
        clients: Workers.
        parameters: Of the network, about.
        topology: Of links over which a plain mean is summed; None for none, where the engine copies updates.
    """
    with tempfile.TemporaryDirectory(prefix="flow-nexus-bench-") as state_dir:
        settings = Settings(state_dir=Path(state_dir))
        runtime = LocalRuntime(settings)
        async with runtime, Engine.open(settings, runtime=runtime) as engine:
            yield await _ready(engine, settings, clients, parameters, topology)


async def _ready(
    engine: Engine, settings: Settings, clients: int, parameters: int, topology: str | None
) -> Nodes:
    init = InitRequest(name="round", seed=1, consensus="raft", daa_enabled=False)
    cluster_id = (await engine.init_cluster(init)).cluster_id
    wanted = layers(parameters)
    await engine.deploy_node(
        DeployRequest(cluster_id=cluster_id, role="worker", layers=wanted, count=clients)
    )
    if topology is not None:
        await engine.connect(ConnectRequest(cluster_id=cluster_id, topology=topology))
    cluster = engine.cluster(cluster_id)
    plan = plan_network(
        parse_layers(wanted).layers,
        input=InputSpec(vector_length=0, n_scalars=INPUTS),
        task="binary",
        n_outputs=1,
        max_parameters=settings.max_parameters,
    ).plan
    slots = [slot.name for slot in cluster.slots.healthy("worker")]
    network = NetworkGroup("c0", plan, tuple(slots), "given", "sgd")
    n = ROWS * clients
    nothing = np.full(n, -1, np.int32)
    rows = Rows(np.zeros((n, INPUTS), np.float32), np.zeros(n, np.float32), nothing, nothing)
    shards = {name: np.arange(k * ROWS, (k + 1) * ROWS) for k, name in enumerate(slots)}
    recipe = Recipe(learning_rate=0.1, batch_size=ROWS, feature_dropout=0.0, class_weight=())
    exchange = Exchange(cluster, rows, shards, recipe)
    members = [(slot, network) for slot in cluster.slots.healthy("worker")]
    await prepare_all(exchange, members, LeftOut())
    state = await exchange.initial_state(members[0][0], network)
    return Nodes(cluster, exchange, dict.fromkeys(WAYS, network.with_state(state)))
