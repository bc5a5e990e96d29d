"""The engine lets members average what they hold, and believes no more of it than it can check."""

import numpy as np
import pytest

from flow_nexus_neural.engine.training.collectives import LinkExchange
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.doubles.linear_service import LinearService
from tests.unit.engine.running import virtual_time
from tests.unit.engine.training.by_hand import START
from tests.unit.engine.training.linked import NAMES, after_training


@pytest.fixture
def anyio_backend():
    return virtual_time()


class Misreporting(LinearService):
    """Changes its replies to sums by `changes`, and its state by `adds`."""

    def __init__(self, changes, adds=0.0):
        super().__init__()
        self.changes, self.adds = changes, adds

    def on_fold(self, request, arrays, poll):
        reply, made = super().on_fold(request, arrays, poll)
        self.regions[request.into]["params"][...] += self.adds
        return reply.model_copy(update=self.changes(reply)), made


def misreporting(slot, changes, adds=0.0):
    return lambda spec: Misreporting(changes, adds) if spec.slot == slot else LinearService()


async def test_members_average_by_rows_and_each_holds_the_result(tmp_path):
    async with after_training(tmp_path) as r:
        averaged = await r.average()
        np.testing.assert_array_equal(averaged.state.params, await r.mean())
        assert averaged.contributors == tuple(NAMES)
        assert averaged.lost == {}
        for slot in r.workers:
            held = r.links.held_by(slot, averaged.state)
            np.testing.assert_array_equal(held.copy()["params"], averaged.state.params)
            assert r.links.held_by(slot, START.state) is None


async def test_what_was_read_is_counted_once_under_links_and_the_copy_under_sync(tmp_path):
    async with after_training(tmp_path) as r:
        counted = r.w.cluster.metrics.bytes_by_category
        before = dict(counted)
        averaged = await r.average()
        assert counted["links"] - before["links"] == averaged.report.bytes == 2 * 2 * 16
        assert counted["sync"] - before["sync"] == 16  # four parameters, once


async def test_a_new_process_of_a_slot_holds_nothing_of_the_old_one(tmp_path):
    async with after_training(tmp_path) as r:
        averaged = await r.average()
        slot = r.w.slots["worker-1"]
        await r.w.kill("worker-1")
        await r.w.deploy(layers=None)
        assert slot.healthy
        assert r.links.held_by(slot, averaged.state) is None


async def test_a_member_that_dies_is_named_and_the_rest_is_averaged(tmp_path):
    faults = FaultPlan().kill("worker-2", "fold")
    async with after_training(tmp_path, "ring", faults=faults) as r:
        averaged = await r.average()
        np.testing.assert_allclose(averaged.state.params, await r.mean(NAMES[:2]), rtol=1e-6)
        assert averaged.contributors == ("worker-0", "worker-1")
        assert list(averaged.lost) == ["worker-2"]


async def test_a_reader_that_counts_other_bytes_than_planned_is_left_out(tmp_path):
    service = misreporting("worker-0", lambda reply: {"bytes_read": reply.bytes_read + 4})
    async with after_training(tmp_path, service=service) as r:
        averaged = await r.average()
        assert "bytes of its neighbours" in averaged.lost["worker-0"]
        assert averaged.contributors == ("worker-1", "worker-2")


async def test_a_worker_that_says_it_holds_something_else_starts_anew_next_time(tmp_path):
    def other(reply):
        return {"digest": "0" * 64} if reply.digest else {}

    async with after_training(tmp_path, service=misreporting("worker-1", other)) as r:
        averaged = await r.average()
        np.testing.assert_array_equal(averaged.state.params, await r.mean())
        held = [r.links.held_by(slot, averaged.state) is not None for slot in r.workers]
        assert held == [True, False, True]


async def test_a_worker_that_holds_something_else_than_it_says_is_not_believed(tmp_path):
    """The first one is copied first; its copy does not have the digest that all of them told."""
    service = misreporting("worker-0", lambda reply: {}, adds=1.0)
    async with after_training(tmp_path, "star", service=service) as r:
        averaged = await r.average()
        np.testing.assert_array_equal(averaged.state.params, await r.mean())
        assert r.links.held_by(r.w.slots["worker-0"], averaged.state) is None
        assert r.links.held_by(r.w.slots["worker-1"], averaged.state) is not None


async def test_there_is_no_exchange_where_nothing_is_linked(tmp_path):
    async with after_training(tmp_path) as r:
        cluster = r.w.cluster
        assert LinkExchange(cluster, lambda _: None).plane(START, r.workers) is not None
        assert await r.average(workers=r.workers[:1]) is None
        cluster.state.links = None
        assert r.links.plane(START, r.workers) is None


async def test_a_hub_that_always_fails_is_asked_once(tmp_path):
    service = misreporting("parameter_server-0", lambda reply: {"bytes_read": reply.bytes_read + 4})
    async with after_training(tmp_path, "star", service=service) as r:
        assert await r.average() is None  # nobody else can be the hub
        await r.w.deploy("parameter_server")
        averaged = await r.average()
        np.testing.assert_array_equal(averaged.state.params, await r.mean())
        assert list(averaged.lost) == ["parameter_server-0"]


async def test_a_node_that_cannot_be_granted_a_view_is_left_out(tmp_path, monkeypatch):
    async with after_training(tmp_path) as r:
        view = r.w.runtime.view

        def scarce(buffer):
            if buffer.key == "publish:worker-2":
                raise OSError(24, "Too many open files")
            return view(buffer)

        monkeypatch.setattr(r.w.runtime, "view", scarce)
        # Both readers of worker-2 fail, and what is left is no exchange.
        assert await r.average() is None
