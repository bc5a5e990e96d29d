"""Voters hold the weights of a version, by a digest of their own, until a later one is committed."""

import anyio
import pytest

from flow_nexus_neural.engine.raft.weights import digests_of, hand_out, take_back
from flow_nexus_neural.errors import ConsensusUnavailable, StoreUnavailable
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.linear_service import LinearService
from tests.unit.engine.building import network, state
from tests.unit.engine.raft.voting import commit, led_by, voting


class Wrong(LinearService):
    """Holds other weights than it was given."""

    def on_raft_hold(self, request, arrays, poll):
        region = self.regions[request.region]
        other = {**region, "params": region["params"] + 1}
        return self.raft.hold(request, other), {}


def weights(seed=1):
    """A network with weights, by its key."""
    made = network()
    held = state(made.plan, seed)
    return {"c0": made.with_state(held)}


def is_one_of(names, kind=Wrong):
    return lambda spec: kind() if spec.slot in names else LinearService()


async def test_every_voter_is_given_the_weights_and_computes_their_digest(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1, networks=weights())
        (digest,) = digests_of(weights())
        for name in w.group.network.voters():
            seat = w.group.network.seats[name]
            assert seat.holds(w.slots[name].node_id, frozenset({digest}))
        assert w.cluster.metrics.bytes_by_category["consensus"] > 0


async def test_weights_are_given_back_when_a_later_version_is_committed(tmp_path):
    services = []

    def make(spec):
        services.append(LinearService())
        return services[-1]

    async with voting(tmp_path, service=make) as w:
        await commit(w, 1, networks=weights(1))
        (first,) = digests_of(weights(1))
        assert all(f"raft:{first}" in service.regions for service in services)
        await commit(w, 2, networks=weights(2))
        (second,) = digests_of(weights(2))
        for service in services:
            assert f"raft:{first}" not in service.regions
            assert f"raft:{second}" in service.regions


async def test_a_follower_that_does_not_hold_them_does_not_acknowledge(tmp_path):
    async with voting(tmp_path, service=is_one_of({"worker-1"})) as w:
        await commit(w, 1)
        await commit(w, 2, networks=weights())
        leader = w.group.network.leader()
        record = leader.records.entries[-1].index
        assert leader.name != "worker-1"
        assert leader.report.matched["worker-1"] >= record  # after it was committed by the others
        assert "as a voter it computed" in w.slots["worker-1"].last_error


async def test_where_most_voters_do_not_hold_them_nothing_is_decided(tmp_path):
    async with voting(tmp_path, service=is_one_of({"worker-1", "worker-2"})) as w:
        await commit(w, 1)
        with pytest.raises(ConsensusUnavailable, match="no majority of the voters acknowledged"):
            await commit(w, 2, networks=weights())
        assert w.group.applied.version == 1
        # Every log has it, and yet nobody says that it is committed.
        logs = [seat.records.entries[-1].needs for seat in w.group.network.seats.values()]
        assert [bool(needs) for needs in logs] == [True] * 3


async def test_the_process_after_is_given_them_again(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1, networks=weights())
        lost = next(n for n in w.group.network.voters() if n != led_by(w))
        await w.kill(lost)
        await w.deploy(layers=None)
        seat = w.group.network.seats[lost]
        needed = digests_of(weights())
        assert not seat.holds(w.slots[lost].node_id, needed)
        await hand_out(w.cluster, w.group._present(), weights())
        assert seat.holds(w.slots[lost].node_id, needed)
        await take_back(w.cluster, w.group._present(), frozenset())
        assert not seat.holds(w.slots[lost].node_id, needed)


async def test_a_network_without_weights_asks_for_nothing(tmp_path):
    async with voting(tmp_path) as w:
        bare = {"c0": network()}
        assert digests_of(bare) == frozenset()
        await commit(w, 1, networks=bare)
        assert w.group.applied.version == 1


async def test_weights_of_a_version_that_was_given_up_are_not_needed_for_the_next(tmp_path):
    async with voting(tmp_path) as w:
        await commit(w, 1, networks=weights(1))
        others = [n for n in w.group.network.voters() if n != led_by(w)]
        w.group.network.passes = lambda m: m.kind != "append_reply"
        with pytest.raises(ConsensusUnavailable):
            await commit(w, 2, networks=weights(2))
        w.group.network.passes = lambda message: True
        for name in others:  # nobody but the leader holds the weights that were given up
            await w.kill(name)
            await w.deploy(layers=None)
        await commit(w, 2, networks=weights(3))
        assert w.group.applied.version == 2


