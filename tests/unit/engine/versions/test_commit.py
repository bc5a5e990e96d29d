"""Committing a version: durable before it serves, and what it rests on is in the ledger."""

import pytest

from flow_nexus_neural.engine.versions.commit import plain_bundle, recent_files
from flow_nexus_neural.kernels.decision import DecisionRule
from tests.doubles.fail_points import FILES, JOURNAL, disk_is_full
from tests.unit.engine.building import bundle, committed, network
from tests.unit.engine.running import running, virtual_time


@pytest.fixture
def anyio_backend():
    return virtual_time()


def test_the_last_files_are_kept_in_order_without_repeats():
    former = committed([network()], bundle({}), recent={"c0": ("a", "b", "c")})
    for blob, keep, expected in (
        ("d", 3, ("b", "c", "d")),
        ("c", 3, ("a", "b", "c")),
        ("d", 9, ("a", "b", "c", "d")),
    ):
        assert recent_files(former, {"c0": network(blob=blob)}, keep) == {"c0": expected}
    assert recent_files(former, {"c1": network("c1", blob="x")}, 3) == {"c1": ("x",)}


def test_before_calibration_every_slot_weighs_the_same():
    networks = {
        "c0": network(slots=("worker-0", "worker-2")),
        "c1": network("c1", slots=("worker-1",), digest="d1"),
    }
    made = plain_bundle(networks, 7, DecisionRule(0.3), robust=False)
    assert made.rule.threshold == 0.3
    assert made.slot_weights == dict.fromkeys(
        ("worker-0", "worker-2", "worker-1"), pytest.approx(1 / 3)
    )
    assert (made.version, made.parity, made.digests) == (7, 1, {"c0": "d0", "c1": "d1"})
    assert (made.weights_source, made.calibrators, made.residual_median) == ("equal", {}, None)


async def test_the_ledger_has_the_numbers_behind_a_robust_rule(tmp_path):
    async with running(tmp_path, 3) as w:
        await w.train(epochs=1, federated=True, aggregation_method="coordinate_median")
        (entry,) = await w.ledger("version")
        assert entry["rule"] == "coordinate_median"
        assert entry["evidence"]["rule"] == "coordinate_median"


@pytest.mark.usefixtures("workers_share")
async def test_a_rule_without_such_numbers_adds_none(tmp_path):
    async with running(tmp_path, 2) as w:
        await w.train(epochs=1)
        (entry,) = await w.ledger("version")
        assert "evidence" not in entry
        own = [(one["slot"], one["incarnation"]) for one in entry["contributors"]]
        assert own == [("worker-0", 1), ("worker-1", 1)]
        assert entry["weights_digest"] == w.committed.networks["c0"].digest
        assert entry["blob"] == w.committed.networks["c0"].blob


@pytest.mark.parametrize("point", [JOURNAL, FILES])
async def test_a_version_that_could_not_be_stored_reaches_no_node(tmp_path, point):
    async with running(tmp_path, 1) as w:
        await w.engine.train(w.train_request(epochs=1))
        with w.disk.failing(point, disk_is_full()):
            await w.ended()
        assert w.committed is None
        assert w.slots["worker-0"].served == {}
        assert await w.ledger("version") == []
