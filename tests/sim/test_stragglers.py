"""A slow client costs little: the deadline of a round, over whole trainings in virtual time."""

import anyio
import pytest

from flow_nexus_neural.coordination import rounds
from flow_nexus_neural.coordination.rounds import LATE
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan, PlannedFault
from tests.doubles.seeded import run_seeded
from tests.sim.scheduled import scheduled_world
from tests.sim.simulated import reasons
from tests.unit.engine.running import running, virtual_time

USUAL_S, SLOW_S = 4.0, 40.0
SLOW = "worker-1"
ROUNDS = 14


@pytest.fixture
def anyio_backend():
    return virtual_time()


class Paced(FaultPlan):
    """Every training request takes its worker's own time; it hears what is asked meanwhile."""

    def __init__(self, **own_s):
        super().__init__()
        self.own_s = {f"worker-{name[1:]}": seconds for name, seconds in own_s.items()}

    def meet(self, slot, kind):
        super().meet(slot, kind)
        if kind != "train":
            return None
        return PlannedFault("drag", self.own_s.get(slot, USUAL_S))


async def trained(tmp_path, workers, faults, **more):
    """Seconds of every round, its ledger entry, and the nodes' ids before and after."""
    async with running(tmp_path, workers, faults=faults, places=workers) as w:
        before = {slot.name: slot.node_id for slot in w.slots}
        options = {"federated": True, "epochs": ROUNDS, "batch_size": 4, "partition": "iid"}
        training = await w.train(**options | more)
        assert training.status == "completed", training.error
        after = {slot.name: slot.node_id for slot in w.slots}
        entries = [e for e in await w.ledger("version") if e["rule"] == "federated_averaging"]
        assert [point.round for point in training.history] == list(range(1, ROUNDS + 1))
        return [point.seconds for point in training.history], entries, before == after


@pytest.mark.parametrize("workers", [3, 4, 5, 8])
async def test_a_client_ten_times_slower_costs_at_most_half_a_round_and_is_named(tmp_path, workers):
    options = {"clients_per_round": workers}
    usual, _, _ = await trained(tmp_path / "usual", workers, Paced(), **options)
    assert usual == pytest.approx([USUAL_S] * ROUNDS)
    slowed, entries, same = await trained(tmp_path / "slow", workers, Paced(w1=SLOW_S), **options)
    assert same, "the slow one was killed, though it does what it is told"
    late = [SLOW in reasons(entry) for entry in entries]
    assert late == [True] * ROUNDS
    assert {reasons(entry)[SLOW] for entry in entries} == {LATE}
    assert all(len(entry["contributors"]) == workers - 1 for entry in entries)
    # From the fourth round on there is a past to judge by; the first ones wait a little longer.
    assert max(slowed[3:]) <= 1.5 * USUAL_S
    assert sum(slowed) <= 1.5 * sum(usual) + 2 * USUAL_S


async def test_without_a_deadline_the_same_client_holds_up_every_round(tmp_path, monkeypatch):
    """The control: it is the deadline that saves the time."""
    monkeypatch.setattr(rounds, "deadline_s", lambda *_: 1e9)
    slowed, _, _ = await trained(tmp_path, 5, Paced(w1=SLOW_S), clients_per_round=5)
    assert min(slowed[3:]) >= SLOW_S


async def test_a_client_that_is_slow_but_not_too_slow_is_waited_for(tmp_path):
    slowed, entries, _ = await trained(tmp_path, 5, Paced(w1=1.2 * USUAL_S), clients_per_round=5)
    assert max(slowed) <= 1.5 * USUAL_S
    assert [reasons(entry) for entry in entries] == [{}] * ROUNDS


async def test_a_client_that_becomes_fast_again_contributes_again(tmp_path):
    class Recovering(Paced):
        def meet(self, slot, kind):
            found = super().meet(slot, kind)
            recovered = slot == SLOW and self.met(slot, "train") > ROUNDS // 2
            return PlannedFault("drag", USUAL_S) if found and recovered else found

    _, entries, _ = await trained(tmp_path, 5, Recovering(w1=SLOW_S), clients_per_round=5)
    late = [SLOW in reasons(entry) for entry in entries]
    assert late == [number < ROUNDS // 2 for number in range(ROUNDS)]


@pytest.mark.parametrize(
    ("workers", "federated", "limit_s"), [(1, False, 80.0), (2, True, 40.0), (3, True, 10.0)]
)
def test_a_worker_that_answers_pings_and_never_finishes_costs_a_bounded_time(
    tmp_path, workers, federated, limit_s
):
    """Virtual seconds: alone it is given up by its steps, beside others by the round."""

    async def scenario():
        faults = FaultPlan().ignore("worker-0", "train", nth=2)
        async with scheduled_world(tmp_path, faults) as w:
            cluster = await w.cluster(workers, daa_enabled=True)
            began_s = anyio.current_time()
            status = await w.train(cluster, epochs=4, federated=federated)
            assert (status.training_status, status.training_error) == ("completed", None)
            assert status.training.current_round == 4
            return anyio.current_time() - began_s

    assert run_seeded(scenario) < limit_s
