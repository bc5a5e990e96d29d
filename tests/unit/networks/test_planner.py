"""Shapes, tensors, heads, views and limits of planned networks."""

import pytest

from flow_nexus_neural.errors import InvalidArchitecture, InvalidDataset, LimitExceeded
from flow_nexus_neural.networks.planner import check_structure, plan_network
from flow_nexus_neural.networks.vocabulary import parse_layers
from flow_nexus_neural.protocol.plan import InputSpec

CRYPTO = InputSpec(vector_length=50, n_scalars=3)
WINDOW = InputSpec(vector_length=0, n_scalars=16, window=20)
FLAT_16 = InputSpec(vector_length=0, n_scalars=16)

SEED = {
    "worker": [
        {"type": "lstm", "units": 256, "return_sequences": True},
        {"type": "attention", "heads": 8, "key_dim": 64},
        {"type": "dense", "units": 128, "activation": "relu"},
        {"type": "dense", "units": 64, "activation": "tanh"},
        {"type": "dense", "units": 1, "activation": "sigmoid"},
    ],
    "parameter_server": [
        {"type": "dense", "units": 512, "activation": "relu"},
        {"type": "dropout", "rate": 0.3},
        {"type": "dense", "units": 256, "activation": "relu"},
        {"type": "dense", "units": 128, "activation": "linear"},
    ],
    "aggregator": [
        {"type": "dense", "units": 256, "activation": "relu"},
        {"type": "batch_normalization"},
        {"type": "dense", "units": 128, "activation": "relu"},
        {"type": "dense", "units": 1, "activation": "linear"},
    ],
    "validator": [
        {"type": "dense", "units": 64, "activation": "relu"},
        {"type": "dense", "units": 32, "activation": "relu"},
        {"type": "dense", "units": 1, "activation": "sigmoid"},
    ],
}


def planned(layers, rows=CRYPTO, task="binary", n_outputs=1, limit=10_000_000):
    parsed = parse_layers(layers)
    check_structure(parsed.layers)
    return plan_network(
        parsed.layers, input=rows, task=task, n_outputs=n_outputs, max_parameters=limit
    )


def plan_of(layers, rows=CRYPTO, **task):
    return planned(layers, rows, **task).plan


def tensors(layer):
    return [(tensor.name.split(".", 2)[2], tensor.shape, tensor.init) for tensor in layer.tensors]


def count(layer):
    return sum(tensor.size for tensor in layer.tensors)


def refusal(layers, rows=CRYPTO, error=InvalidArchitecture, **task):
    with pytest.raises(error) as caught:
        planned(layers, rows, **task)
    assert caught.value.hint
    return caught.value.message


def dense(units, activation="linear", **more):
    return {"type": "dense", "units": units, "activation": activation, **more}


def test_the_worker_on_20_steps_of_16_channels_has_846849_parameters():
    plan = plan_of(SEED["worker"], WINDOW)
    assert [count(layer) for layer in plan.layers] == [279_552, 526_080, 32_896, 8_256, 65]
    assert (plan.n_params, plan.n_buffers, plan.implied_head) == (846_849, 0, False)


def test_the_worker_on_a_vector_of_50_and_3_scalars_has_834561_parameters():
    plan = plan_of(SEED["worker"])
    assert plan.view == "sequence"
    assert plan.layers[0].in_shape == (50, 4)
    assert plan.n_params == 834_561


def test_the_parameter_server_gets_an_implied_head():
    plan = plan_of(SEED["parameter_server"])
    assert plan.view == "flat"
    assert plan.implied_head
    assert [count(layer) for layer in plan.layers[:-1]] == [27_648, 0, 131_328, 32_896]
    assert plan.n_params == 191_872 + 129
    head = plan.layers[-1]
    assert (head.index, head.type, head.args["units"]) == (None, "dense", 1)
    assert [tensor.name for tensor in head.tensors] == ["head.kernel", "head.bias"]


