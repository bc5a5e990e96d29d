"""Rounds of real nodes, plain and private by turns: an exchange alone, and whole rounds of trainings.

Real engine, real confined processes. An exchange is everything of a round but optimiser steps, evaluation and
commit: base state out, a training of no passes, and what the nodes hold becomes the next state.
"""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Final

import numpy as np

from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.requests import (
    ConnectRequest,
    DeployRequest,
    InitRequest,
    StatusRequest,
    TrainRequest,
)
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
TRAINED_ROWS, ROUNDS = 100, 4
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


@dataclass(frozen=True)
class Cost:
    """What something took: the clock, and the processor time of the engine and of all nodes."""

    ms: float
    cpu_ms: float


@dataclass
class Meter:
    """Measures what is done inside of it; of nodes by the scheduler's count, which is exact."""

    nodes: Sequence[int]

    def cpu_ms(self) -> float:
        """Of the engine's process and the nodes, so far."""
        return 1000 * process_time() + sum(map(_scheduled_ms, self.nodes))

    async def measure(self, work: Callable[[], Awaitable[object]]) -> Cost:
        """Do it once."""
        began_s, before = perf_counter(), self.cpu_ms()
        await work()
        return Cost(1000 * (perf_counter() - began_s), self.cpu_ms() - before)


def _scheduled_ms(pid: int) -> float:
    """Processor milliseconds of all threads of a process."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6
    except (FileNotFoundError, ProcessLookupError):  # before it is read, and while it is
        raise SystemExit("a node was lost while it was measured; try again") from None


@dataclass
class Nodes:
    """Workers that have a network and a shard, and the ways in which their updates become a state."""

    cluster: LiveCluster
    exchange: Exchange
    networks: dict[str, NetworkGroup]

    @property
    def meter(self) -> Meter:
        """Of engine and nodes."""
        return meter_of(self.cluster)

    async def exchange_once(self, way: str) -> Cost:
        """One exchange, `plain` or `secure`."""
        return await self.meter.measure(partial(self._exchange, way))

    async def _exchange(self, way: str) -> None:
        self.exchange.keeps = way == "secure"
        left_out, network = LeftOut(), self.networks[way]
        members = [(slot, network) for slot in self.cluster.slots.healthy("worker")]
        delivery = self._delivery(way, left_out)
        copied = delivery.detour(network) is not None
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
        if made.excluded:
            raise SystemExit(f"a {way} round lost workers: {made.excluded}")
        self.networks[way] = replace(network, state=made.state)

    def _delivery(self, way: str, left_out: LeftOut) -> Delivery | SecureSum:
        if way == "secure":
            return SecureSum(self.cluster, self.exchange, POLICY, left_out)
        combiner = Combiner(
            context=self.cluster.context, policy=POLICY, trusted=None, run=RUN, local_epochs=0
        )
        return Delivery(self.cluster, self.exchange, combiner, left_out, audited=False)


def meter_of(*clusters: LiveCluster) -> Meter:
    """Of the engine and all nodes of these clusters."""
    handles = [slot.handle for cluster in clusters for slot in cluster.slots]
    return Meter(
        [handle.pid for handle in handles if handle is not None and handle.pid is not None]
    )


@asynccontextmanager
async def nodes(clients: int, parameters: int, topology: str | None) -> AsyncIterator[Nodes]:
    """An engine with one cluster whose workers are ready for a round.

    Args:
        clients: Workers.
        parameters: Of the network, about.
        topology: Of links over which a plain mean is summed; None for none, where the engine copies updates.
    """
    async with _engine() as (engine, settings):
        cluster = await _cluster(engine, clients, parameters)
        if topology is not None:
            await engine.connect(ConnectRequest(cluster_id=cluster.cluster_id, topology=topology))
        yield await _ready(cluster, settings, clients, parameters)


@asynccontextmanager
async def _engine() -> AsyncIterator[tuple[Engine, Settings]]:
    with tempfile.TemporaryDirectory(prefix="flow-nexus-bench-") as state_dir:
        settings = Settings(state_dir=Path(state_dir))
        runtime = LocalRuntime(settings)
        async with runtime, Engine.open(settings, runtime=runtime) as engine:
            yield engine, settings


async def _cluster(engine: Engine, clients: int, parameters: int) -> LiveCluster:
    init = InitRequest(name="round", seed=1, consensus="raft", daa_enabled=False)
    cluster_id = (await engine.init_cluster(init)).cluster_id
    wanted = layers(parameters)
    deploy = DeployRequest(cluster_id=cluster_id, role="worker", layers=wanted, count=clients)
    await engine.deploy_node(deploy)
    return engine.cluster(cluster_id)


async def _ready(cluster: LiveCluster, settings: Settings, clients: int, parameters: int) -> Nodes:
    plan = plan_network(
        parse_layers(layers(parameters)).layers,
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


async def whole_rounds(
    clients: int, parameters: int, ways: Mapping[str, Mapping[str, Any]], repeats: int
) -> dict[str, list[Cost]]:
    """Whole rounds of trainings: local training, exchange, evaluation, durable commit, loading into nodes.

    Args:
        clients: Workers, with `TRAINED_ROWS` rows each.
        parameters: Of the network, about.
        ways: What is passed to the training beside the rest, by name.
        repeats: Trainings of each way; the cost of a round is that of a training over its rounds.
    """
    found: dict[str, list[Cost]] = {way: [] for way in ways}
    async with _engine() as (engine, _):
        clusters = {way: await _cluster(engine, clients, parameters) for way in ways}
        for number in range(repeats + 1):  # the first one warms up
            for way, options in ways.items():
                cluster = clusters[way]
                request = TrainRequest(
                    cluster_id=cluster.cluster_id,
                    dataset=_rows(clients * TRAINED_ROWS, seed=number),
                    federated=True,
                    rounds=ROUNDS,
                    local_epochs=1,
                    optimizer="sgd",
                    patience=0,
                    test_size=0.1,
                    **options,
                )
                cost = await meter_of(cluster).measure(partial(_trained, engine, request))
                if number:
                    found[way].append(Cost(cost.ms / ROUNDS, cost.cpu_ms / ROUNDS))
    return found


async def _trained(engine: Engine, request: TrainRequest) -> None:
    await engine.train(request)
    run = engine.cluster(request.cluster_id).run
    if run is not None:
        await run.ended.wait()
    status = await engine.status(StatusRequest(cluster_id=request.cluster_id))
    if status.training_status != "completed":
        raise SystemExit(f"a training failed: {status.training_error}")


def _rows(n: int, seed: int) -> dict[str, Any]:
    """Two clouds, as inline data."""
    draw = np.random.Generator(np.random.PCG64(seed))
    y = np.arange(n) % 2
    x = draw.standard_normal((n, INPUTS)) + 0.3 * y[:, None]
    return {"X": np.round(x, 2).tolist(), "y": y.tolist()}
