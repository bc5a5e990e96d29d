"""One seed, one model: whatever the strategy, the machine's timing decides nothing."""

import pytest

from tests.sim.simulated import world

STRATEGIES = {
    "federated": {"workers": 3, "federated": True, "clients_per_round": 2},
    "local_sgd": {"workers": 3, "federated": False},
    "single_process": {"workers": 3, "federated": False},
}
DROPOUT = (
    {"type": "dense", "units": 6, "activation": "relu"},
    {"type": "dropout", "rate": 0.3},
    {"type": "dense", "units": 1},
)


async def digests(tmp_path, name, strategy, seed):
    """Weights digest after every round, and the evidence of the training."""
    options = dict(STRATEGIES[strategy])
    async with world(tmp_path / name) as w:
        cluster = await w.cluster(options.pop("workers"), seed=seed, layers=DROPOUT)
        status = await w.train(cluster, **options)
        assert status.training_status == "completed"
        assert status.training.strategy == strategy
        entries = await w.versions(cluster)
        return [e["weights_digest"] for e in entries], status.training.evidence


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_one_seed_gives_the_same_weights_in_every_round(tmp_path, strategy, request):
    if strategy == "local_sgd":
        request.getfixturevalue("workers_share")
    first, evidence = await digests(tmp_path, "one", strategy, seed=5)
    assert len(first) == len(set(first)) == 3
    assert await digests(tmp_path, "two", strategy, seed=5) == (first, evidence)
    assert evidence.weights_digest_before not in first
    assert evidence.weights_digest_after == first[-1]


async def test_another_seed_gives_other_weights(tmp_path):
    first, evidence = await digests(tmp_path, "one", "federated", seed=5)
    other, other_evidence = await digests(tmp_path, "two", "federated", seed=6)
    assert not set(first) & set(other)
    assert evidence.weights_digest_before != other_evidence.weights_digest_before
    assert evidence.steps == other_evidence.steps > 0