def test_the_parameter_server_on_16_inputs_has_172928_parameters_before_its_head():
    plan = plan_of(SEED["parameter_server"], FLAT_16)
    assert sum(count(layer) for layer in plan.layers[:-1]) == 172_928


def test_the_aggregator_has_38401_parameters_of_which_37889_train():
    plan = plan_of(SEED["aggregator"], FLAT_16, task="regression")
    assert plan.n_params + plan.n_buffers == 38_401
    assert plan.n_params == 37_889
    assert [tensor.name for tensor in plan.buffers] == [
        "layers.1.moving_mean",
        "layers.1.moving_variance",
    ]


def test_the_validator_has_3201_parameters():
    assert plan_of(SEED["validator"], FLAT_16).n_params == 3_201


def test_recurrent_tensors_have_keras_shapes_and_initialisers():
    plan = plan_of(
        [
            {"type": "lstm", "units": 5, "return_sequences": True},
            {"type": "gru", "units": 6, "return_sequences": True},
            {"type": "simple_rnn", "units": 7},
        ]
    )
    assert tensors(plan.layers[0]) == [
        ("kernel", (4, 20), "glorot_uniform"),
        ("recurrent_kernel", (5, 20), "orthogonal"),
        ("bias", (20,), "lstm_bias"),
    ]
    assert tensors(plan.layers[1]) == [
        ("kernel", (5, 18), "glorot_uniform"),
        ("recurrent_kernel", (6, 18), "orthogonal"),
        ("bias", (2, 18), "zeros"),
    ]
    assert tensors(plan.layers[2]) == [
        ("kernel", (6, 7), "glorot_uniform"),
        ("recurrent_kernel", (7, 7), "orthogonal"),
        ("bias", (7,), "zeros"),
    ]


def test_a_bidirectional_layer_has_both_directions_and_the_width_of_its_merge():
    inner = {"type": "lstm", "units": 3, "return_sequences": True}
    concat = plan_of([{"type": "bidirectional", "layer": inner}]).layers[0]
    assert concat.out_shape == (50, 6)
    assert [name for name, _, _ in tensors(concat)] == [
        "forward.kernel",
        "forward.recurrent_kernel",
        "forward.bias",
        "backward.kernel",
        "backward.recurrent_kernel",
        "backward.bias",
    ]
    summed = plan_of([{"type": "bidirectional", "layer": inner, "merge_mode": "sum"}]).layers[0]
    assert summed.out_shape == (50, 3)


def test_attention_tensors_have_keras_shapes():
    layer = plan_of([{"type": "attention", "heads": 2, "key_dim": 3}]).layers[0]
    assert tensors(layer) == [
        ("query_kernel", (4, 2, 3), "glorot_uniform"),
        ("query_bias", (2, 3), "zeros"),
        ("key_kernel", (4, 2, 3), "glorot_uniform"),
        ("key_bias", (2, 3), "zeros"),
        ("value_kernel", (4, 2, 3), "glorot_uniform"),
        ("value_bias", (2, 3), "zeros"),
        ("output_kernel", (2, 3, 4), "glorot_uniform"),
        ("output_bias", (4,), "zeros"),
    ]


def test_a_transformer_encoder_stays_one_layer_with_its_blocks_in_the_names():
    plan = plan_of([dense(8), {"type": "transformer_encoder", "heads": 2, "depth": 2}])
    layer = plan.layers[1]
    assert layer.args["ff_dim"] == 16
    assert layer.args["key_dim"] == 4
    block = [name for name, _, _ in tensors(layer) if name.startswith("block0.")]
    assert block == [
        "block0.attention_norm.gamma",
        "block0.attention_norm.beta",
        "block0.attention.query_kernel",
        "block0.attention.query_bias",
        "block0.attention.key_kernel",
        "block0.attention.key_bias",
        "block0.attention.value_kernel",
        "block0.attention.value_bias",
        "block0.attention.output_kernel",
        "block0.attention.output_bias",
        "block0.feed_forward_norm.gamma",
        "block0.feed_forward_norm.beta",
        "block0.feed_forward_in.kernel",
        "block0.feed_forward_in.bias",
        "block0.feed_forward_out.kernel",
        "block0.feed_forward_out.bias",
    ]
    assert len(layer.tensors) == 2 * len(block)
    assert count(layer) == 2 * (4 * (8 * 8 + 8) + 4 * 8 + 8 * 16 + 16 + 16 * 8 + 8)


