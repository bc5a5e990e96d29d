"""DP-SGD in the workers through the whole engine: what is paid, what it excludes, what goes with it."""

import numpy as np
import pytest

from flow_nexus_neural.coordination.privacy.accountant import Sums, epsilon_of
from flow_nexus_neural.errors import (
    InvalidArguments,
    PrivacyBudgetSpent,
    UnsupportedCombination,
)
from flow_nexus_neural.runtime.inproc.fault_plan import FaultPlan
from tests.sim.simulated import blobs, world
from tests.sim.test_privacy import loss_of, params, told_apart, with_key

pytestmark = pytest.mark.anyio

ROWS = {"mode": "record_dp", "noise_multiplier": 1.5, "clip_norm": 0.5}
ROUND = {"optimizer": "sgd", "learning_rate": 0.1, "validation_size": 0, "batch_size": 8}


def spent_by(settings, steps):
    return epsilon_of([Sums(1.5, steps, settings.sampling_rate, "record")], 1e-5)


async def test_every_step_is_charged_before_it_is_made_and_the_reply_says_how(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, consensus="raft")
        reply = await w.start(cluster, privacy=ROWS, epochs=2, local_epochs=2, **ROUND)
        settings = w.engine.cluster(cluster).state.latest_training.config.privacy
        assert "Poisson" in reply.privacy.sampling
        assert "one training example" in reply.privacy.unit
        assert "RdpAccountant" in reply.privacy.accountant
        status = await w.done(cluster)
        assert status.training_status == "completed", status.training_error
        spent = status.training.privacy
        assert spent.sums == 2 * 2 * settings.steps
        assert status.training.evidence.steps == 3 * spent.sums
        assert spent.epsilon == spent.epsilon_of_data == spent_by(settings, spent.sums)
        ledger = (await w.stored()).ledgers[cluster]
        order = [e.get("event", e["kind"]) for e in ledger if e.get("round") or "charged" in str(e)]
        assert order == ["privacy_charged", "version"] * 2
        assert "worker_key" not in str(ledger)


@pytest.mark.parametrize("federated", [True, False])
async def test_a_known_key_repeats_the_rows_and_the_noise_and_another_one_does_not(
    tmp_path, federated
):
    made = []
    for number, key in enumerate((5, 5, 6)):
        async with world(tmp_path / str(number), ports=with_key(key)) as w:
            cluster = await w.cluster(2, consensus="raft")
            status = await w.train(cluster, privacy=ROWS, epochs=2, federated=federated, **ROUND)
            assert status.training_status == "completed", status.training_error
            made.append(params(w, cluster))
    assert np.array_equal(made[0], made[1])
    assert np.linalg.norm(made[0] - made[2]) > 0.01


async def test_noised_steps_are_executed_again_under_proof_of_learning(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, consensus="proof-of-learning")
        status = await w.train(cluster, privacy=ROWS, epochs=2, **ROUND)
        assert status.training_status == "completed", status.training_error
        proofs = w.engine.cluster(cluster).state.latest_training.advance.proofs
        assert proofs.verified_rounds == 2
        assert sum(one.verified for one in proofs.workers.values()) > 0
        assert sum(one.failed + one.unavailable for one in proofs.workers.values()) == 0


async def test_under_masks_the_engine_gets_a_sum_of_what_is_noised_already(tmp_path):
    made = []
    for secure in (False, True):
        async with world(tmp_path / str(secure), ports=with_key(7)) as w:
            cluster = await w.cluster(3, consensus="raft")
            status = await w.train(
                cluster, privacy=ROWS, secure_aggregation=secure, epochs=1, **ROUND
            )
            assert status.training_status == "completed", status.training_error
            made.append(params(w, cluster))
            (entry,) = await w.round_versions(cluster)
            assert "privacy" not in entry.get("evidence", {})
            assert ("secure" in entry.get("evidence", {})) == secure
    assert np.linalg.norm(made[0] - made[1]) < 1e-5 * np.linalg.norm(made[0])


async def test_a_round_that_is_tried_again_is_charged_again_with_other_noise(tmp_path):
    faults = FaultPlan()
    faults.lose("worker-1", "train")
    async with world(tmp_path, faults) as w:
        cluster = await w.cluster(2, consensus="raft")
        status = await w.train(
            cluster, privacy=ROWS, epochs=1, min_nodes_per_round=2, local_epochs=1, **ROUND
        )
        training = w.engine.cluster(cluster).state.latest_training
        settings, sums = training.config.privacy, training.advance.privacy.sums
        assert status.training.privacy.sums == max(sums.values()) > settings.steps


