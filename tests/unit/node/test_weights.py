"""Flat vectors, their views, initial values, and how rows enter a network."""

import numpy as np
import pytest
import torch

from flow_nexus_neural.node.initializers import initial_tensor, initial_weights
from flow_nexus_neural.node.inputs import drop_features, sequence_view
from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.weights import Weights
from flow_nexus_neural.protocol.digest import named_tensors, weights_digest
from flow_nexus_neural.protocol.plan import InputSpec, TensorSpec
from tests.unit.node.building import FLAT, SEQUENCE, plan_of, planned, rows, weights_of

LAYERS = [
    {"type": "lstm", "units": 4, "return_sequences": True},
    {"type": "attention", "heads": 2, "key_dim": 3},
    {"type": "dense", "units": 3, "trainable": False},
    {"type": "batch_normalization"},
]


def test_every_named_tensor_is_a_view_of_its_place_in_the_flat_vectors():
    plan = plan_of(LAYERS)
    weights = weights_of(plan)
    named = named_tensors(plan, weights.params.numpy(), weights.buffers.numpy())
    seen = 0
    for layer, parts in zip(plan.layers, weights.layers, strict=True):
        for tensor in layer.tensors:
            part = parts[tensor.name.split(".", 2 if layer.index is not None else 1)[-1]]
            np.testing.assert_array_equal(part.numpy(), named[tensor.name])
            assert np.shares_memory(part.numpy(), named[tensor.name])
            seen += part.numel()
    assert seen == plan.n_params + plan.n_buffers
    assert weights.digest() == weights_digest(plan, weights.params.numpy(), weights.buffers.numpy())


def test_gradients_land_in_the_flat_vector_and_nowhere_else():
    plan = plan_of([{"type": "dense", "units": 3, "activation": "tanh"}], FLAT)
    weights = Weights(plan, trainable=True)
    weights.load(*initial_weights(plan, 1))
    x = torch.from_numpy(rows(7, FLAT))
    torch.autograd.backward(Network(plan).logits(x, weights).square().sum())
    flat = torch.cat([leaf.grad.flatten() for parts in weights.layers for leaf in parts.values()])
    assert torch.equal(flat, weights.grads)
    assert int((flat != 0).sum()) == plan.n_params
    # And they are the gradients that autograd gives to tensors of its own.
    kernel, bias, head, head_bias = (
        torch.from_numpy(array.copy()).requires_grad_()
        for array in named_tensors(plan, weights.params.numpy(), weights.buffers.numpy()).values()
    )
    loss = (torch.tanh(x @ kernel + bias) @ head + head_bias).square().sum()
    expected = torch.autograd.grad(loss, (kernel, bias, head, head_bias))
    torch.testing.assert_close(flat, torch.cat([grad.flatten() for grad in expected]))


def test_two_settings_of_a_plan_share_no_memory():
    plan = plan_of(LAYERS)
    first, second = weights_of(plan), weights_of(plan)
    second.params.add_(1.0)
    assert not torch.equal(first.params, second.params)
    for mine, theirs in zip(first.layers, second.layers, strict=True):
        for name in mine:
            assert not np.shares_memory(mine[name].numpy(), theirs[name].numpy())


def test_vectors_of_another_length_are_refused():
    plan = plan_of(LAYERS)
    weights = Weights(plan)
    with pytest.raises(ValueError, match="does not fit"):
        weights.load(np.zeros(plan.n_params + 1, np.float32), np.zeros(plan.n_buffers, np.float32))


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not():
    plan = plan_of(LAYERS)
    assert weights_of(plan, 5).digest() == weights_of(plan, 5).digest()
    assert weights_of(plan, 5).digest() != weights_of(plan, 6).digest()


def test_a_tensor_is_drawn_from_seed_and_name_whatever_surrounds_it():
    alone = plan_of([{"type": "dense", "units": 4}], FLAT)
    followed = plan_of([{"type": "dense", "units": 4}, {"type": "dense", "units": 4}], FLAT)
    drawn = [
        named_tensors(plan, *initial_weights(plan, 3))["layers.0.kernel"]
        for plan in (alone, followed)
    ]
    np.testing.assert_array_equal(*drawn)
    first, second = (
        initial_tensor(TensorSpec(name=name, shape=(4, 4), init="glorot_uniform"), 3)
        for name in ("layers.0.kernel", "layers.1.kernel")
    )
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("shape", "fan_in", "fan_out"),
    [((40, 60), 40, 60), ((5, 16, 32), 80, 160), ((64, 4, 8), 256, 512)],
)
def test_glorot_uniform_fills_its_interval(shape, fan_in, fan_out):
    values = initial_tensor(TensorSpec(name="layers.0.k", shape=shape, init="glorot_uniform"), 1)
    limit = np.sqrt(6 / (fan_in + fan_out))
    assert values.dtype == np.float32
    assert np.abs(values).max() <= limit
    assert np.abs(values).max() > 0.97 * limit
    assert values.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)


