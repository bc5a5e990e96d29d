"""A cluster that autonomy looks at, without a runtime; its audit log is kept in a list."""

from types import SimpleNamespace

import anyio

from flow_nexus_neural.engine.autonomy.attend import look
from flow_nexus_neural.errors import StoreUnavailable
from tests.unit.engine.building import cluster_state, live, slot


class Clock:
    now_s = 50.0

    def __call__(self):
        return self.now_s


class AuditStore:
    """Keeps what is written, or refuses it."""

    def __init__(self):
        self.entries, self.full = [], False

    async def append_audit(self, _cluster_id, entries):
        if self.full:
            raise StoreUnavailable("the disk is full")
        self.entries += entries


def cluster(n=3, autonomy=0.8, **more):
    made = live(cluster_state(Clock(), **more), at="then")
    made.context.store = AuditStore()
    made.context.settings = SimpleNamespace(max_nodes=8)
    for number in range(n):
        made.slots.add(
            slot(f"worker-{number}", state="healthy", handle=object(), autonomy=autonomy)
        )
    return made


async def looked(made):
    """Look for as long as there is more to do at once; returns when the last look is to be followed."""
    async with anyio.create_task_group() as slow:
        due_s = await look(made, slow)
    while due_s is not None and due_s <= made.clock():
        async with anyio.create_task_group() as slow:
            due_s = await look(made, slow)
    return due_s