async def test_when_all_processes_start_anew_older_weights_are_not_needed(tmp_path):
    async with voting(tmp_path) as w:
        for version in (1, 2, 3):
            await commit(w, version, networks=weights(version))
        for name in w.group.network.voters():
            await w.kill(name)
        for _ in range(3):
            await w.deploy(layers=None)
        await commit(w, 4, networks=weights(4))
        assert w.group.applied.version == 4


def regions_of(services, name):
    return [key for key in services[name].regions if key.startswith("raft:")]


def kept(services, kind=LinearService, names=()):
    """Makes services by slot, some of a kind, and keeps them."""

    def make(spec):
        services[spec.slot] = kind() if spec.slot in names else LinearService()
        return services[spec.slot]

    return make


async def test_what_a_voter_was_granted_and_never_held_is_taken_back(tmp_path):
    services = {}
    async with voting(tmp_path, service=kept(services, Wrong, {"worker-1"})) as w:
        for version in range(1, 6):
            await commit(w, version, networks=weights(version))
        assert regions_of(services, "worker-1") == []
        assert len(regions_of(services, "worker-0")) == 1


async def test_a_voter_that_is_too_slow_keeps_no_regions(tmp_path):
    services, faults = {}, FaultPlan()
    for nth in range(1, 20):
        faults.drag("worker-1", "raft_hold", delay_s=3.0, nth=nth)
    async with voting(tmp_path, service=kept(services), faults=faults) as w:
        for version in range(1, 6):
            await commit(w, version, networks=weights(version))
        assert len(regions_of(services, "worker-1")) <= 1


async def test_voters_that_were_late_are_given_them_again_where_too_few_hold_them(tmp_path):
    """As after a second in which the whole machine stood still."""
    services, faults = {}, FaultPlan()
    for number in range(3):
        faults.drag(f"worker-{number}", "raft_hold", delay_s=2.0, nth=1)
    async with voting(tmp_path, service=kept(services), faults=faults) as w:
        await commit(w, 1, networks=weights())
        assert w.group.applied.version == 1


async def test_who_votes_no_longer_gives_its_regions_back(tmp_path):
    services = {}
    async with voting(tmp_path, 2, service=kept(services)) as w:
        await commit(w, 1, networks=weights(1))
        (former,) = w.group.network.voters()
        assert len(regions_of(services, former)) == 1
        for _ in range(5):
            await w.deploy("validator")
        await commit(w, 2, networks=weights(2))
        await commit(w, 3, networks=weights(3))
        assert former not in w.group.network.voters()
        assert regions_of(services, former) == []


async def test_what_was_granted_for_versions_that_were_given_up_does_not_add_up(tmp_path):
    services = {}
    async with voting(tmp_path, service=kept(services)) as w:
        await commit(w, 1, networks=weights(1))
        w.group.network.passes = lambda m: m.kind != "append_reply"
        for seed in range(2, 7):
            with pytest.raises(ConsensusUnavailable):
                await commit(w, 2, networks=weights(seed))
        for name in services:
            assert len(regions_of(services, name)) <= 2
            assert {f"raft:{digest}" for digest in digests_of(weights(1))} <= set(
                regions_of(services, name)
            )


async def test_weights_in_force_are_held_until_the_next_version_is_durable(tmp_path, monkeypatch):
    services = {}
    async with voting(tmp_path, service=kept(services)) as w:
        await w.train(epochs=1)
        in_force = {f"raft:{digest}" for digest in digests_of(w.committed.networks)}
        real = type(w.cluster.ledger).record

        async def record(self, entries, *given, **more):
            if any(entry.get("kind") == "version" for entry in entries):
                raise StoreUnavailable("the disk is full")
            await real(self, entries, *given, **more)

        monkeypatch.setattr(type(w.cluster.ledger), "record", record)
        await w.train(epochs=1)
        await w.train(epochs=1)
        assert w.committed.version == 1
        assert w.group.applied.version == 2
        await w.group.settle()
        for name in w.group.network.voters():
            assert in_force <= set(regions_of(services, name))


async def test_weights_are_given_back_in_a_training_when_the_next_version_is_in_force(tmp_path):
    services = {}
    async with voting(tmp_path, service=kept(services)) as w:
        await w.train(epochs=4)
        await anyio.wait_all_tasks_blocked()
        for name in w.group.network.voters():
            assert regions_of(services, name) == [
                f"raft:{digest}" for digest in digests_of(w.committed.networks)
            ]
