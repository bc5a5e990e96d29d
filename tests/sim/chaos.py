"""Clients that act at random on a cluster, and what must hold whatever they did and whatever went wrong."""

from collections import Counter, defaultdict

import anyio
import pytest

from flow_nexus_neural.errors import NeuralError
from flow_nexus_neural.vocabulary import ENDED_WELL
from tests.doubles.limits import HANG_S
from tests.sim.simulated import LAYERS

TOPOLOGIES = ("star", "mesh", "ring", "hierarchical")
ODDS = {
    "predict": 0.4,
    "connect": 0.1,
    "replace": 0.1,
    "grow": 0.05,
    "kill": 0.05,
    "look": 0.3,
}


class Chaos:
    """A client that predicts, connects, deploys and kills; what it saw.

    Args:
        w: The world.
        cluster: Its id.
        draw: Decides what is done.
        odds: Of every act.
        layers: Of the workers that it deploys.
        patience_s: Every call must return within this time.
    """

    def __init__(self, w, cluster, draw, *, odds=ODDS, layers=LAYERS, patience_s=HANG_S):
        self.w, self.cluster, self.draw = w, cluster, draw
        self.odds, self.layers, self.patience_s = odds, layers, patience_s
        self.versions, self.progress, self.refusals = [], defaultdict(list), Counter()

    async def attempt(self, work):
        """Do something that may be refused, by one of our errors and in time."""
        try:
            with anyio.fail_after(self.patience_s):
                return await work()
        except NeuralError as refusal:
            self.refusals[refusal.code] += 1
            return None

    async def act(self):
        acts = list(self.odds)
        await getattr(self, acts[int(self.draw.choice(len(acts), p=list(self.odds.values())))])()

    async def predict(self):
        answer = await self.attempt(lambda: self.w.predict(self.cluster, deadline_ms=1000))
        if answer is not None:
            assert len(set(answer.node_predictions.values())) == 1
            assert answer.nodes_used + len(answer.excluded_nodes) == answer.nodes_expected
            self.versions.append(answer.model_version)

    async def connect(self):
        topology = str(self.draw.choice(TOPOLOGIES))
        await self.attempt(lambda: self.w.connect(self.cluster, topology))

    async def replace(self):
        await self.attempt(lambda: self.w.deploy(self.cluster, layers=None))

    async def grow(self):
        await self.attempt(lambda: self.w.deploy(self.cluster, layers=self.layers))

    async def kill(self):
        alive = sorted(n.spec.slot for n in self.w.runtime.nodes if not n.gone)
        if alive:
            self.w.kill(str(self.draw.choice(alive)))

    async def stop_training(self):
        status = await self.w.status(self.cluster)
        if status.training is not None:
            training_id = status.training.training_id
            await self.attempt(lambda: self.w.terminate(self.cluster, training_id=training_id))

    async def terminate(self):
        await self.attempt(lambda: self.w.terminate(self.cluster))

    async def look(self):
        status = await self.w.status(self.cluster)
        if status.training is not None:
            self.progress[status.training.training_id].append(status.training_progress)
        assert (status.training_progress == 100) == (status.training_status in ENDED_WELL)
        those_who_serve_are_there(await self.w.whole(self.cluster))

    async def run(self):
        """Act until the training ends."""
        while (await self.w.status(self.cluster)).training_status == "running":
            await self.act()
            await self.look()


async def queued_connects_are_done(cluster):
    """Wait for connects that a training left at its end: their version is durable before it is in force."""
    async with cluster.changing:
        pass


def those_who_serve_are_there(cluster):
    """Serving weights sum to 1, and nobody serves who is not a slot any more."""
    if cluster.committed is None:
        return
    weights = cluster.committed.bundle.slot_weights
    assert weights.keys() <= cluster.slots.names() or cluster.state.terminated_at is not None
    if weights:
        assert sum(weights.values()) == pytest.approx(1)


async def the_books_are_right(w, cluster, clients, *, most_clients):
    """The ledger, the history and what every client saw agree; returns the status that was checked.

    Args:
        w: The world, in which no training runs.
        cluster: Its id.
        clients: Those that acted on it.
        most_clients: Per federated round; None where the rounds were not federated.
    """
    await queued_connects_are_done(await w.whole(cluster))
    status = await w.status(cluster)
    entries = await w.versions(cluster)
    numbers = [entry["model_version"] for entry in entries]
    assert numbers == list(range(1, len(numbers) + 1))
    assert status.model_version == (numbers[-1] if numbers else None)
    rounds = [
        e for e in entries if e["rule"] not in ("exact_aggregation", "best_round", "personalised")
    ]
    for session in status.training_sessions:
        own = [entry["round"] for entry in rounds if entry["training_id"] == session.training_id]
        assert own == list(range(1, session.rounds_done + 1))
    assert len(rounds) == sum(session.rounds_done for session in status.training_sessions)
    assert len(status.history) == (status.training.current_round if status.training else 0)
    for entry in rounds:
        counted = [member["slot"] for member in entry["contributors"]]
        left_out = [member["slot"] for member in entry["excluded"]]
        assert counted
        assert len(set(counted)) == len(counted)
        assert all(member["reason"] for member in entry["excluded"])
        if most_clients is not None:
            assert not set(counted) & set(left_out)
            assert len(counted) <= most_clients
            assert len(set(left_out)) == len(left_out)
    for client in clients:
        assert client.versions == sorted(client.versions)
        assert set(client.versions) <= set(numbers)
        assert all(seen == sorted(seen) for seen in client.progress.values())
        assert "internal_error" not in client.refusals
    status = await w.until(cluster, lambda s: s.active_nodes + s.failed_nodes == s.total_nodes)
    if "is not recorded" not in (status.training_error or ""):
        without_error = status.training_status in ("completed", "stopped", "none")
        assert (status.training_error is None) == without_error
    those_who_serve_are_there(await w.whole(cluster))
    return status
