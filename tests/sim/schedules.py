"""Schedules that a seed draws: nodes fail at any message, the disk refuses, clients act at any time."""

import json
from dataclasses import dataclass
from itertools import count

import anyio
import numpy as np

from flow_nexus_neural.errors import StoreUnavailable
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan, PlannedFault
from tests.doubles.fail_points import FILES, JOURNAL
from tests.doubles.linear_service import LinearService
from tests.doubles.seeded import run_seeded
from tests.sim.chaos import ODDS, TOPOLOGIES, Chaos, the_books_are_right, those_who_serve_are_there
from tests.sim.scheduled import UntimedService, scheduled_ports, scheduled_world
from tests.sim.simulated import blobs

LINEAR = ({"type": "dense", "units": 1},)
DATA = blobs(rows=60)
CLIENTS = 3
FAULTS = ("kill", "kill", "lose", "freeze", "garbage", "ignore", "slow")
CALL_S = 1000
"""Longer than any deadline of the engine that a call waits for."""
SCHEDULE_ODDS = {**ODDS, "predict": 0.36, "stop_training": 0.03, "terminate": 0.01}


class RandomFaults(FaultPlan):
    """Every request may be slow, and any may be the one at which something goes wrong.

    Args:
        draw: Decides.
        rate: Share of requests that something happens to.
        latency_s: Mean time that a node takes to begin with a request.
    """

    def __init__(self, draw, rate, latency_s):
        super().__init__()
        self._draw, self._rate, self._latency_s = draw, rate, latency_s

    def meet(self, slot, kind):
        super().meet(slot, kind)
        if self._draw.random() >= self._rate:
            return PlannedFault("slow", float(self._draw.exponential(self._latency_s)))
        fault = str(self._draw.choice(FAULTS))
        if fault == "ignore" and kind == "train":
            fault = (
                "freeze"  # a node that answers pings and never ends its work is waited for an hour
            )
        return PlannedFault(fault, float(self._draw.uniform(1, 60)))


class RandomDisk:
    """A disk that refuses now and then."""

    def __init__(self, draw, rate):
        self._draw, self.rate, self.refused = draw, rate, 0

    def __call__(self, point):
        if point not in (JOURNAL, FILES) or self._draw.random() >= self.rate:
            return
        self.refused += 1
        if point == FILES:
            raise OSError(28, "No space left on device")
        raise StoreUnavailable("could not write to the journal: database or disk is full")


@dataclass(frozen=True)
class Course:
    """What happened.

    Attributes:
        messages: (virtual time, slot, direction, kind) of every message and every end of a node.
        entries: Shas of the ledger's entries.
        weights: Digest of every committed version.
        training_status: At the end.
        refusals: Codes of the errors that clients were answered with.
    """

    messages: tuple
    entries: tuple
    weights: tuple
    training_status: str
    refusals: frozenset


def run_schedule(state_dir, seed, *, real=False, consensus="proof-of-learning"):
    """Run the schedule of a seed and check it; the real service of a node, or a linear one that is faster."""
    return run_seeded(_schedule, state_dir, seed, real, consensus, seed=seed)


async def _schedule(state_dir, seed, real, consensus):
    draw = np.random.Generator(np.random.PCG64(seed))
    messages = []

    def note(*event):
        messages.append((round(anyio.current_time(), 6), *event))

    faults = RandomFaults(draw, draw.choice([0.0, 0.01, 0.03, 0.06]), draw.choice([0.001, 0.05]))
    disk = RandomDisk(draw, draw.choice([0.0, 0.0, 0.02, 0.1]))
    service = UntimedService if real else lambda spec: LinearService()
    opened = scheduled_world(
        state_dir,
        faults,
        service,
        on_event=note,
        ports=scheduled_ports(seed, fail_point=disk),
        max_nodes=6,
    )
    async with opened as w:
        cluster, clients, most = await _everything_at_once(w, draw, consensus)
        disk.rate = 0.0
        status = await the_books_are_right(w, cluster, clients, most_clients=most)
        ledger = (await w.stored()).ledgers.get(cluster, ())
        if consensus == "raft":
            replicated_is_what_is_served(await w.engine.context.store.voters(cluster), ledger)
    async with scheduled_world(state_dir, None, service, seed=seed) as w:
        await _reads_the_same(w, cluster, status, disk_refused=disk.refused > 0)
    return Course(
        messages=tuple(messages),
        entries=tuple(entry["entry_sha"] for entry in ledger),
        weights=tuple(entry["weights_digest"] for entry in ledger if entry["kind"] == "version"),
        training_status=status.training_status,
        refusals=frozenset(code for client in clients for code in client.refusals),
    )


