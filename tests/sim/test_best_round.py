"""A training leaves its best round in force, and an earlier training is shown with its own numbers."""

import pytest

from tests.sim.simulated import blobs, world

WILD = {"epochs": 8, "learning_rate": 0.7, "optimizer": "sgd", "clients_per_round": 2}
"""Steps so large that the validation loss goes up and down."""


async def wild(w, **more):
    cluster = await w.cluster(2)
    status = await w.train(cluster, blobs(400, seed=3), **{**WILD, **more})
    assert status.training_status == "completed", status.training_error
    return cluster, status


async def test_the_best_round_answers_and_not_the_last(tmp_path):
    async with world(tmp_path) as w:
        cluster, status = await wild(w)
        losses = {point.round: point.val_loss for point in status.history}
        best = min(losses, key=losses.get)
        assert best < 8, "the last round is the best: nothing is shown"
        assert status.training.best_round == status.training.served_round == best
        *rounds, final = await w.versions(cluster)
        assert [entry["round"] for entry in rounds] == list(range(1, 9))
        assert (final["rule"], final["round"]) == ("best_round", best)
        assert final["weights_digest"] == rounds[best - 1]["weights_digest"]
        assert status.training.evidence.weights_digest_after == final["weights_digest"]
        assert status.model_version == final["model_version"] == 9
        answer = await w.predict(cluster)
        assert (answer.model_version, answer.nodes_used) == (9, 2)


async def test_what_is_served_and_reported_is_the_same_after_a_restart(tmp_path):
    async with world(tmp_path) as w:
        cluster, before = await wild(w)
        answer = await w.predict(cluster)
    async with world(tmp_path) as w:
        after = await w.status(cluster)
        assert after.training.served_round == before.training.served_round
        assert after.evaluation == before.evaluation
        assert (await w.predict(cluster)).predictions == answer.predictions


async def test_without_validation_rows_the_last_round_answers(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        status = await w.train(cluster, blobs(120), **WILD)
        assert status.training.best_round is None
        assert status.training.served_round == 8
        assert len(await w.versions(cluster)) == status.model_version == 8


async def test_the_next_training_goes_on_from_the_round_that_answers(tmp_path):
    async with world(tmp_path) as w:
        cluster, first = await wild(w)
        second = await w.train(cluster, blobs(400, seed=3), epochs=1, learning_rate=1e-4)
        evidence = second.training.evidence
        assert evidence.weights_digest_before == first.training.evidence.weights_digest_after


@pytest.mark.parametrize("restarted", [False, True], ids=["in one life", "after a restart"])
async def test_an_earlier_training_is_shown_with_its_own_numbers(tmp_path, restarted):
    async with world(tmp_path) as w:
        cluster, first = await wild(w)
        other = blobs(300, seed=9, features=2)
        second = await w.train(cluster, other, epochs=2)
        assert second.training_status == "completed", second.training_error
        assert second.evaluation != first.evaluation
        asked = first.training.training_id
        if not restarted:
            shown = await w.status(cluster, training_id=asked)
    if restarted:
        async with world(tmp_path) as w:
            shown = await w.status(cluster, training_id=asked)
    for name in ("global_accuracy", "global_loss", "evaluation", "model_version", "dataset_info"):
        assert getattr(shown, name) == getattr(first, name), name
    assert shown.serving is None, "it is not in force any more"


async def test_an_earlier_training_that_left_no_model_shows_none(tmp_path):
    async with world(tmp_path) as w:
        cluster, _ = await wild(w)
        await w.start(cluster, blobs(400, seed=3), epochs=200)
        failed = (await w.status(cluster)).training.training_id
        await w.terminate(cluster, training_id=failed)
        await w.done(cluster)
        await w.train(cluster, blobs(400, seed=3), epochs=1)
        shown = await w.status(cluster, training_id=failed)
        assert (shown.training_status, shown.global_accuracy) == ("stopped", None)
        assert (shown.evaluation, shown.dataset_info) == (None, None)
