import pytest

from flow_nexus_neural.coordination.training_defaults import (
    LEAST_EPOCHS,
    MOST_EPOCHS,
    PATIENCE,
    SEQUENCE_PATIENCE_STEPS,
    Scale,
    batch_size,
    epochs,
    learning_rate,
    patience,
)


def scale(rows, **more):
    given = {
        "has_validation": True,
        "has_sequence": False,
        "parameters": 1_000,
        "optimizer": "adam",
    } | more
    return Scale(shard_rows=rows, **given)


def steps(of, passes=1):
    batch = batch_size(of)
    return epochs(of, batch, passes) * passes * -(-of.shard_rows // batch)


def test_fewer_rows_get_smaller_batches_and_more_epochs():
    sizes = [scale(rows) for rows in (24, 400, 1_500, 50_000, 1_000_000)]
    batches = [batch_size(one) for one in sizes]
    assert batches == [8, 16, 32, 128, 256]
    passes = [epochs(one, batch) for one, batch in zip(sizes, batches, strict=True)]
    assert passes == sorted(passes, reverse=True)
    assert (passes[0], passes[-1]) == (MOST_EPOCHS, LEAST_EPOCHS)


def test_without_validation_rows_to_stop_by_there_are_fewer_steps():
    assert steps(scale(120, has_validation=False)) < steps(scale(120)) / 2


def test_a_batch_that_was_given_leaves_the_number_of_steps():
    assert epochs(scale(1_500), 16) == pytest.approx(epochs(scale(1_500), 32) / 2, abs=1)


def test_passes_of_a_round_count():
    assert epochs(scale(1_500), 32, passes=5) < epochs(scale(1_500), 32)
    assert steps(scale(1_500), passes=2) == pytest.approx(steps(scale(1_500)), rel=0.05)


def test_optimisers_that_do_not_rescale_their_step_get_a_higher_rate():
    rates = [learning_rate(scale(500, optimizer=o)) for o in ("adam", "rmsprop", "adagrad", "sgd")]
    assert rates[0] < rates[2] < rates[3]


def test_large_networks_take_smaller_steps():
    assert learning_rate(scale(500, parameters=10**6)) == learning_rate(scale(500)) / 2


def test_patience_on_sequences_is_a_number_of_steps_however_many_workers_share_the_rows():
    for rows, passes in ((350, 1), (1_053, 1), (1_053, 2)):
        of = scale(rows, has_sequence=True)
        batch = batch_size(of)
        per_round = passes * -(-rows // batch)
        waited = patience(of, batch, passes) * per_round
        assert SEQUENCE_PATIENCE_STEPS <= waited < SEQUENCE_PATIENCE_STEPS + per_round
    assert patience(scale(100_000, has_sequence=True), 256) == PATIENCE
    assert patience(scale(350), 16) == PATIENCE


def test_a_narrow_network_for_sequences_takes_fewer_and_larger_steps():
    narrow, wide = (scale(1_500, has_sequence=True, parameters=n) for n in (13_000, 50_000))
    assert learning_rate(narrow) == 2 * learning_rate(wide)
    assert steps(narrow) < 0.85 * steps(wide)
    dense = scale(1_500, parameters=13_000)
    assert learning_rate(dense) == learning_rate(wide)


def test_a_narrow_network_with_many_rows_of_sequences_takes_larger_batches_at_a_higher_rate():
    few, many = (scale(rows, has_sequence=True, parameters=13_000) for rows in (2_500, 3_500))
    assert (batch_size(few), batch_size(many)) == (32, 128)
    assert learning_rate(many) == 2 * learning_rate(few)
    assert steps(many) < steps(few) / 2
    wide, rows = scale(3_500, has_sequence=True, parameters=50_000), scale(3_500)
    assert batch_size(wide) == batch_size(rows) == 32
