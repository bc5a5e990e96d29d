"""Weights handed to voters, which acknowledge a version only when they hold what it names.

A voter is granted the sealed region and computes the digest itself. It keeps the region until a later version
is in force: so more than half of the voters hold the weights of every version that is served.
"""

from collections.abc import Mapping, Sequence

import anyio

from flow_nexus_neural.engine.calls.deadlines import LOAD
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.raft.seat import Seat
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.errors import NodeError
from flow_nexus_neural.protocol.messages import RaftHold
from flow_nexus_neural.runtime.base import Region

HOLD_S = 1.0
HOLD_BYTES_PER_S = 20e6
"""How long voters get to take weights over and compute their digest; nobody waits for a frozen one."""


def digests_of(networks: Mapping[str, NetworkGroup]) -> frozenset[str]:
    """Digests of all weights of a version."""
    return frozenset(n.digest for n in networks.values() if n.digest and n.state is not None)


async def hand_out(
    cluster: LiveCluster, voters: Sequence[tuple[Seat, Slot]], networks: Mapping[str, NetworkGroup]
) -> list[Seat]:
    """Let voters hold the weights of a version; one that cannot is told by its slot's last error.

    Returns:
        Voters that have not failed and did not hold them in time. They are not asked again for this version
        unless the caller forgets that.
    """
    needed = digests_of(networks)
    lacking = [
        (seat, slot)
        for seat, slot in voters
        if not seat.holds(slot.node_id, needed) and seat.failed_to_hold != slot.node_id
    ]
    late: list[Seat] = []
    for key in sorted(networks) if lacking else ():
        network = networks[key]
        if network.state is None or network.digest is None:
            continue
        arrays = {"params": network.state.params, "buffers": network.state.buffers}
        share = cluster.context.runtime.share
        region = await cluster.context.offload(share, f"raft:{network.digest}", arrays)
        at_work: list[Seat] = []
        try:
            with anyio.move_on_after(HOLD_S + region.nbytes / HOLD_BYTES_PER_S):
                async with anyio.create_task_group() as group:
                    for seat, slot in lacking:
                        at_work.append(seat)
                        group.start_soon(_hand, cluster, seat, slot, network, region, at_work)
        finally:
            region.close()  # a voter has its own view of it
        late += at_work
    return late


def ask_again(
    late: Sequence[Seat],
    present: Sequence[tuple[Seat, Slot]],
    enough: int,
    needed: frozenset[str],
) -> None:
    """Let voters that were late to hold weights be asked once more, where not enough others hold them.

    A machine that stands still for a second makes all of them late, and none of them is frozen.
    """
    if sum(seat.holds(slot.node_id, needed) for seat, slot in present) < enough:
        for seat in late:
            seat.failed_to_hold = None


async def take_back(
    cluster: LiveCluster, voters: Sequence[tuple[Seat, Slot]], kept: frozenset[str]
) -> None:
    """Make voters, also former ones, forget all that they were granted but weights of these digests."""
    calls = cluster.calls("consensus")
    async with anyio.create_task_group() as group:
        for seat, slot in voters:
            if seat.holder == slot.node_id:
                group.start_soon(calls.revoke, slot, *seat.take_superseded(kept))


async def _hand(
    cluster: LiveCluster,
    seat: Seat,
    slot: Slot,
    network: NetworkGroup,
    region: Region,
    at_work: list[Seat],
) -> None:
    """Let one voter hold weights; it leaves those at work when that has come to an end."""
    if network.digest is None or seat.holds(slot.node_id, frozenset({network.digest})):
        at_work.remove(seat)
        return
    calls, node_id = cluster.calls("consensus"), slot.node_id
    seat.failed_to_hold = node_id  # unless it succeeds in time
    seat.note_granted(node_id, region.key)
    try:
        await calls.grant(slot, region)
        reply, _ = await calls.ask(slot, RaftHold(region=region.key, plan=network.plan), LOAD)
    except NodeError as failure:
        slot.note_error(str(failure))
        at_work.remove(seat)
        return
    at_work.remove(seat)
    calls.pulled(region.nbytes)
    if reply.digest != network.digest:
        slot.note_error(
            f"as a voter it computed {reply.digest[:12]} of weights {network.digest[:12]}"
        )
        return
    seat.failed_to_hold = None
    seat.note_held(network.digest, region.key)
