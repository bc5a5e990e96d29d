"""At its end a training leaves its best round in force, weighted, calibrated and measured, or what it had."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.data.prepare import DataRequest, prepare
from flow_nexus_neural.engine.versions.evaluation import Evaluator
from flow_nexus_neural.engine.versions.final import RULE, commit_best, commit_final
from flow_nexus_neural.engine.versions.judge import Judge
from flow_nexus_neural.errors import RoundFailed, StoreUnavailable
from flow_nexus_neural.kernels.decision import MOST_PROBABLE
from tests.doubles.fail_points import FILES, JOURNAL, disk_is_full
from tests.doubles.linear_service import LinearService
from tests.unit.engine.building import training as record
from tests.unit.engine.running import OTHER_LAYERS, rows, running, virtual_time

N = 240
"""So many that some are validation rows."""
ROUNDS = 3


@pytest.fixture
def anyio_backend():
    return virtual_time()


def judge_of(w):
    data = prepare(DataRequest(rows(N)), w.engine.context.settings)
    return Judge(Evaluator(w.cluster, data.parts), data, MOST_PROBABLE)


def with_params(network, factor):
    """The same network group with other weights."""
    return network.with_state(replace(network.state, params=network.state.params * factor))


class Converged(LinearService):
    """Its steps change nothing any more."""

    def step(self, request, params, x, y):
        return super().step(request, params.copy(), x, y)


class Broken(LinearService):
    """Computes outputs that are not finite from weights that are all 0."""

    def on_infer(self, request, arrays, poll):
        reply, made = super().on_infer(request, arrays, poll)
        broken = not self.regions[request.weights]["params"].any()
        return reply, {"y": np.full_like(made["y"], np.nan) if broken else made["y"]}


async def trained(w, best_round=1):
    """A training of which an earlier round is said to be the best, its last round in force; no result yet."""
    training = await w.train(dataset=rows(N), epochs=ROUNDS, batch_size=48)
    assert (training.status, training.advance.best_round) == ("completed", ROUNDS)
    training.result = None
    training.advance = replace(training.advance, best_round=best_round)
    return training


async def finished(w, training, best):
    judge = judge_of(w)
    try:
        await commit_final(w.cluster, training, judge, best)
    finally:
        judge.evaluator.close()


class NoLesson:
    """Teaches nobody."""

    async def learn(self, members):
        raise AssertionError("other roles were taught in the middle of a training")


async def score_of(w, networks):
    """Loss and accuracy on test rows of these network groups as they would be served."""
    judge = judge_of(w)
    _, verdict = await judge.finish(networks, replace(w.committed.bundle))
    judge.evaluator.close()
    return verdict.test.loss, verdict.test.accuracy


def rereading(made):
    def make(spec):
        made[spec.slot] = LinearService()
        return made[spec.slot]

    return make


def held(services):
    """The weights with which every node answers predictions: those that were loaded last."""
    return {slot: list(service.serving.values()) for slot, service in services.items()}


async def test_weights_of_an_earlier_round_are_a_new_version_that_answers(tmp_path):
    services = {}
    async with running(tmp_path, 2, service=rereading(services)) as w:
        training = await trained(w)
        last = w.committed
        best = {"c0": with_params(last.networks["c0"], 0.5)}
        await finished(w, training, best)
        now = w.committed
        assert (now.version, now.bundle.version) == (last.version + 1, last.version + 1)
        assert now.digests == now.bundle.digests == {"c0": best["c0"].digest} != last.digests
        loaded = best["c0"].state.params.tobytes()
        for slot in ("worker-0", "worker-1"):
            assert loaded in [one.tobytes() for one in held(services)[slot]], slot
        answer = await w.predict()
        assert (answer.model_version, answer.bundle_sha) == (now.version, now.sha)


async def test_the_ledger_goes_on_and_says_which_round_it_is(tmp_path):
    async with running(tmp_path, 2) as w:
        training = await trained(w)
        last = w.committed
        best = {"c0": with_params(last.networks["c0"], 0.5)}
        await finished(w, training, best)
        *_, before, entry = await w.ledger("version")
        assert entry["parent"] == before["version"] == last.networks["c0"].version
        assert (entry["version"], entry["model_version"]) == (ROUNDS + 1, last.version + 1)
        assert (entry["rule"], entry["round"]) == (RULE, 1)
        assert entry["training_id"] == training.training_id
        assert entry["weights_digest"] == best["c0"].digest
        assert entry["blob"] == w.committed.networks["c0"].blob != before["blob"]
        assert (entry["contributors"], entry["excluded"]) == ([], [])


async def test_it_is_durable_with_its_weights(tmp_path):
    async with running(tmp_path, 2) as w:
        training = await trained(w)
        best = {"c0": with_params(w.committed.networks["c0"], 0.5)}
        await finished(w, training, best)
        lived, cluster_id = w.committed, w.cluster_id
    async with running(tmp_path, 0) as w:
        found = w.engine.cluster(cluster_id).committed
        assert (found.sha, found.version) == (lived.sha, lived.version)
        params = found.networks["c0"].state.params
        assert params.tobytes() == best["c0"].state.params.tobytes()


async def test_what_is_reported_was_measured_of_the_weights_that_answer(tmp_path):
    async with running(tmp_path, 2) as w:
        training = await trained(w)
        last = w.committed
        best = {"c0": with_params(last.networks["c0"], 0.5)}
        await finished(w, training, best)
        loss, accuracy = await score_of(w, w.committed.networks)
        assert (w.committed.loss, w.committed.accuracy) == (loss, accuracy)
        assert (loss, accuracy) != await score_of(w, last.networks)
        result = training.result
        assert (result.loss, result.accuracy) == (loss, accuracy)
        assert result.evaluation == w.committed.evaluation != last.evaluation
        assert (result.model_version, result.served_round) == (last.version + 1, 1)
        assert result.digest == training.advance.digest_after == best["c0"].digest
        assert (result.dataset.rows, result.dataset.task) == (N, "regression")


async def test_when_the_last_round_is_the_best_its_version_is_completed(tmp_path):
    async with running(tmp_path, 2) as w:
        training = await trained(w, best_round=ROUNDS)
        last, entries = w.committed, await w.ledger()
        w.cluster.state.committed = last.unmeasured()
        await finished(w, training, None)
        now = w.committed
        assert (now.version, now.digests) == (last.version, last.digests)
        assert (now.loss, now.accuracy) == await score_of(w, last.networks)
        assert now.evaluation is not None
        (entry,) = (await w.ledger())[len(entries) :]
        assert (entry["kind"], entry["bundle_sha"]) == ("bundle", now.sha)
        assert (training.result.model_version, training.result.served_round) == (ROUNDS, ROUNDS)


async def test_a_best_round_with_the_very_weights_of_the_last_one_needs_no_version(tmp_path):
    """As when no step changes anything any more; every row that is written is named all the same."""
    async with running(tmp_path, 2) as w:
        training = await trained(w)
        last = w.committed
        await finished(w, training, dict(last.networks))
        assert (w.committed.version, w.committed.digests) == (last.version, last.digests)
        assert len(await w.ledger("version")) == ROUNDS
        assert (await w.ledger())[-1]["kind"] == "bundle"
        stored = await w.engine.context.store.load()
        assert stored.refused == {}
        assert (training.result.model_version, training.result.served_round) == (ROUNDS, 1)


async def test_steps_that_change_nothing_leave_a_cluster_that_can_be_read(tmp_path):
    async with running(tmp_path, 2, service=lambda spec: Converged()) as w:
        training = await w.train(dataset=rows(N), epochs=ROUNDS)
        assert (training.status, training.error) == ("completed", None)
        assert (training.advance.best_round, training.result.served_round) == (1, 1)
        assert w.committed.version == ROUNDS
        cluster_id = w.cluster_id
    async with running(tmp_path, 0) as w:
        assert w.engine.cluster(cluster_id).committed.version == ROUNDS


async def test_only_a_network_whose_weights_change_has_an_entry(tmp_path):
    async with running(tmp_path, 1) as w:
        await w.deploy(layers=OTHER_LAYERS)
        training = await trained(w)
        last = w.committed
        assert set(last.networks) == {"c0", "c1"}
        best = {"c0": last.networks["c0"], "c1": with_params(last.networks["c1"], 0.5)}
        before = len(await w.ledger("version"))
        await finished(w, training, best)
        (entry,) = (await w.ledger("version"))[before:]
        assert (entry["cohort"], entry["weights_digest"]) == ("c1", best["c1"].digest)
        now = w.committed.networks
        assert now["c0"] == last.networks["c0"]
        assert now["c1"].version == last.networks["c1"].version + 1


async def test_a_best_round_whose_outputs_are_not_finite_leaves_the_last_one_in_force(tmp_path):
    async with running(tmp_path, 2, service=lambda spec: Broken()) as w:
        training = await trained(w)
        last, entries = w.committed, await w.ledger()
        best = {"c0": with_params(last.networks["c0"], 0.0)}
        with pytest.raises(RoundFailed, match="not finite"):
            await finished(w, training, best)
        assert w.committed is last
        assert await w.ledger() == entries
        assert training.result is None


@pytest.mark.parametrize("point", [JOURNAL, FILES])
async def test_one_that_cannot_be_stored_reaches_no_node(tmp_path, point):
    services = {}
    async with running(tmp_path, 2, service=rereading(services)) as w:
        training = await trained(w)
        last, entries = w.committed, await w.ledger()
        best = {"c0": with_params(last.networks["c0"], 0.5)}
        with w.disk.failing(point, disk_is_full()), pytest.raises(StoreUnavailable):
            await finished(w, training, best)
        assert w.committed is last
        assert await w.ledger() == entries
        assert training.result is None
        never = best["c0"].state.params.tobytes()
        for params in held(services).values():
            assert never not in [one.tobytes() for one in params]


async def test_without_any_version_there_is_nothing_to_complete(tmp_path):
    async with running(tmp_path, 1) as w:
        training, entries = record(2), await w.ledger()
        await finished(w, training, None)
        assert (w.committed, training.result) == (None, None)
        assert await w.ledger() == entries


async def test_going_back_to_the_best_round_in_the_middle_of_a_training_teaches_no_other_role(
    tmp_path,
):
    async with running(tmp_path, 1) as w:
        training = await trained(w)
        best = {"c0": with_params(w.committed.networks["c0"], 0.5)}
        judge = replace(judge_of(w), roles=NoLesson())
        try:
            await commit_best(w.cluster, training, judge, best)
        finally:
            judge.evaluator.close()
        assert w.committed.digests == {"c0": best["c0"].digest}
