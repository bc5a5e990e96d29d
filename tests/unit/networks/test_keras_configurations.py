"""What Keras itself writes (`to_json`, `get_config`, `class_name` with `config`) is the same network here."""

import json
from math import prod

import pytest

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.fixed_arguments import FixedArgument
from flow_nexus_neural.networks.keras_axes import without_last_axes
from flow_nexus_neural.networks.keras_form import plain_layers
from flow_nexus_neural.networks.keras_graph import chain_of
from flow_nexus_neural.networks.layers import LAYER_TYPES
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import check_structure, plan_network
from flow_nexus_neural.protocol.plan import InputSpec
from tests.unit.networks.keras_twin import keras

L = keras.layers

LAYERS = {
    "dense": (lambda: L.Dense(8, activation="relu"), {"units": 8, "activation": "relu"}),
    "dropout": (lambda: L.Dropout(0.1), {"rate": 0.1}),
    "spatial_dropout1d": (lambda: L.SpatialDropout1D(0.1), {"rate": 0.1}),
    "gaussian_noise": (lambda: L.GaussianNoise(0.1), {"stddev": 0.1}),
    "lstm": (lambda: L.LSTM(4, return_sequences=True), {"units": 4, "return_sequences": True}),
    "gru": (lambda: L.GRU(4, dropout=0.2), {"units": 4, "dropout": 0.2}),
    "simple_rnn": (lambda: L.SimpleRNN(4, go_backwards=True), {"units": 4, "go_backwards": True}),
    "bidirectional": (
        lambda: L.Bidirectional(L.GRU(4), merge_mode="sum"),
        {"layer": {"type": "gru", "units": 4}, "merge_mode": "sum"},
    ),
    "attention": (lambda: L.MultiHeadAttention(2, 4), {"heads": 2, "key_dim": 4}),
    "conv1d": (
        lambda: L.Conv1D(4, 3, padding="causal", dilation_rate=2),
        {"filters": 4, "kernel_size": 3, "padding": "causal", "dilation_rate": 2},
    ),
    "max_pooling1d": (lambda: L.MaxPooling1D(3), {"pool_size": 3}),
    "average_pooling1d": (
        lambda: L.AveragePooling1D(2, strides=1),
        {"pool_size": 2, "strides": 1},
    ),
    "global_average_pooling1d": (L.GlobalAveragePooling1D, {}),
    "global_max_pooling1d": (L.GlobalMaxPooling1D, {}),
    "flatten": (L.Flatten, {}),
    "batch_normalization": (lambda: L.BatchNormalization(momentum=0.9), {"momentum": 0.9}),
    "layer_normalization": (L.LayerNormalization, {}),
    "activation": (lambda: L.Activation("tanh"), {"activation": "tanh"}),
    "leaky_relu": (lambda: L.LeakyReLU(0.25), {"negative_slope": 0.25}),
    "input": (lambda: L.InputLayer(shape=(10, 3)), {"shape": [10, 3]}),
}
WITHOUT_KERAS = {"transformer_encoder", "positional_encoding", "graph_conv"}


def as_json(layer):
    """As `to_json` of a model would write it."""
    return json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))


def read(raw):
    parsed = parse_layers(raw)
    written = [layer.to_json() for layer in parsed.layers]
    for layer in written:
        layer.pop("name", None)
    return written


def refusal(raw):
    with pytest.raises(InvalidArchitecture) as caught:
        parse_layers(raw)
    assert len(str(caught.value)) < 1000
    return caught.value.message


def test_every_layer_of_the_vocabulary_that_keras_has_is_tried_here():
    assert set(LAYERS) == set(LAYER_TYPES) - WITHOUT_KERAS


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("form", ["class_name", "flattened"])
def test_a_layer_as_keras_writes_it_is_the_layer_written_plainly(name, form):
    make, arguments = LAYERS[name]
    layer = make()
    written = as_json(layer)
    if form == "flattened":
        written = {"type": written["class_name"], **written["config"]}
    parsed = parse_layers([written])
    assert parsed.warnings == []
    assert read([written]) == read([{"type": name, **arguments}])


@pytest.mark.parametrize(
    ("make", "activation"),
    [(L.ReLU, "relu"), (L.ELU, "elu"), (L.Softmax, "softmax")],
)
def test_activation_layers_of_keras_are_activations(make, activation):
    (layer,) = read([as_json(make())])
    assert layer == {"type": "activation", "activation": activation}


