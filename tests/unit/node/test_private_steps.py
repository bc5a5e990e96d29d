"""DP-SGD in a node: which rows a step has, which noise, and that a step depends on nothing else."""

import numpy as np
import pytest

from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.private_steps import StepDraws
from flow_nexus_neural.node.trainer import WHOLE, Part, Shard, Workspace, train
from flow_nexus_neural.protocol.messages import Pass, PrivateSteps
from tests.unit.node.building import FLAT, plan_of, rows, train_request, weights_of

DENSE = [{"type": "dense", "units": 6, "activation": "tanh"}]
ORDER = PrivateSteps(
    key="ab" * 32,
    sampling_rate=0.2,
    steps=5,
    clip_norm=0.5,
    noise_multiplier=2.0,
    expected_rows=6.0,
)


def trained(order, *, part=WHOLE, state=None, layers=DENSE, n=30, teacher=None, **changes):
    plan = plan_of(layers, FLAT)
    x = rows(n, FLAT)
    shard = Shard(x, (x[:, 0] > 0).astype(np.float32), teacher)
    workspace = Workspace(Network(plan))
    start = weights_of(plan).arrays()
    request = train_request(
        **{"optimizer": "sgd", "learning_rate": 0.1, "private": order} | changes
    )
    workspace.load(start if state is None else state, "sgd")
    progress = train(Network(plan), workspace, shard, request, lambda _ms: None, part)
    return progress, {k: v.copy() for k, v in workspace.state("sgd").items()}, start


def test_each_row_is_drawn_with_the_rate_on_its_own_and_each_step_anew():
    draws = StepDraws(ORDER)
    drawn = np.zeros((400, 50), bool)
    for step in range(400):
        drawn[step, draws.rows(step, 50)] = True
    # Binomial: standard deviation of a share of 20,000 draws is 0.0028, of a row's 400 draws 0.02.
    assert abs(drawn.mean() - 0.2) < 0.012
    assert np.abs(drawn.mean(0) - 0.2).max() < 0.09
    assert abs(drawn.sum(1).var() - 50 * 0.2 * 0.8) < 2.0  # a fixed size would have none
    assert abs(np.corrcoef(drawn[:-1].ravel(), drawn[1:].ravel())[0, 1]) < 0.03
    other = StepDraws(ORDER.model_copy(update={"key": "cd" * 32}))
    assert not np.array_equal(draws.rows(0, 400), other.rows(0, 400))
    everything = StepDraws(ORDER.model_copy(update={"sampling_rate": 1.0}))
    assert np.array_equal(everything.rows(3, 9), np.arange(9))


def test_the_noise_has_the_variance_that_is_paid_for_and_no_stream_serves_twice():
    noise = StepDraws(ORDER).noise(0, 20000)
    assert noise.std() == pytest.approx(2.0 * 0.5, rel=0.03)  # 6 standard errors
    assert abs(noise.mean()) < 0.05
    assert abs(np.corrcoef(noise, StepDraws(ORDER).noise(1, 20000))[0, 1]) < 0.05
    assert StepDraws(ORDER).seed(0) != StepDraws(ORDER).seed(1)


def test_a_step_without_rows_is_made_of_noise_alone():
    never = ORDER.model_copy(update={"sampling_rate": 1e-12, "steps": 3})
    progress, after, before = trained(never)
    moved = sum(StepDraws(never).noise(step, before["params"].size) for step in range(3))
    assert (progress.steps, progress.loss) == (3, None)
    assert np.allclose(before["params"] - after["params"], 0.1 * moved / 6.0, atol=1e-6)


def test_no_row_moves_a_step_by_more_than_the_clip_norm_however_large_it_is():
    quiet = ORDER.model_copy(update={"noise_multiplier": 1e-9, "steps": 1, "sampling_rate": 1.0})
    plan = plan_of(DENSE, FLAT)
    x = rows(2, FLAT)
    moved = []
    for scale in (1.0, 1e6):
        workspace = Workspace(Network(plan))
        workspace.load(weights_of(plan).arrays(), "sgd")
        far = np.concatenate((x[:1], scale * x[1:]))
        shard = Shard(far, np.array([0.0, 1.0], np.float32))
        request = train_request(optimizer="sgd", learning_rate=1.0, private=quiet)
        train(Network(plan), workspace, shard, request, lambda _ms: None)
        moved.append(workspace.weights.params.numpy().copy())
    assert 0 < np.linalg.norm(moved[1] - moved[0]) <= 2 * 0.5 / 6.0


def test_steps_from_the_middle_are_the_same_as_all_of_them():
    whole, after, _ = trained(ORDER, passes=(Pass(order_seed=1), Pass(order_seed=2)))
    assert whole.steps == 10
    _, half, _ = trained(ORDER, passes=(Pass(order_seed=1), Pass(order_seed=2)), part=Part(0, 6))
    rest, again, _ = trained(
        ORDER, passes=(Pass(order_seed=1), Pass(order_seed=2)), part=Part(6), state=half
    )
    assert rest.steps == 4
    assert np.array_equal(again["params"], after["params"])


def test_what_the_seeds_of_the_assignment_are_changes_nothing():
    """They follow from the cluster's seed, which is no secret."""
    _, one, _ = trained(ORDER, dropout_seed=1, passes=(Pass(order_seed=1),))
    _, other, _ = trained(ORDER, dropout_seed=2, passes=(Pass(order_seed=9),))
    assert np.array_equal(one["params"], other["params"])


def test_teachers_and_running_statistics_are_refused():
    with pytest.raises(ValueError, match="teacher"):
        trained(ORDER, teacher=np.zeros((30, 1), np.float32), temperature=2.0)
    with pytest.raises(ValueError, match="running statistics"):
        trained(ORDER, layers=[*DENSE, {"type": "batch_normalization"}], state=None)


def test_the_key_is_in_no_text():
    assert ORDER.key not in repr(ORDER)
    assert ORDER.key not in str(train_request(private=ORDER))
