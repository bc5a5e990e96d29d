"""Training: what is stepped, in which order, from what state, and that it learns."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.trainer import Part, Shard, Workspace, train
from flow_nexus_neural.protocol.digest import named_tensors
from flow_nexus_neural.protocol.messages import Pass
from flow_nexus_neural.protocol.plan import InputSpec
from tests.unit.node.building import FLAT, plan_of, rows, train_request, weights_of

DENSE = [{"type": "dense", "units": 6, "activation": "tanh"}]
SGD = {"optimizer": "sgd", "learning_rate": 0.1}


def _nothing(_step_ms):
    return None


def _state(plan, seed=1):
    weights = weights_of(plan, seed)
    zeros = np.zeros(plan.n_params, np.float32)
    return {**weights.arrays(), "m": zeros, "v": zeros.copy()}


def _vectors(state):
    return state["params"], state["buffers"]


def _run(plan, shard, watch=_nothing, state=None, **changes):
    network = Network(plan)
    workspace = Workspace(network)
    request = train_request(**changes)
    workspace.load(state or _state(plan), request.optimizer)
    progress = train(network, workspace, shard, request, watch)
    return progress, {name: a.copy() for name, a in workspace.state(request.optimizer).items()}


def _binary_shard(count=30, spec=FLAT):
    x = rows(count, spec)
    return Shard(x, (x.reshape(count, -1)[:, 0] > 0).astype(np.float32))


def test_steps_take_the_batches_that_the_pass_describes_and_follow_their_gradient():
    plan, shard = plan_of(DENSE, FLAT), _binary_shard(30)
    progress, after = _run(plan, shard, passes=(Pass(order_seed=5), Pass(order_seed=6)), **SGD)

    start = named_tensors(plan, _state(plan)["params"], _state(plan)["buffers"])
    leaves = [torch.from_numpy(array.copy()).requires_grad_() for array in start.values()]
    losses = []
    for seed in (5, 6):
        order = np.random.Generator(np.random.PCG64(seed)).permutation(30)
        for first in range(0, 30, 8):
            picked = order[first : first + 8]
            x, y = torch.from_numpy(shard.x[picked]), torch.from_numpy(shard.y[picked])
            kernel, bias, head, head_bias = leaves
            logits = (torch.tanh(x @ kernel + bias) @ head + head_bias)[:, 0]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y)
            losses += [float(loss.detach())] * len(picked)
            for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
                leaf.data.sub_(gradient, alpha=0.1)
    assert (progress.steps, progress.opt_step) == (8, 8)
    assert progress.loss == pytest.approx(np.mean(losses), rel=1e-5)
    flat = np.concatenate([leaf.detach().numpy().ravel() for leaf in leaves])
    np.testing.assert_allclose(after["params"], flat, rtol=1e-4, atol=1e-6)


def test_a_pass_cut_into_parts_ends_where_the_whole_pass_ends():
    plan, shard = plan_of(DENSE, FLAT), _binary_shard(30)
    _, whole = _run(plan, shard)
    state, opt_step = None, 0
    for start, stop in ((0, 1), (1, 3), (3, None)):
        part = (Pass(order_seed=11, start=start, stop=stop),)
        progress, state = _run(plan, shard, state=state, passes=part, opt_step=opt_step)
        opt_step = progress.opt_step
    assert opt_step == 4
    for name, vector in whole.items():
        np.testing.assert_array_equal(state[name], vector)


@pytest.mark.parametrize(("start", "stop"), [(0, 5), (3, 2), (5, None)])
def test_steps_that_the_shard_does_not_have_are_refused(start, stop):
    with pytest.raises(ValueError, match="are not among the 4 of 30 rows"):
        _run(
            plan_of(DENSE, FLAT),
            _binary_shard(30),
            passes=(Pass(order_seed=1, start=start, stop=stop),),
        )


def test_adam_continues_its_bias_correction_at_the_step_it_is_told():
    plan, shard = plan_of(DENSE, FLAT), _binary_shard(8)
    _, fresh = _run(plan, shard, opt_step=0)
    progress, later = _run(plan, shard, opt_step=1000)
    assert progress.opt_step == 1001
    assert not np.allclose(fresh["params"], later["params"])


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop", "adagrad"])
def test_every_optimiser_lowers_the_loss(optimizer):
    plan, shard = plan_of(DENSE, FLAT), _binary_shard(64)
    state = _state(plan)
    if optimizer == "adagrad":
        state["v"] = np.full_like(state["v"], 0.1)
    rate = 0.3 if optimizer in {"sgd", "adagrad"} else 0.02
    losses = [
        _run(plan, shard, state=state, optimizer=optimizer, learning_rate=rate, passes=passes)[
            0
        ].loss
        for passes in ((Pass(order_seed=1),), tuple(Pass(order_seed=n) for n in range(1, 41)))
    ]
    assert losses[1] < 0.6 * losses[0]


def test_multiclass_and_regression_learn_their_targets():
    x = rows(96, FLAT)
    many = tuple(Pass(order_seed=n) for n in range(40))
    targets = {
        "multiclass": x[:, :3].argmax(1).astype(np.int64),
        "regression": (2.0 * x[:, 1] - 1.0).astype(np.float32),
    }
    for task, y in targets.items():
        plan = plan_of(DENSE, FLAT, task)
        first, _ = _run(plan, Shard(x, y))
        last, _ = _run(plan, Shard(x, y), passes=many)
        assert last.loss < 0.5 * first.loss


def test_the_loss_counts_each_row_once_even_in_a_short_last_batch():
    plan = plan_of([{"type": "dense", "units": 1}], FLAT, "regression")
    state = _state(plan)
    state["params"] = np.zeros_like(state["params"])
    y = np.arange(10, dtype=np.float32)
    tiny = {"optimizer": "sgd", "learning_rate": 1e-7}
    progress, _ = _run(
        plan, Shard(np.zeros((10, 5), np.float32), y), state=state, batch_size=8, **tiny
    )
    assert progress.loss == pytest.approx(float(np.mean(y**2)), rel=1e-4)


def test_a_loss_that_is_not_finite_is_reported_as_none():
    plan = plan_of(DENSE, FLAT, "regression")
    shard = Shard(rows(16, FLAT), np.full(16, np.inf, np.float32))
    progress, state = _run(plan, shard)
    assert progress.loss is None
    assert progress.steps == 2
    assert not np.isfinite(state["params"]).all()


BATCH_NORM = [{"type": "dense", "units": 4}, {"type": "batch_normalization"}]


def test_batch_norm_skips_a_batch_of_one_row():
    plan, shard = plan_of(BATCH_NORM, FLAT), _binary_shard(17)
    progress, after = _run(plan, shard)
    assert progress.steps == progress.opt_step == 2  # 8, 8, and the last one alone
    _, two = _run(plan, shard, passes=(Pass(order_seed=11, stop=2),))
    np.testing.assert_array_equal(after["params"], two["params"])
    alone, _ = _run(plan, shard, passes=(Pass(order_seed=11, start=2),))
    assert (alone.steps, alone.loss) == (0, None)


def test_batches_of_one_row_are_refused_for_batch_norm_and_fine_without():
    with pytest.raises(ValueError, match="batch_size=1 is too small"):
        _run(plan_of(BATCH_NORM, FLAT), _binary_shard(4), batch_size=1)
    frozen = [{"type": "dense", "units": 4}, {"type": "batch_normalization", "trainable": False}]
    for layers in (DENSE, frozen):
        progress, _ = _run(plan_of(layers, FLAT), _binary_shard(4), batch_size=1)
        assert progress.steps == 4


def test_batch_norm_over_steps_takes_a_single_row():
    spec = InputSpec(vector_length=6, n_scalars=1)
    layers = [
        {"type": "conv1d", "filters": 2, "kernel_size": 3},
        {"type": "batch_normalization"},
        {"type": "flatten"},
    ]
    progress, _ = _run(plan_of(layers, spec), _binary_shard(3, spec), batch_size=1)
    assert progress.steps == 3


def test_batch_norms_moving_statistics_are_published_with_the_buffers():
    plan, shard = plan_of(BATCH_NORM, FLAT), _binary_shard(16)
    before = _state(plan)["buffers"]
    _, after = _run(plan, shard)
    assert plan.n_buffers == 8
    assert (after["buffers"] != before).all()


def test_a_frozen_layer_does_not_move():
    layers = [{"type": "dense", "units": 4, "trainable": False}, {"type": "dense", "units": 3}]
    plan, shard = plan_of(layers, FLAT), _binary_shard(16)
    _, after = _run(plan, shard)
    np.testing.assert_array_equal(after["buffers"], _state(plan)["buffers"])
    assert not np.array_equal(after["params"], _state(plan)["params"])


def test_gradients_pass_through_a_frozen_layer_beside_moving_statistics():
    # The frozen kernel and the moving statistics lie in one vector; autograd must not take a change of these
    # for a change of that.
    layers = [
        {"type": "dense", "units": 4},
        {"type": "dense", "units": 4, "trainable": False},
        {"type": "batch_normalization"},
    ]
    plan, shard = plan_of(layers, FLAT), _binary_shard(16)
    before = named_tensors(plan, *_vectors(_state(plan)))
    _, state = _run(plan, shard)
    after = named_tensors(plan, *_vectors(state))
    moved = {name for name in after if not np.array_equal(before[name], after[name])}
    assert moved == set(after) - {"layers.1.kernel", "layers.1.bias"}


def test_dropout_and_feature_dropout_change_with_their_seed_and_with_nothing_else():
    layers = [*DENSE, {"type": "dropout", "rate": 0.5}, {"type": "dense", "units": 4}]
    plan, shard = plan_of(layers, FLAT), _binary_shard(32)
    runs = [
        _run(plan, shard, dropout_seed=seed, feature_dropout=rate)[1]["params"]
        for seed, rate in ((1, 0.0), (1, 0.0), (2, 0.0), (1, 0.3))
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert not np.array_equal(runs[0], runs[3])


def test_training_draws_nothing_from_the_global_generator():
    plan = plan_of([*DENSE, {"type": "dropout", "rate": 0.5}, {"type": "dense", "units": 4}], FLAT)
    before = torch.get_rng_state()
    _run(plan, _binary_shard(16))
    assert torch.equal(before, torch.get_rng_state())


def test_each_step_is_reported_and_the_watcher_may_end_the_training():
    class Stop(Exception):
        pass

    seen = []

    def watch(step_ms):
        seen.append(step_ms)
        if len(seen) == 2:
            raise Stop

    with pytest.raises(Stop):
        _run(plan_of(DENSE, FLAT), _binary_shard(64), watch)
    assert len(seen) == 2
    assert all(step_ms > 0 for step_ms in seen)


SEEDS_WORKER = [
    {"type": "lstm", "units": 16, "return_sequences": True},
    {"type": "attention", "heads": 2, "key_dim": 4},
    {"type": "dense", "units": 8, "activation": "relu"},
    {"type": "dropout", "rate": 0.3},
    {"type": "dense", "units": 1, "activation": "sigmoid"},
]
MIXED = [
    {"type": "conv1d", "filters": 8, "kernel_size": 3, "padding": "same"},
    {"type": "batch_normalization"},
    {"type": "transformer_encoder", "heads": 2},
    {"type": "gru", "units": 8},
]

ANOTHER_PROCESS = """
from tests.unit.node.test_trainer import digests_of_a_training
print("\\n".join(digests_of_a_training()))
"""


def digests_of_a_training():
    torch.set_num_threads(1)
    spec = InputSpec(vector_length=10, n_scalars=3)
    digests = []
    for layers in (SEEDS_WORKER, MIXED):
        passes = tuple(Pass(order_seed=n) for n in range(2))
        _, state = _run(plan_of(layers, spec), _binary_shard(20, spec), passes=passes)
        digests.append(
            hashlib.sha256(b"".join(state[name].tobytes() for name in sorted(state))).hexdigest()
        )
    return digests


def test_two_processes_train_to_the_same_bytes():
    threads = torch.get_num_threads()
    try:
        mine = digests_of_a_training()
    finally:
        torch.set_num_threads(threads)
    other = subprocess.run(
        [sys.executable, "-c", ANOTHER_PROCESS],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert other.stdout.split() == mine


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_steps_from_the_middle_are_those_of_the_whole(cut):
    plan = plan_of([*DENSE, {"type": "dropout", "rate": 0.5}], FLAT)
    shard, changes = _binary_shard(40), {"feature_dropout": 0.3}
    whole, expected = _run(plan, shard, **changes)
    network = Network(plan)
    workspace, request = Workspace(network), train_request(**changes)
    workspace.load(_state(plan), request.optimizer)
    for part in (Part(stop=cut), Part(cut)):
        progress = train(network, workspace, shard, request, _nothing, part)
    assert (progress.opt_step, progress.steps) == (whole.opt_step, whole.steps - cut)
    for name, vector in workspace.state(request.optimizer).items():
        assert vector.tobytes() == expected[name].tobytes(), name


def _regression(seed=0):
    """A linear regression of 8 rows, one batch a pass; gives (x, y, weights) in float64 for formulas."""
    plan = plan_of([{"type": "dense", "units": 1}], FLAT, task="regression")
    x = rows(8, FLAT, seed)
    y = (x[:, 0] - 2 * x[:, 1]).astype(np.float32)
    return plan, Shard(x, y)


def _by_hand(shard, params, steps, rate, extra):
    """Gradient steps on the mean squared error; `extra(w)` is added to each gradient."""
    x, y = shard.x.astype("f8"), shard.y.astype("f8")
    w = params.astype("f8")
    for _ in range(steps):
        error = x @ w[:5] + w[5] - y
        gradient = 2 * np.append(x.T @ error, error.sum()) / len(x)
        w = w - rate * (gradient + extra(w))
    return w


def test_the_proximal_term_is_added_to_the_gradient():
    plan, shard = _regression()
    start = _state(plan)["params"]
    passes = tuple(Pass(order_seed=n) for n in range(5))
    for mu in (0.01, 0.5, 5.0):
        _, after = _run(plan, shard, passes=passes, proximal_mu=mu, **SGD)
        base = start.astype("f8")
        expected = _by_hand(shard, start, 5, 0.1, lambda w, mu=mu, base=base: mu * (w - base))
        np.testing.assert_allclose(after["params"], expected, rtol=1e-5, atol=1e-6)
    _, plain = _run(plan, shard, passes=passes, **SGD)
    _, none = _run(plan, shard, passes=passes, proximal_mu=0.0, **SGD)
    np.testing.assert_array_equal(none["params"], plain["params"])
    assert not np.allclose(after["params"], plain["params"], atol=1e-3)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop", "adagrad"])
def test_a_large_mu_leaves_the_weights_at_the_base(optimizer):
    plan, shard = _regression()
    state = _state(plan)
    if optimizer == "adagrad":
        state["v"] = np.full_like(state["v"], 0.1)
    passes = tuple(Pass(order_seed=n) for n in range(50))
    moved = []
    for mu in (0.0, 1e2, 1e4, 1e6):
        changes = {"optimizer": optimizer, "learning_rate": 0.1, "proximal_mu": mu}
        _, after = _run(plan, shard, state=state, passes=passes, **changes)
        moved.append(float(np.abs(after["params"] - state["params"]).max()))
    assert moved[0] > 0.1
    assert moved[1] < moved[0]
    assert moved[2] < 5e-3
    assert moved[3] < 5e-5


def test_a_correction_is_added_to_every_gradient():
    plan, shard = _regression()
    start = _state(plan)["params"]
    correction = np.random.default_rng(5).normal(size=plan.n_params).astype("f4")
    correction.flags.writeable = False
    network = Network(plan)
    workspace = Workspace(network)
    passes = tuple(Pass(order_seed=n) for n in range(5))
    request = train_request(passes=passes, **SGD)
    workspace.load(_state(plan), "sgd")
    train(network, workspace, shard, request, _nothing, Part(correction=correction))
    expected = _by_hand(shard, start, 5, 0.1, lambda _w: correction.astype("f8"))
    np.testing.assert_allclose(workspace.weights.params.numpy(), expected, rtol=1e-5, atol=1e-6)
