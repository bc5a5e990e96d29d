"""Linear workers that have trained and hold their updates, ready to be averaged over links."""

from contextlib import asynccontextmanager

from flow_nexus_neural.engine.training.base_states import BaseStates
from flow_nexus_neural.engine.training.tasks import Task
from flow_nexus_neural.kernels.averaging import federated_average
from flow_nexus_neural.protocol.messages import Pass
from tests.unit.engine.running import running
from tests.unit.engine.training.by_hand import START, exchange

SIZES = (12, 7, 9)
NAMES = ["worker-0", "worker-1", "worker-2"]


class Round:
    """Three workers after their training; `updates` are not copied."""

    def __init__(self, w, made, updates):
        self.w, self.made, self.updates = w, made, updates

    @property
    def links(self):
        return self.made.links

    @property
    def workers(self):
        return self.w.slots.healthy("worker")

    async def average(self, **more):
        given = {"updates": self.updates, "workers": self.workers} | more
        return await self.links.average(START, **given)

    async def mean(self, names=NAMES):
        """The average by rows, from copies."""
        copies = [await self.made.copied(START, u) for u in self.updates if u.slot in names]
        return federated_average([c.state.params for c in copies], [c.rows for c in copies])


@asynccontextmanager
async def after_training(tmp_path, topology="mesh", **more):
    async with running(tmp_path, 3, peer_views=True, init={"topology": topology}, **more) as w:
        if topology == "star":
            await w.deploy("parameter_server")
        await w.connect(topology)
        made = exchange(w, SIZES)
        members = [(slot, START) for slot in w.slots.healthy("worker")]
        updates = await trained_once(made, members, 0)
        try:
            yield Round(w, made, updates)
        finally:
            made.close()


async def trained_once(made, members, number):
    """An epoch of every worker on its shard, from what it holds or from the state of its group."""
    updates = []
    for slot, network in members:
        await made.prepare(slot, network)
    async with BaseStates(made, members) as bases:
        for k, (slot, network) in enumerate(members):
            task = Task(
                slot=slot,
                network=network,
                base=bases.of(slot, network),
                copied=False,
                opt_step=network.state.opt_step,
                passes=(Pass(order_seed=1000 * number + k),),
                dropout_seed=1,
                work=1.0,
            )
            updates.append(await made.train(task))
    return updates