def test_bounded_and_leaky_relus_have_their_own_names():
    assert read([as_json(L.ReLU(max_value=6))]) == [{"type": "activation", "activation": "relu6"}]
    (leaky,) = read([as_json(L.ReLU(negative_slope=0.1))])
    assert leaky == {"type": "leaky_relu", "negative_slope": 0.1}
    (bidirectional,) = read([as_json(L.Bidirectional(L.LSTM(3, return_sequences=True)))])
    assert bidirectional["layer"]["return_sequences"] is True


def sequential():
    return keras.Sequential(
        [
            keras.Input((12, 3)),
            L.Conv1D(8, 3, activation="relu"),
            L.MaxPooling1D(2),
            keras.Sequential([L.Bidirectional(L.LSTM(5)), L.BatchNormalization()]),
            L.Dense(6, activation=L.LeakyReLU(0.1)),
            L.Dense(1, activation="sigmoid"),
        ]
    )


def functional():
    rows = keras.Input((12, 3))
    signal = L.LayerNormalization()(rows)
    signal = L.MultiHeadAttention(2, 4)(signal, signal, use_causal_mask=True)
    signal = L.TimeDistributed(L.Dense(6, activation="gelu"))(signal)
    signal = L.GRU(5)(signal)
    return keras.Model(rows, L.Dense(1, activation="sigmoid")(signal))


@pytest.mark.parametrize("make", [sequential, functional])
@pytest.mark.parametrize("form", ["to_json", "get_config", "one_element", "layers"])
def test_a_model_as_keras_writes_it_has_the_parameters_of_that_model(make, form):
    model = make()
    whole = json.loads(model.to_json())
    if form == "layers" and make is functional:
        whole["config"]["layers"] = [
            {key: value for key, value in layer.items() if key != "inbound_nodes"}
            for layer in whole["config"]["layers"]
        ]
    raw = {
        "to_json": whole,
        "get_config": whole["config"],
        "one_element": [whole],
        "layers": whole["config"]["layers"],
    }[form]
    layers = parse_layers(raw).layers
    check_structure(layers)
    plan = plan_network(
        layers,
        input=InputSpec(vector_length=0, n_scalars=3, window=12),
        task="binary",
        n_outputs=1,
        max_parameters=10**6,
    ).plan
    ours = sum(prod(t.shape) for layer in plan.layers for t in layer.tensors)
    assert ours == model.count_params()


def test_a_causal_mask_of_a_call_is_the_argument_causal():
    attention = next(
        layer for layer in read(json.loads(functional().to_json())) if "heads" in layer
    )
    assert attention["causal"] is True


def test_a_model_that_branches_is_refused():
    rows = keras.Input((12, 3))
    flat = L.Flatten()(rows)
    model = keras.Model(rows, L.Dense(1)(L.Add()([L.Dense(4)(flat), L.Dense(4)(flat)])))
    assert "does not read the layer before it alone" in refusal(json.loads(model.to_json()))


def test_a_chain_in_the_form_of_keras_2_is_read_and_a_branch_is_not():
    first = {"class_name": "InputLayer", "name": "a", "config": {}, "inbound_nodes": []}
    second = {
        "class_name": "Dense", "name": "b", "config": {"units": 2},
        "inbound_nodes": [[["a", 0, 0, {}]]],
    }  # fmt: skip
    third = {**second, "name": "c"}
    assert len(chain_of([first, second], "layers[0]")) == 2
    with pytest.raises(InvalidArchitecture):
        chain_of([first, second, third], "layers[0]")


