"""Measures one node against its twin: the same rows, in turn, as a prediction would ask them."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.backend_choice import (
    BUCKETS,
    FAR_TOO_LONG_MS,
    Choice,
    Timing,
    choose,
)
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.patience import Deadline
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.versions.loading import serving_name
from flow_nexus_neural.errors import NodeError
from flow_nexus_neural.protocol.messages import Predict
from flow_nexus_neural.wasm.machine import LoadedNetwork, WasmTrap

CALLS: Final = 7
WARM_UP: Final = 2
ANSWER: Final = Deadline(2.0, None)
TOLERANCE: Final = 1e-4
"""Of outputs, relative to the largest or to 1: far above rounding, far below a mistake."""


class _Interrupted(Exception):
    """A training began, which would be measured too and whose traffic is counted."""


async def calibrate(
    cluster: LiveCluster, slot: Slot, committed: CommittedVersion, twin: LoadedNetwork
) -> Choice | None:
    """What is faster for this node; None where that cannot be told now.

    Rising batch sizes, up to the first that WebAssembly loses. A node that does not answer keeps its own
    back end, as does one whose answers differ from those of its twin.
    """
    network = committed.loaded_into(slot.name)
    if network is None:
        return None
    timings: dict[int, Timing] = {}
    try:
        for bucket in BUCKETS:
            rows = _rows(network, bucket)
            found = await _time(cluster, slot, committed, twin, rows)
            if isinstance(found, str):
                return Choice(reason=found)
            timings[bucket] = found
            if not found.wins:
                break
    except _Interrupted:
        return None
    except NodeError as failure:
        return Choice(reason=f"it could not be measured: {failure.code}")
    return choose(timings)


def _rows(network: NetworkGroup, count: int) -> NDArray[np.float32]:
    """Scaled rows as a network is used to; the same ones every time."""
    draw = np.random.Generator(np.random.PCG64(count))
    return draw.standard_normal((count, *network.plan.input.row_shape), dtype=np.float32)


async def _time(
    cluster: LiveCluster,
    slot: Slot,
    committed: CommittedVersion,
    twin: LoadedNetwork,
    rows: NDArray[np.float32],
) -> Timing | str:
    """Times of both, or why the twin must not answer."""
    torch_s: list[float] = []
    wasm_s: list[float] = []
    network, calls = committed.loaded_into(slot.name), cluster.calls("predict")
    request = Predict(network=serving_name(committed.bundle.parity))
    for number in range(WARM_UP + CALLS):
        if cluster.is_training or cluster.committed is not committed:
            raise _Interrupted
        began_s = cluster.clock()
        reply, arrays = await calls.ask(slot, request, ANSWER, {"x": rows})
        between_s = cluster.clock()
        if network is None or reply.digest != network.digest:
            return "the node answered with other weights"
        between_s, asked_s = cluster.clock(), between_s - began_s
        try:
            mine = twin.infer(rows)
        except WasmTrap as trap:
            return f"the module trapped: {trap}"
        ran_s = cluster.clock() - between_s
        if number == 0 and not _agree(arrays.get("y"), mine):
            return "its outputs differ from those of PyTorch"
        far_too_long = ran_s * 1e3 > FAR_TOO_LONG_MS
        if number >= WARM_UP or far_too_long:
            torch_s.append(asked_s)
            wasm_s.append(ran_s)
        if far_too_long:
            break
    return Timing(torch_s, wasm_s)


def _agree(theirs: NDArray[np.floating] | None, mine: NDArray[np.float32]) -> bool:
    if theirs is None or theirs.shape != mine.shape or not np.isfinite(mine).all():
        return False
    scale = max(1.0, float(np.abs(mine).max()))
    return bool(np.abs(theirs - mine).max() <= TOLERANCE * scale)