def test_the_deepest_encoder_fits_the_bound_on_tensors_of_one_layer():
    plan = plan_of([{"type": "transformer_encoder", "depth": 8}])
    assert len(plan.layers[0].tensors) == 8 * 16


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({}, 46),
        ({"padding": "same"}, 50),
        ({"padding": "causal"}, 50),
        ({"strides": 2}, 23),
        ({"strides": 3, "padding": "same"}, 17),
        ({"dilation_rate": 3}, 38),
        ({"dilation_rate": 3, "padding": "causal"}, 50),
    ],
)
def test_convolutions_have_the_length_of_keras(arguments, steps):
    layer = {"type": "conv1d", "filters": 7, "kernel_size": 5, **arguments}
    planned_layer = plan_of([layer]).layers[0]
    assert planned_layer.out_shape == (steps, 7)
    assert tensors(planned_layer) == [
        ("kernel", (5, 4, 7), "glorot_uniform"),
        ("bias", (7,), "zeros"),
    ]


@pytest.mark.parametrize(
    ("arguments", "steps"), [({}, 25), ({"pool_size": 3}, 16), ({"pool_size": 3, "strides": 1}, 48)]
)
def test_pooling_has_the_length_of_keras(arguments, steps):
    plan = plan_of([{"type": "average_pooling1d", **arguments}, dense(1)])
    assert plan.layers[0].out_shape == (steps, 4)


def test_flatten_and_global_pooling_end_a_sequence():
    flat = plan_of([{"type": "conv1d", "filters": 3, "kernel_size": 1}, {"type": "flatten"}])
    assert flat.layers[1].out_shape == (150,)
    pooled = plan_of([{"type": "global_max_pooling1d"}, dense(1)])
    assert pooled.layers[0].out_shape == (4,)
    assert not any(layer.take_last_step for layer in (*flat.layers, *pooled.layers))


def test_dense_networks_see_the_flat_row_and_windows_are_flattened():
    assert plan_of([dense(1)]).layers[0].in_shape == (53,)
    assert plan_of([dense(1)], WINDOW).layers[0].in_shape == (320,)
    assert plan_of([{"type": "flatten"}, dense(1)]).view == "flat"


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
    normalised = plan_of([attention, {"type": "batch_normalization"}, dense(1)])
    assert not any(layer.last_query_only for layer in normalised.layers)


@pytest.mark.parametrize(
    ("task", "n_outputs", "units", "activation", "implied"),
    [
        ("binary", 1, 1, "sigmoid", False),
        ("binary", 1, 1, "linear", False),
        ("binary", 1, 1, "tanh", True),
        ("binary", 1, 2, "softmax", True),
        ("multiclass", 3, 3, "softmax", False),
        ("multiclass", 3, 3, "linear", False),
        ("multiclass", 3, 3, "sigmoid", True),
        ("multiclass", 3, 4, "softmax", True),
        ("regression", 1, 1, "linear", False),
        ("regression", 1, 1, "sigmoid", False),
        ("regression", 1, 1, "relu", True),
        ("regression", 1, 8, "relu", True),
    ],
)
def test_the_last_layer_is_the_head_when_width_and_activation_fit_the_task(
    task, n_outputs, units, activation, implied
):
    plan = plan_of([dense(5, "relu"), dense(units, activation)], task=task, n_outputs=n_outputs)
    assert plan.implied_head is implied
    assert plan.layers[-1].args["activation"] == "linear"
    assert plan.layers[-1].out_shape == (n_outputs,)
    assert len(plan.layers) == (3 if implied else 2)
    if implied:
        assert plan.layers[1].args["activation"] == activation


