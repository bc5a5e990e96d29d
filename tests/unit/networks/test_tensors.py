"""Tensors of each layer: names, shapes, initialisers, counts."""

from tests.unit.networks.building import FLAT_16, SEED, WINDOW, count, dense, plan_of, tensors


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