@pytest.mark.parametrize("shape", [(8, 32), (32, 8), (6, 6)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape):
    matrix = initial_tensor(TensorSpec(name="layers.0.k", shape=shape, init="orthogonal"), 1)
    gram = matrix @ matrix.T if shape[0] <= shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-5)


def test_the_forget_gate_starts_open():
    layer = planned({"type": "lstm", "units": 3}, (5, 2))
    bias = initial_tensor(next(t for t in layer.tensors if t.init == "lstm_bias"), 1)
    assert bias.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_a_vector_column_is_channel_0_and_each_scalar_repeats_beside_it():
    spec = InputSpec(vector_length=3, n_scalars=2)
    sequence = sequence_view(torch.tensor([[1.0, 2.0, 3.0, 8.0, 9.0]]), spec)
    assert sequence.tolist() == [[[1, 8, 9], [2, 8, 9], [3, 8, 9]]]


def test_scalars_alone_are_one_step_and_a_window_is_taken_as_it_is():
    scalars = sequence_view(torch.ones(2, 3), InputSpec(vector_length=0, n_scalars=3))
    assert scalars.shape == (2, 1, 3)
    window = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    assert sequence_view(window, InputSpec(vector_length=0, n_scalars=3, window=4)) is window


def test_feature_dropout_removes_whole_features_of_single_rows_unscaled():
    spec = InputSpec(vector_length=4, n_scalars=2)
    dropped = drop_features(torch.ones(400, 6), spec, 0.25, torch.Generator().manual_seed(0))
    assert set(dropped.unique().tolist()) == {0.0, 1.0}
    vector, scalars = dropped[:, :4], dropped[:, 4:]
    assert torch.equal(vector, vector[:, :1].expand(-1, 4))
    groups = torch.cat((vector[:, :1], scalars), 1)
    assert (groups == 0).float().mean(0).tolist() == pytest.approx([0.25] * 3, abs=0.06)
    assert len({tuple(row) for row in groups.tolist()}) > 4  # not one draw for all


def test_feature_dropout_of_a_window_removes_a_channel_over_all_steps():
    spec = InputSpec(vector_length=0, n_scalars=3, window=5)
    dropped = drop_features(torch.ones(200, 5, 3), spec, 0.5, torch.Generator().manual_seed(0))
    assert torch.equal(dropped, dropped[:, :1].expand(-1, 5, -1))
    assert 0.4 < float(dropped.mean()) < 0.6


def test_the_last_step_taken_early_gives_what_taking_it_late_gives():
    layers = [
        {"type": "lstm", "units": 4, "return_sequences": True},
        {"type": "dense", "units": 3, "activation": "relu"},
        {"type": "dense", "units": 1},
    ]
    plan = plan_of(layers)
    assert [layer.take_last_step for layer in plan.layers] == [False, True, False]
    weights = weights_of(plan)
    x = torch.from_numpy(rows(5, SEQUENCE))
    late = plan.model_copy(
        update={
            "layers": tuple(
                layer.model_copy(update={"take_last_step": False}) for layer in plan.layers
            )
        }
    )
    every_step = Network(late).logits(x, weights)
    torch.testing.assert_close(Network(plan).logits(x, weights), every_step[:, -1])


def test_a_plan_whose_tensors_do_not_fit_its_layers_is_refused_when_it_is_built():
    plan = plan_of([{"type": "dense", "units": 4}], FLAT)
    crooked = plan.layers[0].model_copy(
        update={"tensors": (plan.layers[0].tensors[1], plan.layers[0].tensors[0].model_copy())}
    )
    swapped = tuple(
        tensor.model_copy(update={"shape": tuple(reversed(tensor.shape))})
        for tensor in crooked.tensors
    )
    wrong = plan.model_copy(
        update={"layers": (crooked.model_copy(update={"tensors": swapped}), *plan.layers[1:])}
    )
    with pytest.raises((RuntimeError, ValueError)):
        Network(wrong).check(Weights(wrong))


def test_a_plan_that_ends_in_another_width_than_its_task_needs_is_refused():
    plan = plan_of([{"type": "dense", "units": 1}], FLAT).model_copy(update={"n_outputs": 2})
    with pytest.raises(ValueError, match="its task needs"):
        Network(plan).check(Weights(plan))


def test_an_unknown_layer_type_and_a_missing_argument_are_named():
    plan = plan_of([{"type": "dense", "units": 1}], FLAT)
    for update, text in (({"type": "densse"}, "densse"), ({"args": {}}, "activation is missing")):
        broken = plan.model_copy(update={"layers": (plan.layers[0].model_copy(update=update),)})
        with pytest.raises(ValueError, match=text):
            Network(broken)
