"""An exchange under proof-of-learning: ordered, admitted, counted; the updates' bytes are not looked at."""

import anyio
import pytest

from flow_nexus_neural.engine.training.collect import Pace, collect, prepare_all
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.proofs import Proofs
from flow_nexus_neural.engine.training.tasks import Base, Task
from flow_nexus_neural.errors import RoundFailed
from flow_nexus_neural.protocol.digest import training_digest
from flow_nexus_neural.protocol.messages import Pass
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.linear_service import LinearService
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.by_hand import START, claims, exchange, lying

SIZES = (12, 7, 9)
RUN = (17, 2)


@pytest.fixture
def anyio_backend():
    return virtual_time()


class Round:
    """One exchange of three linear workers."""

    def __init__(self, w, sizes=SIZES):
        self.w, self.left_out = w, LeftOut()
        self.exchange = exchange(w, sizes)
        self.proofs = Proofs(w.cluster, self.exchange, self.left_out, RUN)

    async def collected(self, n_passes=2):
        made = self.exchange
        members = [(slot, START) for slot in self.w.slots.healthy("worker")]
        await prepare_all(made, members, self.left_out)
        self.base = await made.publish(START, START.state)
        tasks = [
            Task(
                slot=slot,
                network=network,
                base=Base(self.base.key, self.base),
                copied=True,
                opt_step=0,
                passes=tuple(Pass(order_seed=seed) for seed in range(n_passes)),
                dropout_seed=1,
                work=1.0,
            )
            for slot, network in members
        ]
        self.tasks = await self.proofs.ordered(tasks)
        return await collect(
            made,
            self.tasks,
            min_contributors=1,
            pace=Pace(),
            left_out=self.left_out,
            context=self.w.engine.context,
        )

    async def admitted(self, **more):
        collected = await self.collected()
        return await self.proofs.admitted(self.tasks, collected, **more)

    async def end(self):
        with anyio.CancelScope(shield=True):
            for task in self.tasks:
                await self.exchange.calls.revoke(task.slot, self.base.key)
            self.base.close()
            await self.proofs.close()
            self.exchange.close()


async def test_every_task_gets_an_order_of_its_own(tmp_path):
    async with running(tmp_path, 3) as w:
        one = Round(w)
        await one.collected()
        orders = [task.proof for task in one.tasks]
        assert [order.steps for order in orders] == [6, 4, 6]
        assert len({order.context for order in orders}) == 3
        first = {order.context for order in orders}
        await one.end()
        other = Round(w)
        other.proofs = Proofs(w.cluster, other.exchange, other.left_out, (17, 3))
        await other.collected()
        assert first.isdisjoint(task.proof.context for task in other.tasks)
        await other.end()


async def test_honest_updates_are_admitted_as_they_are_and_counted(tmp_path):
    async with running(tmp_path, 3) as w:
        one = Round(w)
        collected = await one.collected()
        admitted = await one.proofs.admitted(one.tasks, collected)
        assert admitted is collected
        (proved,) = one.proofs.take()
        assert [update.slot for update in proved.updates] == ["worker-0", "worker-1", "worker-2"]
        assert all(update.verdict.kind == "valid" for update in proved.updates)
        assert proved.cost.updates == proved.cost.challenged == 3
        assert one.proofs.take() == ()
        await one.end()


async def test_what_somebody_else_read_is_held_against_the_proof(tmp_path):
    async with running(tmp_path, 3) as w:
        one = Round(w)
        collected = await one.collected()
        read = {
            update.slot: training_digest(update.state.arrays, update.state.opt_step)
            for update in collected.updates
        }
        read["worker-2"] = "f" * 64
        admitted = await one.proofs.admitted(one.tasks, collected, delivered=read)
        assert [update.slot for update in admitted.updates] == ["worker-0", "worker-1"]
        assert "delivered update is not" in admitted.excluded["worker-2"]
        assert "delivered update is not" in w.slots["worker-2"].accused
        assert w.slots["worker-2"].state == "healthy", "what follows is for autonomy, which is off"
        assert one.left_out.n_failures == 1
        await one.end()


async def test_too_few_steps_are_a_cheat_even_where_they_fit_the_chain(tmp_path):
    async with running(tmp_path, 3, service=lying(claims(steps=5, opt_step=5), "worker-0")) as w:
        one = Round(w)
        admitted = await one.admitted()
        assert "prescribed are 6" in admitted.excluded["worker-0"]
        await one.end()


async def test_fewer_than_a_caller_insists_on_fail_the_round_and_are_still_counted(tmp_path):
    async with running(tmp_path, 3, service=lying(claims(steps=1, opt_step=1), "worker-0")) as w:
        one = Round(w)
        with pytest.raises(RoundFailed, match=r"2 of 3 updates were admitted, .* needs 3"):
            await one.admitted(least=3)
        (proved,) = one.proofs.take()
        assert len(proved.updates) == 3
        await one.end()


async def test_nobody_to_execute_again_fails_the_round_and_accuses_nobody(tmp_path):
    faults = FaultPlan()
    for nth in range(1, 9):
        faults.kill("verifier-0", "reexecute", nth=nth)
    async with running(tmp_path, 3, faults=faults) as w:
        one = Round(w)
        with pytest.raises(RoundFailed, match="execute the challenged segments again"):
            await one.admitted()
        assert [slot.state for slot in w.slots] == ["healthy"] * 3
        await one.end()


async def test_workers_and_verifiers_hold_nothing_of_it_afterwards(tmp_path):
    services = {}

    def service(spec):
        services[spec.slot] = LinearService()
        return services[spec.slot]

    async with running(tmp_path, 3, service=service) as w:
        await w.deploy("validator")
        one = Round(w)
        await one.admitted()
        await one.exchange.release(list(w.slots))
        await one.end()
        assert not [key for kept in services.values() for key in kept.regions if "link" not in key]


class Misreads(LinearService):
    """A verifier that reads another base than the engine gave it."""

    def on_reexecute(self, request, arrays, poll):
        reply, made = super().on_reexecute(request, arrays, poll)
        return reply.model_copy(update={"before": "f" * 64, "after": "e" * 64}), made


async def test_whoever_misreads_the_engines_own_base_accuses_nobody(tmp_path):
    def service(spec):
        return Misreads() if spec.slot.startswith(("validator", "verifier")) else LinearService()

    async with running(tmp_path, 3, service=service) as w:
        await w.deploy("validator")
        one = Round(w, sizes=(4, 4, 4))  # one segment each, which begins with the base
        with pytest.raises(RoundFailed, match="no verifier read the base"):
            await one.admitted()
        assert all(slot.state == "healthy" for slot in w.slots.of_role("worker"))
        await one.end()
