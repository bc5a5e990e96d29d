"""A training ends when its validation loss no longer falls, and says so wherever its end is told."""

from tests.sim.simulated import blobs, world

WILD = {"epochs": 40, "learning_rate": 0.7, "optimizer": "sgd"}
"""Steps so large that the validation loss goes up and down."""
DATA = blobs(400, seed=3)


async def test_a_training_ends_when_its_patience_is_exhausted_and_the_best_round_answers(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        started = await w.start(cluster, DATA, patience=3, **WILD)
        assert (started.config.patience, started.total_rounds) == (3, 40)
        status = await w.done(cluster)
        assert (status.training_status, status.training_error) == ("early_stopped", None)
        assert status.training_progress == 100
        training = status.training
        assert training.current_round == training.best_round + 3 < 40 == training.total_rounds
        assert training.served_round == training.best_round
        assert training.eta_seconds is None
        losses = [point.val_loss for point in status.history]
        assert min(losses) == losses[training.best_round - 1]
        assert (await w.predict(cluster)).model_version == status.model_version
        again = await w.train(cluster, DATA, epochs=1, learning_rate=1e-4)
        assert again.training_status == "completed"
    async with world(tmp_path) as w:
        after = await w.status(cluster, training_id=started.training_id)
        assert (after.training_status, after.training_progress) == ("early_stopped", 100)
        assert after.training_sessions[0].status == "early_stopped"


async def test_rounds_that_are_asked_for_are_all_done_unless_a_patience_is(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        status = await w.train(cluster, DATA, **WILD)
        assert (status.training_status, status.training.current_round) == ("completed", 40)


async def test_a_patience_that_nothing_can_be_counted_by_is_named(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(2)
        started = await w.start(cluster, blobs(120), patience=3, epochs=8)
        assert started.config.patience == 0
        assert any("patience=3 has no effect" in warning for warning in started.warnings)
        status = await w.done(cluster)
        assert (status.training_status, status.training.current_round) == ("completed", 8)
