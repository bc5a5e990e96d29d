"""The aggregation that is part of a connect: the mean of the weights that the serving workers hold.

Between trainings a correct worker holds the committed weights, so that the average has the accuracy of the
former version. A worker with other weights is left out and reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import anyio
from pydantic import JsonValue

from flow_nexus_neural.coordination.consensus.registry import AVERAGING
from flow_nexus_neural.engine.calls.calls import NodeCalls
from flow_nexus_neural.engine.calls.deadlines import LOAD
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import AggregationReport, Exclusion
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.state.version import CommittedVersion, model_digest
from flow_nexus_neural.engine.versions.aggregate import aggregate
from flow_nexus_neural.engine.versions.commit import (
    install,
    recent_files,
    store_blobs,
    version_entry,
)
from flow_nexus_neural.engine.versions.kept import EXACT_AGGREGATION
from flow_nexus_neural.engine.versions.loading import serving_name, serving_slots
from flow_nexus_neural.errors import NodeError, RoundFailed, UpdateRejected
from flow_nexus_neural.protocol.messages import GetWeights


@dataclass(frozen=True)
class Delivered:
    """The weights of the serving workers, in slot order, and why some were left out."""

    updates: Sequence[Update]
    excluded: Mapping[str, str]


async def aggregate_exactly(cluster: LiveCluster, committed: CommittedVersion) -> AggregationReport:
    """Average the weights that the serving workers hold, by rows, and commit the result.

    Raises:
        RoundFailed: If no worker delivered its weights; the former version stays.
        StoreUnavailable: If it could not be made durable; the former version stays.
    """
    began_s, bytes_before = cluster.clock(), cluster.metrics.communication_bytes
    serving = serving_slots(cluster)
    delivered = await _delivered(cluster, committed, serving)
    renewed = await _renewed(cluster, committed, delivered)
    if not renewed:
        raise RoundFailed(
            f"none of {len(serving)} serving workers delivered its weights; the former links stay",
            hint="call neural_cluster_status for the nodes' errors",
        )
    version = committed.version + 1
    stored, blobs = await store_blobs(
        cluster,
        committed.schema,
        {**committed.networks, **renewed},
        frozenset(renewed),
        committed.bundle.rule,
    )
    digests = {key: network.digest or "" for key, network in stored.items()}
    bundle = replace(committed.bundle, version=version, digests=digests, parity=version % 2)
    aggregated = replace(
        committed if digests == committed.digests else committed.unmeasured(),
        version=version,
        networks=stored,
        bundle=bundle,
        recent=recent_files(committed, stored, cluster.context.settings.checkpoint_keep),
    )
    entries = [_entry(cluster, stored[key], version, delivered) for key in sorted(renewed)]
    await install(cluster, aggregated, entries, [], blobs)
    return AggregationReport(
        performed=True,
        reason=None,
        version=version,
        contributors=len(delivered.updates),
        excluded=[
            Exclusion(node_id=cluster.slots[name].node_id, reason=why)
            for name, why in delivered.excluded.items()
        ],
        weights_digest=model_digest(digests),
        accuracy_before=committed.accuracy,
        accuracy_after=aggregated.accuracy,
        bytes=cluster.metrics.communication_bytes - bytes_before,
        ms=(cluster.clock() - began_s) * 1e3,
    )


async def _renewed(
    cluster: LiveCluster, committed: CommittedVersion, delivered: Delivered
) -> dict[str, NetworkGroup]:
    """The network groups for which a worker delivered weights, with the average of those weights."""
    renewed: dict[str, NetworkGroup] = {}
    for key, network in committed.networks.items():
        own = [update for update in delivered.updates if update.slot in network.slots]
        if own and network.state is not None:
            made = await cluster.context.offload(aggregate, network.state, own, AVERAGING)
            renewed[key] = network.with_state(made.state)
    return renewed


async def _delivered(
    cluster: LiveCluster, committed: CommittedVersion, serving: Sequence[Slot]
) -> Delivered:
    """Fetch the weights of each serving worker."""
    calls = cluster.calls("train")
    held: dict[str, Update] = {}
    excluded: dict[str, str] = {}

    async def deliver(slot: Slot) -> None:
        try:
            held[slot.name] = await _held(calls, slot, committed)
        except UpdateRejected as rejection:
            excluded[slot.name] = rejection.message
        except NodeError as failure:
            excluded[slot.name] = f"{failure.code}: {failure.message}"

    async with anyio.create_task_group() as group:
        for slot in serving:
            group.start_soon(deliver, slot)
    return Delivered([held[slot.name] for slot in serving if slot.name in held], excluded)


async def _held(calls: NodeCalls, slot: Slot, committed: CommittedVersion) -> Update:
    """Fetch the weights of one worker. Raises `UpdateRejected` unless they are the committed ones."""
    network = committed.network_of(slot.name)
    request = GetWeights(network=serving_name(committed.bundle.parity))
    _, arrays = await calls.ask(slot, request, LOAD)
    params, buffers = arrays.get("params"), arrays.get("buffers")
    if (
        network is None
        or network.state is None
        or params is None
        or buffers is None
        or params.shape != (network.plan.n_params,)
        or buffers.shape != (network.plan.n_buffers,)
    ):
        raise UpdateRejected("its weights have the wrong shape")
    state = ModelState(params, buffers, {}, network.state.opt_step)
    # Computed here from the delivered weights; the digest that a worker reports proves nothing.
    digest = network.digest_of(state)
    if digest != network.digest:
        raise UpdateRejected(f"it holds other weights than version {committed.version}")
    rows = max(1, network.rows.get(slot.name, 1))
    return Update(
        slot.name,
        state,
        digest,
        rows=rows,
        steps=0,
        opt_step=state.opt_step,
        loss=None,
        cpu_s=0.0,
    )


def _entry(
    cluster: LiveCluster, network: NetworkGroup, version: int, delivered: Delivered
) -> dict[str, JsonValue]:
    own = set(network.slots)
    contributors: list[JsonValue] = [{"slot": u.slot} for u in delivered.updates if u.slot in own]
    excluded = {slot: why for slot, why in delivered.excluded.items() if slot in own}
    return version_entry(cluster, network, version, EXACT_AGGREGATION, contributors, excluded)
