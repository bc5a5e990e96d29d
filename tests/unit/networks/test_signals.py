"""What each layer does to the shape of a row, and orders of layers that cannot work."""

import pytest

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import check_structure
from tests.unit.networks.building import WINDOW, dense, plan_of, refusal, tensors


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