async def test_budgets_of_rows_and_of_clients_are_counted_together_where_that_is_sound(tmp_path):
    async with world(tmp_path) as w:
        first = await w.cluster(2, consensus="raft")
        loud = {"mode": "central_dp", "noise_multiplier": 6.0}
        await w.train(first, privacy=loud, epochs=2, **ROUND)
        second = await w.cluster(2, consensus="raft")
        limit = {"max_epsilon": 6.0}
        status = await w.train(second, privacy=ROWS | limit, epochs=60, **ROUND)
        assert status.training_status == "early_stopped", status.training_error
        spent = status.training.privacy
        settings = w.engine.cluster(second).state.latest_training.config.privacy
        own = Sums(1.5, spent.sums, settings.sampling_rate, "record")
        # A row changes the update of its client by two clip norms at most: half the noise multiplier.
        of_clients = Sums(3.0, 2, 1.0, "record")
        assert spent.epsilon_of_data == epsilon_of([of_clients, own], 1e-5) <= 6.0
        assert spent.epsilon < spent.epsilon_of_data
        more = Sums(1.5, spent.sums + settings.steps, settings.sampling_rate, "record")
        assert epsilon_of([of_clients, more], 1e-5) > 6.0
        with pytest.raises(PrivacyBudgetSpent, match="does not allow one round"):
            await w.start(second, privacy=ROWS | limit, epochs=1, **ROUND)
        with pytest.raises(UnsupportedCombination, match="no useful bound"):
            await w.start(second, privacy=loud, epochs=1, **ROUND)
        await w.train(second, blobs(seed=9), privacy=loud, epochs=1, **ROUND)


async def test_what_cannot_be_counted_for_rows_is_refused_in_one_error(tmp_path):
    normalised = (
        {"type": "dense", "units": 4},
        {"type": "batch_normalization"},
        {"type": "dense", "units": 1},
    )
    frozen = ({"type": "dense", "units": 4, "trainable": False}, {"type": "dense", "units": 1})
    async with world(tmp_path) as w:
        for layers, said in ((normalised, "batch_normalization"), (frozen, "or frozen layers")):
            cluster = await w.cluster(2, layers=layers)
            with pytest.raises(UnsupportedCombination, match=said) as caught:
                await w.start(cluster, privacy=ROWS, **ROUND)
            assert "without frozen layers" in caught.value.hint
        for more, said in (
            ({"delta": 0.5}, "one over the number of training rows"),
            ({"adaptive": True}, "adaptive belongs"),
            ({"noise_multiplier": 0}, "noise_multiplier input should be greater"),
            ({"noise_multiplier": None, "target_epsilon": 0}, "target_epsilon input should be"),
        ):
            with pytest.raises(InvalidArguments, match=said):
                await w.start(cluster, privacy=ROWS | more, **ROUND)


async def test_rows_of_a_lost_worker_are_not_trained_on_by_another(tmp_path):
    faults = FaultPlan()
    faults.kill("worker-0", "train")
    async with world(tmp_path, faults) as w:
        cluster = await w.cluster(2, consensus="raft")
        status = await w.train(cluster, privacy=ROWS, federated=False, epochs=2, **ROUND)
        training = w.engine.cluster(cluster).state.latest_training
        assert training.config.strategy == "single_process"
        assert status.training_status == "failed"
        assert "no_workers" in status.training_error
        assert set(training.advance.privacy.sums) == {"worker-0"}


async def test_membership_inference_that_works_without_privacy_is_within_the_bound_of_epsilon(
    tmp_path,
):
    """Yeom et al. 2018, as in `test_privacy`, whose control without privacy tells more than 0.6 apart."""
    draw = np.random.Generator(np.random.PCG64(3))
    x = draw.standard_normal((160, 24)).round(3)
    y = draw.integers(0, 2, 160)
    data = {"X": x[:80].tolist(), "y": y[:80].tolist()}
    layers = ({"type": "dense", "units": 48, "activation": "relu"}, {"type": "dense", "units": 1})
    rows = {"mode": "record_dp", "target_epsilon": 0.6, "clip_norm": 0.5}
    async with world(tmp_path) as w:
        cluster = await w.cluster(2, layers=layers, consensus="raft")
        more = {"local_epochs": 10, "learning_rate": 0.02, "optimizer": "adam"}
        sizes = {"validation_size": 0, "test_size": 0.1}
        status = await w.train(cluster, data, epochs=6, privacy=rows, **more, **sizes)
        assert status.training_status == "completed", status.training_error
        inside = await loss_of(w, cluster, x[:80], y[:80])
        outside = await loss_of(w, cluster, x[80:], y[80:])
    epsilon = status.training.privacy.epsilon
    assert epsilon <= 0.6
    # The bound of the advantage, and the deviation of two empirical distributions of 80 (95 %).
    bound = (np.exp(epsilon) - 1 + 2e-5) / (np.exp(epsilon) + 1)
    assert told_apart(inside, outside) < bound + 1.36 * (2 / 80) ** 0.5 < 0.6
