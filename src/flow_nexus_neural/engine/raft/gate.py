"""Where a version waits until a majority of voters has it: under raft nothing else becomes visible."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import cast

from pydantic import JsonValue

from flow_nexus_neural.coordination.consensus.raft.applied import record
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.raft.group import VoterGroup
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.errors import ConsensusUnavailable, StoreUnavailable
from flow_nexus_neural.protocol.digest import json_digest
from flow_nexus_neural.protocol.raft_records import MAX_BODY_CHARACTERS

EVIDENCE = "evidence"
"""Part of a ledger entry with numbers that explain a fold: replicated by its digest, for it may be long."""


def voters_of(cluster: LiveCluster) -> VoterGroup | None:
    """The voters of a cluster under raft; None under another mode."""
    if cluster.spec.consensus != "raft":
        return None
    if cluster.voters is None:
        cluster.begin_voting(VoterGroup(cluster))
    return cast("VoterGroup", cluster.voters)


async def agree(
    cluster: LiveCluster,
    version: int,
    networks: Mapping[str, NetworkGroup],
    entries: Sequence[Mapping[str, JsonValue]],
) -> None:
    """Return when a majority of voters has what the ledger is about to say; at once under other modes.

    Args:
        cluster: Whose version it is.
        version: The number that it is to have; the present one's where only its bundle changes.
        networks: Its network groups; voters hold their weights before they acknowledge.
        entries: What the ledger is about to say.

    Raises:
        ConsensusUnavailable: No majority in time; nothing has become visible.
        StoreUnavailable: What voters have to remember could not be written.
    """
    group = voters_of(cluster)
    if group is None:
        return
    parent = cluster.committed.version if cluster.committed else 0
    body = record(version, parent, [_replicated(entry) for entry in entries])
    if len(body) > MAX_BODY_CHARACTERS:
        body = record(version, parent, [_shortened(entry) for entry in entries])
    await group.commit(body, networks)


def settle(cluster: LiveCluster) -> None:
    """What follows a version that is in force and nobody waits for: voters give the former weights back.

    Not before it is durable: after a crash the former one is in force, whose weights a majority must hold.
    """
    group = voters_of(cluster)
    if group is not None:
        cluster.context.spawn(group.settle)


async def await_majority(cluster: LiveCluster) -> None:
    """Wait until a version could be agreed on.

    Raises:
        ConsensusUnavailable: It takes too long.
        StoreUnavailable: What voters remember could not be read.
    """
    group = voters_of(cluster)
    if group is not None:
        await group.wait()


async def require_majority(cluster: LiveCluster) -> None:
    """Refuse what could not be agreed on now, before anything of it has begun.

    Raises:
        ConsensusUnavailable: Fewer than a majority of the voters are alive.
    """
    missing = await cannot_decide(cluster)
    if missing is not None:
        raise ConsensusUnavailable(
            f"no version could become visible: {missing}",
            hint="call neural_cluster_status to see the voters, and again when a majority is alive",
        )


async def cannot_decide(cluster: LiveCluster) -> str | None:
    """Why no version can be agreed on now; None where one can, or nobody has to agree.

    Raises nothing of the store: that voters cannot be read is such a reason, and predictions go on.
    """
    group = voters_of(cluster)
    if group is None:
        return None
    with suppress(StoreUnavailable):
        await group.load()
    return group.missing


def _shortened(entry: Mapping[str, JsonValue]) -> JsonValue:
    """An entry of so many workers that it does not fit: its lists and tables are replicated by digest."""
    return {
        name: json_digest(value) if isinstance(value, list | dict) else value
        for name, value in entry.items()
    }


def _replicated(entry: Mapping[str, JsonValue]) -> JsonValue:
    told = dict(entry)
    if EVIDENCE in told:
        told[EVIDENCE] = json_digest(told[EVIDENCE])
    return told