KERAS_2 = {
    "class_name": "Sequential",
    "config": {
        "name": "sequential",
        "layers": [
            {"class_name": "LSTM", "config": {
                "name": "lstm", "trainable": True, "batch_input_shape": [None, 12, 3],
                "dtype": "float32", "return_sequences": False, "return_state": False,
                "go_backwards": False, "stateful": False, "unroll": False, "time_major": False,
                "units": 7, "activation": "tanh", "recurrent_activation": "sigmoid",
                "use_bias": True, "unit_forget_bias": True, "dropout": 0.0,
                "recurrent_dropout": 0.0, "implementation": 2,
                "kernel_initializer": {"class_name": "VarianceScaling", "config": {
                    "scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None}},
                "recurrent_initializer": {"class_name": "Orthogonal", "config": {
                    "gain": 1.0, "seed": None}, "shared_object_id": 2},
                "bias_initializer": {"class_name": "Zeros", "config": {}}}},
            {"class_name": "Dense", "config": {
                "name": "dense", "trainable": True, "dtype": "float32", "units": 1,
                "activation": "sigmoid", "use_bias": True, "kernel_regularizer": None}},
        ],
    },
    "keras_version": "2.15.0",
    "backend": "tensorflow",
}  # fmt: skip


@pytest.mark.parametrize(
    "raw", [KERAS_2, {**KERAS_2, "config": KERAS_2["config"]["layers"]}, KERAS_2["config"]]
)
def test_what_older_versions_write_is_read_with_the_input_shape_in_the_first_layer(raw):
    assert [layer["type"] for layer in read(raw)] == ["input", "lstm", "dense"]
    assert read(raw)[0]["shape"] == [12, 3]


@pytest.mark.parametrize(
    ("activation", "layers"),
    [
        (L.ReLU(), [("dense", "relu")]),
        (L.LeakyReLU(0.2), [("dense", "leaky_relu")]),
        (L.LeakyReLU(0.3), [("dense", "linear"), ("leaky_relu", None)]),
        (L.Activation("mish"), [("dense", "mish")]),
    ],
)
def test_an_activation_that_is_an_object_is_its_name_or_a_layer_of_its_own(activation, layers):
    found = read([{"type": "Dense", **L.Dense(3, activation=activation).get_config()}])
    assert [(layer["type"], layer.get("activation")) for layer in found] == layers


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"type": "lstm", "units": 4, "stateful": True, "recurrent_dropout": 0.2},
         ("layers[0] lstm: stateful=true, recurrent_dropout=0.2 are not offered,"
         " only stateful=false, recurrent_dropout=0")),
        ({"type": "gru", "units": 4, "reset_after": False},
         "layers[0] gru: reset_after=false is not offered, only reset_after=true"),
        ({"type": "conv1d", "filters": 4, "kernel_size": 3, "use_bias": False},
         "layers[0] conv1d: use_bias=false is not offered, only use_bias=true"),
        ({"type": "dense", "units": 4, "kernel_initializer": "he_normal"},
         ("layers[0] dense: kernel_initializer='he_normal' is not offered,"
         " only kernel_initializer='glorot_uniform'")),
        ({"type": "layer_normalization", "axis": 1},
         "layers[0] layer_normalization: axis=1 is not offered, only axis=-1"),
        ({"type": "max_pooling1d", "padding": "same"},
         "layers[0] max_pooling1d: padding='same' is not offered, only padding='valid'"),
        ({"type": "attention", "heads": 2, "key_dim": 4, "value_dim": 8},
         "layers[0] attention: value_dim=8 is not offered, only value_dim=key_dim"),
        ({"type": "dense", "units": 4, "dtype": "float16"},
         "layers[0] dense: dtype='float16' is not offered, only dtype='float32'"),
        ({"type": "relu", "max_value": 3.0},
         "layers[0] relu: max_value=3.0 is not offered, only max_value=null"),
        ({"type": "dense", "unit": 4, "colour": "red", "use_bais": True},
         ("layers[0] dense: unknown arguments 'unit'; did you mean 'units'?, 'colour',"
         " 'use_bais'; did you mean 'use_bias'?")),
        ({"class_name": "Dense", "config": [1]}, "layers[0] config=[1] is not an object"),
        ({"class_name": "Dense", "config": {"units": 1}, "registered_name": "mine>Dense"},
         "layers[0] type 'mine>Dense' is not offered: code from a caller is never run"),
        ({"class_name": "Sequential", "config": {}}, "layers[0] Sequential has no list of layers"),
        ({"class_name": "Dense", "config": {"units": 2, "activation": {
            "class_name": "function", "config": "my_own", "module": "builtins"}}},
         "layers[0] Dense activation='my_own' is not offered: code from a caller is never run"),
        ({"type": "LSTM", "units": 2, "activation": {
            "class_name": "LeakyReLU", "config": {"negative_slope": 0.3}}},
         ("layers[0] LSTM activation={'negative_slope': 0.3} is not offered:"
         " lstm takes functions by name")),
        ({"type": "TimeDistributed", "layer": {"type": "conv1d"}},
         "layers[0] TimeDistributed around 'conv1d' is not offered"),
        ({"type": "Bidirectional", "layer": {"class_name": "LSTM", "config": {"units": 4}},
          "backward_layer": {"class_name": "LSTM", "config": {"units": 5, "go_backwards": True}}},
         "layers[0] bidirectional backward_layer differs from layer"),
    ],
)  # fmt: skip
def test_what_has_an_effect_that_no_layer_has_here_is_refused_by_name(layer, message):
    assert refusal([layer]) == message


