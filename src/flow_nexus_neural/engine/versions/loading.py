"""Loads a committed version into the nodes that serve predictions.

A node keeps two serving copies of its network. A new version is loaded into the copy that the current bundle
does not use, so predictions continue, and all numbers of a reply come from one bundle.
"""

from collections.abc import Collection, Sequence

import anyio

from flow_nexus_neural.engine.calls.calls import NodeCalls
from flow_nexus_neural.engine.calls.deadlines import BUILD, LOAD
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.roles import ROLE_OF, Purpose
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.errors import NodeError, SyncMismatch
from flow_nexus_neural.protocol.messages import Build, Load
from flow_nexus_neural.runtime.base import Region


def serving_name(parity: int) -> str:
    """Name of a serving copy inside a node: two for versions in force, one for a pinned version."""
    return f"serve{parity}"


async def share_weights(context: EngineContext, network: NetworkGroup, purpose: str) -> Region:
    """Write a network's committed weights into a sealed region."""
    state = network.state
    if state is None:
        raise ValueError(f"network {network.key} has no weights to share")
    arrays = {"params": state.params, "buffers": state.buffers}
    return await context.offload(context.runtime.share, f"{purpose}:{network.key}", arrays)


async def load(
    calls: NodeCalls, slot: Slot, network: NetworkGroup, parity: int, region: Region
) -> None:
    """Load a region's weights into one serving copy of a node and check the digest that the node reports.

    Raises:
        SyncMismatch: If that digest is not the committed one.
        NodeError: If the node failed.
    """
    name = serving_name(parity)
    if slot.built.get(name) != network.plan_digest:
        built, _ = await calls.ask(slot, Build(network=name, plan=network.plan, seed=0), BUILD)
        slot.note_built(name, network.plan_digest)
        slot.note_offered(built.digest)
    await calls.grant(slot, region)
    slot.note_offered(network.digest or "")  # before it can answer with them
    reply, _ = await calls.ask(slot, Load(network=name, region=region.key), LOAD)
    calls.pulled(region.nbytes)
    await calls.revoke(slot, region.key)  # the node has copied the weights
    if reply.digest != network.digest:
        raise SyncMismatch(
            f"node {slot.name} holds weights {reply.digest[:12]} after loading"
            f" {(network.digest or 'none')[:12]}",
            hint="call neural_cluster_status; a failed node is replaced by neural_node_deploy",
        )
    slot.note_served(name, reply.digest)


async def load_everywhere(
    cluster: LiveCluster, networks: Sequence[NetworkGroup], parity: int
) -> frozenset[str]:
    """Load committed networks into all healthy nodes that hold them.

    A node that fails here does not hold the version and is not asked for its predictions; the failure is
    recorded in its slot.

    Returns:
        Ids of the nodes that were to load something.
    """
    calls = cluster.calls("sync")
    asked: set[str] = set()

    async def load_one(slot: Slot, network: NetworkGroup, region: Region) -> None:
        try:
            await load(calls, slot, network, parity, region)
        except NodeError as failure:
            slot.note_error(str(failure))

    for network in networks:
        if not network.slots:  # all of its slots have weights of their own
            continue
        region = await share_weights(cluster.context, network, "serve")
        try:
            async with anyio.create_task_group() as group:
                for slot in cluster.slots.healthy():
                    if slot.name in network.slots:
                        asked.add(slot.node_id)
                        group.start_soon(load_one, slot, network, region)
        finally:
            region.close()
    return frozenset(asked)


async def synchronise(cluster: LiveCluster, slot: Slot) -> bool:
    """Load the current bundle into a slot's new process; False if there is nothing to load.

    Raises:
        NodeError: If the node failed or reports other weights than the committed ones.
    """
    committed = cluster.committed
    network = committed.loaded_into(slot.name) if committed else None
    if committed is None or network is None or network.state is None:
        return False
    region = await share_weights(cluster.context, network, "sync")
    try:
        await load(cluster.calls("sync"), slot, network, committed.bundle.parity, region)
    finally:
        region.close()
    return True


async def keep_up(cluster: LiveCluster, slot: Slot) -> None:
    """Load the current bundle into a slot until it holds it, also where versions are committed meanwhile.

    Raises:
        NodeError: As `synchronise`.
    """
    loaded = True
    while loaded and not holds_version(cluster, slot):
        loaded = await synchronise(cluster, slot)


def adopt(cluster: LiveCluster, slot: Slot) -> None:
    """Assign a worker without a network to a trained network group with the same layers, if there is one."""
    committed = cluster.committed
    if committed is None or slot.spec.role != "worker" or committed.network_of(slot.name):
        return
    for network in committed.networks.values():
        twins = [twin for twin in cluster.slots.of_role("worker") if twin.name in network.slots]
        if any(same_network(cluster, twin, slot, network) for twin in twins):
            cluster.state.serve(slot.name, network.shared_key)
            slot.assign_network(network.plan.n_params, implied_head=network.plan.implied_head)
            return


def same_network(cluster: LiveCluster, one: Slot, other: Slot, group: NetworkGroup) -> bool:
    """Whether two workers have the same layers on the rows of a network group."""
    architecture, rows = cluster.spec.architecture, group.plan.input
    return one.layers_for(architecture, rows) == other.layers_for(architecture, rows)


async def catch_up(cluster: LiveCluster, asked: Collection[str]) -> None:
    """Load the current bundle into nodes that came while it was being loaded into those of the ids `asked`.

    A member that was restarted meanwhile is one of them: its name is known, and its process is new.
    """
    late = [
        slot
        for slot in cluster.slots.healthy()
        if slot.node_id not in asked and not holds_version(cluster, slot)
    ]

    async def bring(slot: Slot) -> None:
        try:
            await synchronise(cluster, slot)
        except NodeError as failure:
            slot.note_error(str(failure))

    async with anyio.create_task_group() as group:
        for slot in late:
            group.start_soon(bring, slot)


def holds_version(
    cluster: LiveCluster, slot: Slot, committed: CommittedVersion | None = None
) -> bool:
    """Whether a slot has all that a version (by default the current one) wants to be loaded into it."""
    committed = committed or cluster.committed
    network = committed.loaded_into(slot.name) if committed else None
    if committed is None or network is None:
        return True
    return slot.served.get(serving_name(committed.bundle.parity)) == network.digest


def role_slots(cluster: LiveCluster, committed: CommittedVersion, purpose: Purpose) -> list[Slot]:
    """Healthy slots that hold a version's network of this purpose, in slot order."""
    trained = committed.bundle.roles.for_purpose(purpose)
    return [
        slot
        for slot in cluster.slots.healthy(ROLE_OF[purpose])
        if slot.name in trained and holds_version(cluster, slot, committed)
    ]


def serving_slots(cluster: LiveCluster, committed: CommittedVersion | None = None) -> list[Slot]:
    """Healthy slots that hold a committed version (by default the current one), in slot order."""
    committed = committed or cluster.committed
    if committed is None:
        return []
    name = serving_name(committed.bundle.parity)
    return [
        slot
        for slot in cluster.slots.healthy("worker")
        if (network := committed.network_of(slot.name)) is not None
        and slot.served.get(name) == network.digest
    ]


def expected_slots(cluster: LiveCluster, committed: CommittedVersion | None = None) -> list[Slot]:
    """All slots that serve a committed version, healthy or not, in slot order."""
    committed = committed or cluster.committed
    if committed is None:
        return []
    workers = cluster.slots.of_role("worker")
    return [slot for slot in workers if committed.network_of(slot.name) is not None]
