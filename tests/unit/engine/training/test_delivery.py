"""Which way updates take, and what the engine does when what comes over links is wrong."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.coordinate_median import CoordinateMedian
from flow_nexus_neural.coordination.consensus.federated_methods import FEDPROX, METHODS
from flow_nexus_neural.engine.training.combining import Combiner
from flow_nexus_neural.engine.training.delivery import Delivery
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.errors import RoundFailed
from tests.unit.engine.running import running, virtual_time
from tests.unit.engine.training.by_hand import START, exchange, lying, publishes
from tests.unit.engine.training.linked import after_training


@pytest.fixture
def anyio_backend():
    return virtual_time()


def delivery(r, policy=None, *, audited=False):
    return delivered_by(r.w, r.made, policy or FederatedAveraging(), audited=audited)


def delivered_by(w, made, policy, *, audited=False):
    combiner = Combiner(w.engine.context, policy, None, (1, 1), 1)
    return Delivery(w.cluster, made, combiner, LeftOut(), audited)


async def test_a_mean_goes_over_links_and_needs_no_copy(tmp_path):
    async with after_training(tmp_path) as r:
        how = delivery(r)
        assert how.detour(START) is None
        made = await how.combine(START, r.updates, ())
        np.testing.assert_array_equal(made.state.params, await r.mean())
        assert sum(made.weights.values()) == pytest.approx(1.0)
        assert r.w.cluster.metrics.exchanges["c0"].path == "links"


async def test_fedprox_is_a_mean_too_and_every_method_with_a_server_step_is_not(tmp_path):
    async with after_training(tmp_path) as r:
        assert delivery(r, FEDPROX).detour(START) is None
        for method in METHODS:
            if method is not FEDPROX:
                assert "single update" in delivery(r, method).detour(START)


async def test_another_rule_gets_copies_of_all(tmp_path):
    async with after_training(tmp_path) as r:
        how = delivery(r, CoordinateMedian())
        assert "single update" in how.detour(START)
        made = await how.combine(START, r.updates, ())
        copies = [(await r.made.copied(START, u)).state.params for u in r.updates]
        np.testing.assert_allclose(made.state.params, np.median(copies, axis=0), rtol=1e-6)
        assert r.w.cluster.metrics.exchanges["c0"].path == "engine"


async def test_each_reason_for_the_engine_is_told(tmp_path):
    async with running(tmp_path, 2) as w:
        how = delivered_by(w, exchange(w, (12, 7)), FederatedAveraging())
        assert how.detour(START) == "nodes of the runtime inproc cannot read each other's memory"
    async with running(tmp_path / "2", 2, peer_views=True, init={"topology": "star"}) as w:
        how = delivered_by(w, exchange(w, (12, 7)), FederatedAveraging())
        assert "not connected" in how.detour(START)
        await w.connect("star")
        assert "hub" in how.detour(START)
        await w.connect("ring")
        assert "fewer than two" in how.detour(replace(START, slots=("worker-0",)))


async def test_an_update_that_is_not_finite_is_left_out_and_the_rest_is_averaged(tmp_path):
    service = lying(publishes(np.inf), "worker-1")
    async with after_training(tmp_path, service=service) as r:
        how = delivery(r)
        made = await how.combine(START, r.updates, ())
        assert "not finite" in made.excluded["worker-1"]
        np.testing.assert_array_equal(made.state.params, await r.mean(["worker-0", "worker-2"]))
        assert how.left_out.reasons(()) == made.excluded


async def test_a_round_without_a_single_usable_update_fails(tmp_path):
    service = lying(publishes(np.nan), "worker-0", "worker-1", "worker-2")
    async with after_training(tmp_path, service=service) as r:
        with pytest.raises(RoundFailed, match=r"worker-0.*not finite"):
            await delivery(r).combine(START, r.updates, ())


async def test_an_audit_holds_the_sum_against_the_copies(tmp_path):
    async with after_training(tmp_path) as r:
        copies = [await r.made.copied(START, u) for u in r.updates]
        how = delivery(r, audited=True)
        made = await how.combine(START, copies, ())
        assert r.w.cluster.metrics.exchanges["c0"].path == "links"
        np.testing.assert_array_equal(made.state.params, await r.mean())
        # The copies of another round: what came over the links cannot be their mean.
        other = [replace(u, state=replace(u.state, params=u.state.params + 1)) for u in copies]
        made = await how.combine(START, other, ())
        report = r.w.cluster.metrics.exchanges["c0"]
        assert (report.path, "not the average" in report.reason) == ("engine", True)
