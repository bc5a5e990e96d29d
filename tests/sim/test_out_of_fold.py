"""On small data aggregators, validators and parameter servers learn from answers out of fold."""

import numpy as np
import pytest

from tests.sim.simulated import world
from tests.sim.stacked import BTC, opposed, opposed_cluster, trained

ROLES = ("aggregator", "validator", "parameter_server")


async def test_all_roles_learn_from_300_rows_and_are_compared_on_rows_that_nobody_had_seen(
    tmp_path,
):
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w, *ROLES)
        status = await trained(w, cluster, opposed(rows=300), epochs=4)
        assert all(one["trained"] for one in status.learnt.values()), status.learnt
        roles = status.evaluation.roles
        crossed = roles["out_of_fold"]
        assert (crossed["folds"], crossed["rows"], crossed["rounds"] % 3) == (3, 216, 0)
        assert crossed["seconds"] > 0
        assert roles["stacker"]["rows"] == 65
        assert roles["student"]["rows"] == 65
        assert roles["confidence:mean"]["rows"] >= 50
        assert roles["ablation"]["ensemble_with_aggregators"] is not None
        # Two halves of the cluster say the opposite; who knows which symbol a record is of can tell.
        assert roles["stacker"]["state"] == "net"
        assert roles["stacker"]["own"] < roles["stacker"]["rival"]
        fused = await w.predict(cluster, BTC, aggregation="ensemble")
        assert fused.stacker == "net"
        assert fused.prediction > 0.6


async def test_equal_seeds_give_equal_role_networks_and_shuffled_labels_open_no_stacker(tmp_path):
    found = []
    for name in ("one", "two"):
        async with world(tmp_path / name) as w:
            cluster = await opposed_cluster(w, "aggregator")
            status = await trained(w, cluster, opposed(rows=300, shuffled=True), epochs=2)
            found.append(status.learnt["aggregator-0"]["digest"])
            gate = status.evaluation.roles["stacker"]
            assert gate["state"] == "fallback"
            assert gate["own"] > 0.6, "labels that mean nothing were learnt"
            if name == "two":  # what knows these labels by now says nothing out of fold
                again = await trained(w, cluster, opposed(rows=300, shuffled=True), epochs=2)
                learnt = again.learnt["aggregator-0"]
                assert not learnt["trained"]
                assert "goes on from weights" in learnt["reason"]
    assert found[0] == found[1]
    assert found[0] is not None


async def test_too_few_training_rows_are_the_reason_why_an_aggregator_learns_nothing(tmp_path):
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w, "aggregator")
        status = await trained(w, cluster, opposed(rows=150), epochs=2)
        learnt = status.learnt["aggregator-0"]
        assert not learnt["trained"]
        assert "120 training rows are fewer than 125" in learnt["reason"]


@pytest.mark.parametrize("outcome", ["multiclass", "regression"])
async def test_other_tasks_have_answers_out_of_fold_too(tmp_path, outcome):
    outputs = 3 if outcome == "multiclass" else 1
    async with world(tmp_path) as w:
        cluster = await opposed_cluster(w, outputs=outputs)
        await w.deploy(cluster, "aggregator")
        status = await trained(w, cluster, opposed(rows=300, task=outcome), epochs=2)
        assert status.learnt["aggregator-0"]["trained"], status.learnt
        assert np.isfinite(status.evaluation.roles["stacker"]["own"])