def replicated_is_what_is_served(voters, ledger):
    """Whatever version the ledger has come to, more than half of those who voted on it have it on disk."""
    served = max(
        (entry["model_version"] for entry in ledger if entry["kind"] == "version"), default=0
    )
    if served == 0:
        return
    best = max(voters.values(), key=lambda records: (last_term(records), records.last_index))
    deciding = best.snapshot.voters
    for entry in best.entries:
        if entry.kind == "record" and json.loads(entry.body)["version"] >= served:
            break
        deciding = entry.voters or deciding
    having = [name for name in deciding if newest_version(voters[name]) >= served]
    assert len(having) > len(deciding) // 2


def last_term(records):
    return records.entries[-1].term if records.entries else records.snapshot.term


def newest_version(records):
    """The last version of the model that a voter's durable records know."""
    logged = [json.loads(e.body)["version"] for e in records.entries if e.kind == "record"]
    compacted = json.loads(records.snapshot.state)["version"] if records.snapshot.state else 0
    return max([compacted, *logged])


async def _everything_at_once(w, draw, consensus):
    """Deploy, then train (perhaps twice) while clients act; returns when no training runs."""
    cluster = None
    for _ in count():
        try:
            cluster = await w.cluster(0, topology=str(draw.choice(TOPOLOGIES)), consensus=consensus)
            break
        except StoreUnavailable:
            continue
    clients = [
        Chaos(w, cluster, draw, odds=SCHEDULE_ODDS, layers=LINEAR, patience_s=CALL_S)
        for _ in range(int(draw.integers(1, 5)))
    ]
    workers, federated = int(draw.integers(1, 6)), bool(draw.integers(2))
    for role in ("worker",) * workers + ("validator",) * int(draw.integers(2)):
        await clients[0].attempt(lambda role=role: w.deploy(cluster, role, layers=LINEAR))
    most = min(CLIENTS, workers)
    options = {"clients_per_round": most, "min_nodes_per_round": 1} if federated else {}

    async def train():
        for _ in range(int(draw.integers(1, 3))):
            epochs = int(draw.integers(2, 8))
            await clients[0].attempt(
                lambda epochs=epochs: w.start(
                    cluster, DATA, epochs=epochs, federated=federated, **options
                )
            )
            await w.done(cluster)

    async def act(client):
        for _ in range(int(draw.integers(4, 16))):
            await anyio.sleep(float(draw.exponential(draw.choice([0.02, 0.5, 5.0]))))
            await client.act()
            await client.look()

    async with anyio.create_task_group() as group:
        group.start_soon(train)
        for client in clients:
            group.start_soon(act, client)
    await w.done(cluster)
    return cluster, clients, most if federated else None


async def _reads_the_same(w, cluster, before, *, disk_refused):
    """Another engine on the directory knows what the former one had made durable, and answers from it."""
    after = await w.status(cluster)
    if after.training_status == "running":  # its end is not recorded, so it ends once more
        assert disk_refused
        after = await w.done(cluster)
        those_who_serve_are_there(await w.whole(cluster))
        assert (after.model_version or 0) >= (before.model_version or 0)
        return
    those_who_serve_are_there(await w.whole(cluster))
    assert after.model_version == before.model_version
    assert after.history == before.history
    assert after.training_status == before.training_status
    if any(node.role == "worker" for node in after.nodes) and after.model_version is not None:
        answer = await w.predict(cluster, deadline_ms=10_000)
        assert answer.model_version == after.model_version