@pytest.mark.parametrize(
    "make", [lambda: L.Dense(3, kernel_initializer="he_normal"),
             lambda: L.Dense(3, kernel_regularizer="l2"),
             lambda: L.Dense(3, bias_constraint="non_neg"),
             lambda: L.LSTM(3, recurrent_initializer=keras.initializers.Orthogonal(gain=2.0)),
             lambda: L.BatchNormalization(center=False),
             lambda: L.GlobalAveragePooling1D(keepdims=True),
             lambda: L.Conv1D(4, 3, groups=2),
             lambda: L.Dense(3, dtype="float16"),
             lambda: L.ReLU(max_value=3),
             lambda: L.ReLU(max_value=6, negative_slope=0.1),
             lambda: L.ELU(alpha=0.5)],
)  # fmt: skip
def test_what_keras_writes_for_another_value_is_refused(make):
    assert " not offered, only " in refusal([as_json(make())])


def test_objects_of_keras_are_named_by_their_class_and_two_outputs_are_refused():
    he = as_json(L.Dense(3, kernel_initializer="he_normal"))
    assert "kernel_initializer=HeNormal() is not offered" in refusal([he])
    two = as_json(L.Bidirectional(L.LSTM(3), merge_mode=None))
    assert "merge_mode=null gives two outputs" in refusal([two])


def test_a_seed_is_read_and_said_to_have_no_effect():
    seeded = keras.initializers.GlorotUniform(seed=7)
    layers = [L.Dense(3, kernel_initializer=seeded), L.Dropout(0.1, seed=5)]
    warnings = parse_layers([as_json(layer) for layer in layers]).warnings
    assert len(warnings) == 2
    assert "the seed of kernel_initializer has no effect" in warnings[0]
    assert warnings[1].startswith("layers[1] dropout: seed has no effect")


@pytest.mark.parametrize(
    ("before", "axis", "fits"),
    [
        ([], [2], True),
        ([], [1], False),
        ([{"type": "LSTM", "units": 4, "return_sequences": True}], [2], True),
        ([{"type": "LSTM", "units": 4}], [1], True),
        ([{"type": "Bidirectional", "layer": {"type": "GRU", "units": 4}}], 1, True),
        ([{"type": "Conv1D", "filters": 4, "kernel_size": 3}], 2, True),
        ([{"type": "Flatten"}, {"type": "Dense", "units": 3}], [1], True),
        ([{"type": "Flatten"}], [2], False),
    ],
)
@pytest.mark.parametrize("norm", ["BatchNormalization", "LayerNormalization"])
def test_the_last_axis_by_its_number_is_the_last_axis(before, axis, fits, norm):
    layers = [{"type": "InputLayer", "batch_shape": [None, 10, 3]}, *before]
    written = [*layers, {"class_name": norm, "config": {"axis": axis}}]
    if fits:
        assert read(written) == read([*layers, {"type": norm}])
    else:
        assert "is not offered, only axis=-1" in refusal(written)


def test_an_axis_without_a_known_shape_is_left_to_the_parser():
    layers = [{"type": "layer_normalization", "axis": [1]}, "odd"]
    assert without_last_axes(layers) == layers


def test_models_that_nest_without_end_are_refused():
    model = {"type": "dense", "units": 1}
    for _ in range(100):
        model = {"class_name": "Sequential", "config": {"layers": [model]}}
    assert refusal([model]) == "layers[0] nests models more than 8 deep"


def test_a_single_layer_is_a_list_of_one():
    assert plain_layers({"type": "dense", "units": 4}) == [{"type": "dense", "units": 4}]


@pytest.mark.parametrize("written", [None, [-1], "-1", -1, -1.0])
def test_a_default_may_be_written_in_any_spelling(written):
    assert FixedArgument("axis", -1).allows(written, {})


@pytest.mark.parametrize("written", [[1, 2], "last", {}, 1, True])
def test_another_value_is_none_of_its_spellings(written):
    assert not FixedArgument("axis", -1).allows(written, {})


@pytest.mark.parametrize(
    "layer",
    [
        {"Type": "dense", "units": 4},
        {"TYPE": "Dense", "units": 4},
        {"type": "TimeDistributed", "layer": {"Type": "dense", "units": 4}},
    ],
)
def test_the_key_of_the_type_may_be_spelled_in_any_case(layer):
    (parsed,) = parse_layers([layer]).layers
    assert (parsed.kind.name, parsed.args["units"]) == ("dense", 4)


def test_a_layer_with_two_types_is_refused_and_not_an_internal_error():
    with pytest.raises(InvalidArchitecture, match="more than one 'type'"):
        parse_layers([{"TYPE": "dense", "Type": "lstm", "units": 4}])