def test_a_separate_final_activation_is_part_of_the_head():
    plan = plan_of([dense(1), {"type": "activation", "activation": "sigmoid"}])
    assert not plan.implied_head
    assert plan.layers[-1].args == {"activation": "linear"}


def test_the_canonical_layers_keep_the_activation_that_the_plan_moves_into_the_loss():
    parsed = parse_layers(SEED["worker"])
    plan_network(parsed.layers, input=CRYPTO, task="binary", n_outputs=1, max_parameters=10_000_000)
    assert parsed.layers[-1].to_json()["activation"] == "sigmoid"


def test_a_final_sigmoid_on_a_number_becomes_linear_with_a_warning():
    warnings = planned([dense(1, "sigmoid")], task="regression").warnings
    assert warnings == ["layers[0] dense activation sigmoid became linear: the target is a number"]


def test_an_output_layer_of_another_task_is_warned_about():
    (warning,) = planned([dense(2, "softmax")]).warnings
    assert "layers[0] dense (softmax, width 2) does not fit a binary target" in warning


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


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [{"type": "lstm", "units": 4}, {"type": "lstm", "units": 4}],
            (
                "layers[1] lstm needs a sequence but layers[0] (lstm, return_sequences=false) ends it;"
                " set return_sequences: true"
            ),
        ),
        (
            [
                {"type": "bidirectional", "layer": {"type": "gru", "units": 4}},
                dense(4),
                {"type": "attention", "heads": 1, "key_dim": 1},
            ],
            (
                "layers[2] attention needs a sequence but layers[0] (bidirectional,"
                " return_sequences=false) ends it; set return_sequences: true in its layer"
            ),
        ),
        (
            [{"type": "flatten"}, {"type": "conv1d", "filters": 2, "kernel_size": 2}],
            (
                "layers[1] conv1d needs a sequence but layers[0] flatten ends it;"
                " move it before flatten or leave flatten out"
            ),
        ),
        (
            [{"type": "pooling"}, {"type": "pooling"}],
            (
                "layers[1] global_average_pooling1d needs a sequence but layers[0]"
                " global_average_pooling1d ends it; move it before global_average_pooling1d or leave"
                " global_average_pooling1d out"
            ),
        ),
        (
            [dense(6), {"type": "transformer", "heads": 4}],
            "layers[1] transformer_encoder heads=4 does not divide its width 6",
        ),
        (
            [{"type": "conv", "filters": 2, "kernel_size": 2, "strides": 2, "dilation_rate": 2}],
            "layers[0] conv1d strides=2 and dilation_rate=2 exclude each other",
        ),
        (
            [dense(1, "softmax")],
            "layers[0] dense softmax over 1 value is always 1 and cannot learn",
        ),
        (
            [dense(1), {"type": "softmax"}],
            "layers[1] activation softmax over 1 value is always 1 and cannot learn",
        ),
    ],
)
def test_a_sequence_of_layers_that_cannot_work_is_refused_before_the_data_is_known(layers, message):
    with pytest.raises(InvalidArchitecture) as caught:
        check_structure(parse_layers(layers).layers)
    assert caught.value.message == message


def test_sizes_that_only_the_data_decides_are_refused_when_it_is_known():
    long = [{"type": "conv1d", "filters": 2, "kernel_size": 60}]
    check_structure(parse_layers(long).layers)
    assert refusal(long) == "layers[0] conv1d spans 60 steps but its input has 50"
    assert refusal([{"type": "transformer", "heads": 3}]) == (
        "layers[0] transformer_encoder heads=3 does not divide its width 4"
    )
    pools = [{"type": "max_pooling1d", "pool_size": 10}] * 2
    assert refusal(pools) == "layers[1] max_pooling1d spans 10 steps but its input has 5"


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
