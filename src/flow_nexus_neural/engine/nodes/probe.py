"""Whether a node that has just loaded the version in force also answers as the others who serve it.

That its digest is right says what it was given, not what it computes with. So it answers rows that nobody
knows beforehand, beside up to three nodes that serve the same weights.
"""

from typing import Final

import anyio
import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.engine.calls.deadlines import LOAD
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.patience import Deadline
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.versions.loading import serving_name
from flow_nexus_neural.errors import NodeError, SyncMismatch
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.protocol.messages import Predict

ROWS: Final = 16
WITNESSES: Final = 3
TOLERANCE: Final = 1e-5
"""Relative and absolute: what differs by less may differ for the order of a sum."""
WITNESS = Deadline(2.0, None)
"""A witness that is in a long step is not waited for."""

Answer = NDArray[np.float32] | None


async def probe(cluster: LiveCluster, slot: Slot) -> None:
    """Compare a node's answers to `ROWS` rows with those of others who serve the same weights.

    With no such node, where none answers in time, or where a version was committed meanwhile, nothing can be
    compared, and the digest is all that was checked. Of one witness that answers otherwise nobody can say
    which of the two is wrong: the node that serves already is believed.

    Raises:
        SyncMismatch: More than half of the others answer otherwise.
        NodeError: The node failed.
    """
    committed = cluster.committed
    network = committed.loaded_into(slot.name) if committed else None
    if committed is None or network is None:
        return
    name = serving_name(committed.bundle.parity)
    if slot.served.get(name) != network.digest:  # a version was committed since; it is loaded next
        return
    witnesses = [
        other
        for other in cluster.slots.healthy()
        if other is not slot and other.served.get(name) == network.digest
    ][:WITNESSES]
    if not witnesses:
        return
    x = _rows(cluster, slot, network)
    answers: list[Answer] = []

    async def ask_witness(other: Slot) -> None:
        try:
            answers.append(await _answer(cluster, other, network, name, x, WITNESS))
        except NodeError:
            return  # whoever supervises it sees to that

    async with anyio.create_task_group() as group:
        for other in witnesses:
            group.start_soon(ask_witness, other)
    known = [answer for answer in answers if answer is not None]
    if not known:
        return
    own = await _answer(cluster, slot, network, name, x, LOAD)
    agreeing = sum(1 for answer in known if _agree(own, answer))
    if 2 * agreeing < len(known):
        raise SyncMismatch(
            f"node {slot.name} holds the committed weights and answers {ROWS} rows otherwise than"
            f" {len(known) - agreeing} of {len(known)} nodes that serve them",
            hint="call neural_cluster_status; a failed node is replaced by neural_node_deploy",
        )


def _rows(cluster: LiveCluster, slot: Slot, network: NetworkGroup) -> NDArray[np.float32]:
    """Rows as scaled data are distributed, [ROWS, ...]; other ones for every incarnation."""
    run = (cluster.spec.seed, 0)
    seed = seed64(run, network.version, slot.name, slot.incarnation, "probe")
    draw = np.random.Generator(np.random.Philox(seed))
    return draw.standard_normal((ROWS, *network.plan.input.row_shape)).astype(np.float32)


async def _answer(
    cluster: LiveCluster,
    slot: Slot,
    network: NetworkGroup,
    name: str,
    x: NDArray[np.float32],
    deadline: Deadline,
) -> Answer:
    """Outputs [ROWS, n_outputs]; None for an answer of another form, or with other weights."""
    reply, arrays = await cluster.calls("sync").ask(slot, Predict(network=name), deadline, {"x": x})
    y = arrays.get("y")
    if y is None or y.shape != (len(x), network.plan.n_outputs) or reply.digest != network.digest:
        return None
    return np.array(y, dtype=np.float32)


def _agree(one: Answer, other: Answer) -> bool:
    if one is None or other is None:
        return False
    return bool(np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
