"""A whole engine of which a seed decides everything: no threads, virtual time, drawn ids.

Run a scenario with `tests.doubles.seeded.run_seeded(scenario, ..., seed=seed)`; the same seed gives the same
course, message for message.
"""

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import anyio
import numpy as np

from flow_nexus_neural.engine.patience import USUAL_PATIENCE
from flow_nexus_neural.engine.ports import Ports, inline, nothing_fails
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import Pong, Reexecuted, Revealed, Trained
from tests.sim.simulated import world

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT_S = 4 * 3600
"""Virtual: longer than any waiting time of the engine."""


class UntimedService(NodeService):
    """The real service, but for the real times on which the engine acts: of steps and of proofs."""

    def __init__(self, spec):
        super().__init__(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)

    def handle(self, request, arrays, poll):
        reply, brought = super().handle(request, arrays, poll)
        if isinstance(reply, Pong):
            reply = reply.model_copy(update={"longest_step_ms": 1.0})
        if isinstance(reply, Trained):
            reply = reply.model_copy(update={"cpu_s": 0.001 * reply.steps})
        if isinstance(reply, Trained) and reply.commitment is not None:
            took = reply.commitment.model_copy(update={"cpu_s": 0.001})
            reply = reply.model_copy(update={"commitment": took})
        if isinstance(reply, Revealed | Reexecuted):
            reply = reply.model_copy(update={"cpu_s": 0.001})
        return reply, brought


def virtual_timestamp():
    now = EPOCH + timedelta(seconds=anyio.current_time())
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def scheduled_ports(seed, *, fail_point=nothing_fails, patience=USUAL_PATIENCE):
    draw = np.random.Generator(np.random.PCG64([seed, 1]))

    def random_bits(n):
        return int.from_bytes(draw.bytes(-(-n // 8))) >> (-n % 8)

    return Ports(
        timestamp=virtual_timestamp,
        random_bits=random_bits,
        offload=inline,
        offload_data=inline,
        fail_point=fail_point,
        patience=patience,
    )


@asynccontextmanager
async def scheduled_world(
    state_dir,
    faults=None,
    service=UntimedService,
    *,
    seed=0,
    on_event=None,
    ports=None,
    modes=MappingProxyType({}),
    **settings,
):
    """As `simulated.world`; use it inside `run_seeded`."""
    opened = world(
        state_dir,
        faults,
        service,
        ports=ports or scheduled_ports(seed),
        modes={"inline": True, "on_event": on_event, **modes},
        **settings,
    )
    async with opened as w:
        w.limit_s = LIMIT_S
        yield w
