"""Views, the cut to the last step, frozen layers, limits and warnings of planned networks."""

import pytest

from flow_nexus_neural.errors import InvalidDataset, LimitExceeded
from flow_nexus_neural.protocol.plan import InputSpec
from tests.unit.networks.building import FLAT_16, dense, plan_of, planned, refusal


def test_a_sequence_is_cut_to_its_last_step_before_the_final_pointwise_stack():
    plan = plan_of(
        [
            {"type": "lstm", "units": 8, "return_sequences": True},
            {"type": "batch_normalization"},
            {"type": "layer_normalization"},
            dense(4, "relu"),
            {"type": "dropout", "rate": 0.1},
        ]
    )
    assert [layer.take_last_step for layer in plan.layers] == [
        False,
        False,
        True,
        False,
        False,
        False,
    ]
    assert [layer.out_shape for layer in plan.layers] == [
        (50, 8),
        (50, 8),
        (8,),
        (4,),
        (4,),
        (1,),
    ]
    assert [layer.in_shape for layer in plan.layers][2:] == [(50, 8), (8,), (4,), (4,)]


def test_a_network_that_ends_in_a_sequence_is_cut_before_its_implied_head():
    plan = plan_of([{"type": "conv1d", "filters": 1, "kernel_size": 3}])
    assert plan.implied_head
    assert plan.layers[-1].take_last_step
    assert plan.layers[-1].in_shape == (48, 1)


def test_dense_layers_inside_a_sequence_network_keep_the_sequence():
    plan = plan_of([dense(6), {"type": "lstm", "units": 2}, dense(1)])
    assert plan.layers[0].in_shape == (50, 4)
    assert plan.layers[0].out_shape == (50, 6)
    assert not any(layer.take_last_step for layer in plan.layers)


def test_attention_is_asked_for_its_last_query_only_when_nothing_else_reads_it():
    attention = {"type": "attention", "heads": 1, "key_dim": 2}
    before_stack = plan_of([attention, dense(4, "relu"), dense(1)])
    assert [layer.last_query_only for layer in before_stack.layers] == [True, False, False]
    before_pool = plan_of([attention, {"type": "global_average_pooling1d"}, dense(1)])
    assert not any(layer.last_query_only for layer in before_pool.layers)
    twice = plan_of([attention, attention])
    assert [layer.last_query_only for layer in twice.layers] == [False, True, False]
    encoder = plan_of([{"type": "transformer", "depth": 2}, dense(1)])
    assert encoder.layers[0].last_query_only
    normalised = plan_of([attention, {"type": "batch_normalization"}, dense(1)])
    assert not any(layer.last_query_only for layer in normalised.layers)


def test_frozen_layers_count_as_buffers_and_keep_their_names():
    plan = plan_of([dense(4, trainable=False), dense(1)])
    assert plan.n_params == 5
    assert plan.n_buffers == 53 * 4 + 4
    assert [tensor.name for tensor in plan.buffers] == ["layers.0.kernel", "layers.0.bias"]


def test_a_network_without_anything_to_train_is_refused():
    assert refusal([dense(1, trainable=False)]).startswith("layers have nothing to train")


def test_an_input_layer_is_ignored_and_indices_stay_the_callers():
    result = planned([{"type": "input", "shape": [50, 4]}, {"type": "lstm", "units": 2}])
    assert result.warnings == []
    assert [layer.index for layer in result.plan.layers] == [1, None]
    assert result.plan.layers[0].tensors[0].name == "layers.1.kernel"


@pytest.mark.parametrize("shape", [[60, 4], [50], "(60, 4)", 53])
def test_an_input_layer_of_another_shape_is_warned_about(shape):
    layers = [{"type": "input", "shape": shape}, {"type": "lstm", "units": 2}]
    (warning,) = planned(layers).warnings
    assert "is not that of the data; [50, 4] is used" in warning


def test_an_input_layer_in_the_middle_is_refused():
    assert refusal([dense(1), {"type": "input"}]) == "layers[1] input must come first"


def test_the_limit_on_parameters_names_both_numbers_and_the_largest_layer():
    with pytest.raises(LimitExceeded) as caught:
        planned([dense(2048), dense(2048), dense(2048), dense(1024)])
    assert caught.value.message == ("network has 10,602,497 parameters; the limit is 10,000,000")
    assert "layers[1] dense with 4,196,352" in caught.value.hint
    exact = plan_of([dense(1)]).n_params
    assert plan_of([dense(1)], limit=exact).n_params == exact
    assert refusal([dense(1)], error=LimitExceeded, limit=exact - 1).endswith("the limit is 53")


def test_untrainable_elements_count_towards_the_limit():
    layers = [{"type": "batch_normalization"}, dense(1)]
    assert plan_of(layers, limit=4 * 53 + 54).n_buffers == 2 * 53
    assert refusal(layers, error=LimitExceeded, limit=4 * 53 + 53).startswith("network has 266 ")


def test_rows_that_would_grow_beyond_all_memory_are_refused():
    rows = InputSpec(vector_length=0, n_scalars=2, window=1 << 15)
    message = refusal([{"type": "conv1d", "filters": 2048, "kernel_size": 1}], rows, LimitExceeded)
    assert message == "layers[0] conv1d gives 67,108,864 values per row; the limit is 16,777,216"


def test_a_sequence_network_on_plain_rows_is_told_that_it_sees_one_step():
    result = planned([{"type": "lstm", "units": 4}], FLAT_16)
    assert result.plan.layers[0].in_shape == (1, 16)
    assert "each row of the data is one step" in result.warnings[0]


def test_data_without_features_is_refused():
    message = refusal([dense(1)], InputSpec(vector_length=0, n_scalars=0), InvalidDataset)
    assert message == "the data has no feature column"


@pytest.mark.parametrize(
    ("task", "n_outputs"), [("binary", 2), ("regression", 3), ("multiclass", 1)]
)
def test_a_width_that_does_not_belong_to_the_task_is_an_error_of_ours(task, n_outputs):
    with pytest.raises(ValueError, match="cannot have"):
        planned([dense(1)], task=task, n_outputs=n_outputs)
