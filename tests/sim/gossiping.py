"""What tests of gossip share: clusters of it, what workers held before and after, what barriers saw."""

from collections import defaultdict
from types import MappingProxyType

from flow_nexus_neural.coordination.consensus.gossip import plan_mixing
from flow_nexus_neural.coordination.topology import Vertex
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import Fold, Train

LINKED = MappingProxyType({"peer_views": True})
"""The engine relays between the nodes, and takes that for memory that they share."""
TOPOLOGIES = ("mesh", "ring", "star", "hierarchical")
WORKERS = 5


class Watch:
    """What workers were told, and what they held before and after."""

    def __init__(self):
        self.trains, self.folds = [], []
        self.granted = defaultdict(set)

    def service(self, spec):
        watch = self

        class Witness(NodeService):
            def __init__(self, **given):
                super().__init__(**given)
                self.seen = {}

            def attach(self, key, arrays, *, writable):
                self.seen[key] = arrays
                watch.granted[spec.slot].add(key)
                super().attach(key, arrays, writable=writable)

            def handle(self, request, arrays, poll):
                base = None
                if isinstance(request, Train):
                    base = self.seen[request.base]["params"].copy()
                answer = super().handle(request, arrays, poll)
                if isinstance(request, Train):
                    made = self.seen[request.publish]["params"].copy()
                    watch.trains.append((spec.slot, request.base, base, made))
                if isinstance(request, Fold):
                    held = self.seen[request.into]["params"].copy()
                    watch.folds.append((spec.slot, request, held))
                return answer

        return Witness(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)

    def bases(self, number, workers=WORKERS):
        """What each worker started from in a round, from 1, and under which key."""
        of_round = self.trains[(number - 1) * workers : number * workers]
        assert len({slot for slot, *_ in of_round}) == workers
        return {slot: (key, base) for slot, key, base, _ in of_round}


async def trained(w, topology, *, workers=WORKERS, rounds=3, seed=1, data=None, **more):
    """A gossip cluster after a training."""
    cluster = await w.cluster(workers, topology=topology, consensus="gossip", seed=seed)
    await w.connect(cluster, topology)
    status = await w.train(cluster, data, epochs=rounds, refit=False, **more)
    assert status.training_status == "completed", status.training_error
    return cluster, status


async def barriers(w, cluster):
    """What the ledger says of every barrier."""
    entries = await w.round_versions(
        cluster
    )  # with those of connects and refits, which mix nothing
    return [entry["evidence"]["gossip"] for entry in entries if "evidence" in entry]


async def digests(w, cluster):
    return [entry["weights_digest"] for entry in await w.round_versions(cluster)]


async def committed(w, cluster):
    return (await w.whole(cluster)).committed.networks["c0"].state.params


def mixing_of(topology, n=WORKERS):
    workers = [Vertex(f"worker-{i}", "worker") for i in range(n)]
    return plan_mixing(topology, workers, push_sum=False)
