"""Layer lists as callers write them, and the one sentence each wrong list gets."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.layers import LAYER_TYPES, VOCABULARY
from flow_nexus_neural.networks.parsing import MAX_LAYERS, parse_layers
from tests.unit.networks.strategies import written_layers

SEED_WORKER = [
    {"type": "lstm", "units": 256, "return_sequences": True},
    {"type": "attention", "heads": 8, "key_dim": 64},
    {"type": "dense", "units": 128, "activation": "relu"},
    {"type": "dense", "units": 64, "activation": "tanh"},
    {"type": "dense", "units": 1, "activation": "sigmoid"},
]


def read_one(layer):
    (spec,) = parse_layers([layer]).layers
    return spec


def refusal(*layers):
    with pytest.raises(InvalidArchitecture) as caught:
        parse_layers(list(layers))
    assert caught.value.hint
    assert len(str(caught.value)) < 1000
    return caught.value.message


def test_defaults_are_filled_in_in_the_order_of_the_vocabulary():
    assert list(read_one(SEED_WORKER[0]).to_json().items()) == [
        ("type", "lstm"),
        ("units", 256),
        ("return_sequences", True),
        ("activation", "tanh"),
        ("recurrent_activation", "sigmoid"),
        ("dropout", 0.0),
        ("go_backwards", False),
    ]


@pytest.mark.parametrize("name", ["LSTM", "lstm", "Lstm"])
def test_case_of_a_type_does_not_matter(name):
    assert read_one({"type": name, "units": 3}).type == "lstm"


@pytest.mark.parametrize(
    ("alias", "canonical", "args"),
    [
        ("linear", "dense", {"units": 3}),
        ("output", "dense", {"num_classes": 3}),
        ("hidden", "dense", {"size": 3}),
        ("feed_forward", "dense", {"dim": 3}),
        ("RNN", "simple_rnn", {"units": 3}),
        ("MultiHeadAttention", "attention", {"num_heads": 2, "dim": 4}),
        ("mha", "attention", {"heads": 2, "keyDim": 4}),
        ("self-attention", "attention", {"heads": 2, "key_dim": 4}),
        ("TransformerBlock", "transformer_encoder", {"hidden_dim": 8, "num_layers": 2}),
        ("transformer", "transformer_encoder", {}),
        ("conv", "conv1d", {"filters": 2, "kernel_size": 3}),
        ("Conv1D", "conv1d", {"filters": 2, "kernelSize": 3}),
        ("gcn", "graph_conv", {"units": 2}),
        ("gnn", "graph_conv", {"units": 2}),
        ("maxpool1d", "max_pooling1d", {}),
        ("pooling", "global_average_pooling1d", {}),
        ("global_average", "global_average_pooling1d", {}),
        ("BatchNormalization", "batch_normalization", {}),
        ("bn", "batch_normalization", {}),
        ("LN", "layer_normalization", {}),
        ("relu", "activation", {}),
        ("elu", "activation", {}),
        ("softmax", "activation", {}),
        ("dropout", "dropout", {"p": 0.5}),
    ],
)
def test_every_alias_reads_as_its_canonical_type(alias, canonical, args):
    spec = read_one({"type": alias, **args})
    assert spec.type == canonical
    own = [argument.name for argument in LAYER_TYPES[canonical].arguments]
    assert list(spec.args) == own


def test_the_shorthands_of_activations_keep_their_function():
    read = [read_one({"type": name}).args["activation"] for name in ("relu", "elu", "softmax")]
    assert read == ["relu", "elu", "softmax"]


def test_the_leaky_relu_layer_has_the_slope_of_the_keras_layer_not_of_the_activation():
    assert read_one({"type": "LeakyReLU"}).args == {"negative_slope": 0.3}
    assert read_one({"type": "leaky_relu", "alpha": "0.1"}).args == {"negative_slope": 0.1}


@pytest.mark.parametrize("written", ["256", 256, 256.0, " 256 "])
def test_numbers_may_come_as_text(written):
    units = read_one({"type": "dense", "units": written}).args["units"]
    assert units == 256
    assert isinstance(units, int)


@pytest.mark.parametrize(("written", "read"), [("true", True), ("False", False), (1, True)])
def test_booleans_may_come_as_text(written, read):
    args = read_one({"type": "lstm", "units": 2, "returnSequences": written}).args
    assert args["return_sequences"] is read


@pytest.mark.parametrize("written", [None, "linear", "none", "Linear"])
def test_no_activation_is_the_identity(written):
    assert read_one({"type": "lstm", "units": 2, "activation": written}).args["activation"] == (
        "linear"
    )


def test_null_for_an_argument_with_a_default_is_the_default():
    args = read_one({"type": "conv1d", "filters": 2, "kernel_size": 3, "strides": None}).args
    assert args["strides"] == 1


def test_a_pooling_window_moves_by_its_own_size_unless_told():
    assert read_one({"type": "max_pooling1d", "pool_size": 3}).args["strides"] == 3
    assert read_one({"type": "max_pooling1d", "pool_size": 3, "strides": 1}).args["strides"] == 1


def test_swish_is_silu():
    assert read_one({"type": "dense", "units": 2, "activation": "Swish"}).args["activation"] == (
        "silu"
    )


def test_a_bidirectional_layer_takes_its_inner_layer_as_object_or_as_text():
    inner = {"type": "LSTM", "units": 4, "return_sequences": True}
    as_object = read_one({"type": "bidirectional", "layer": inner})
    as_text = read_one({"type": "bidirectional", "layer": json.dumps(inner)})
    assert as_object == as_text
    assert as_object.args["layer"]["type"] == "lstm"
    assert as_object.args["layer"]["recurrent_activation"] == "sigmoid"
    assert as_object.args["merge_mode"] == "concat"


def test_names_and_frozen_layers_survive_and_defaults_are_not_written():
    spec = read_one({"type": "dense", "units": 2, "name": " first ", "trainable": "false"})
    assert spec.name == "first"
    assert not spec.trainable
    assert spec.to_json()["name"] == "first"
    assert spec.to_json()["trainable"] is False
    assert "trainable" not in read_one({"type": "dense", "units": 2}).to_json()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{"type": "dropout", "rate": 0.1}, {"type": "attentoin"}],
         "layers[1] type 'attentoin' is unknown; did you mean 'attention'?"),
        ([{"type": "lstm"}], "layers[0] lstm: 'units' is missing (int 1-2048)"),
        ([{"type": "dense", "unit": 4}],
         "layers[0] dense: unknown argument 'unit'; did you mean 'units'?"),
        ([{"type": "attention", "heads": 0, "key_dim": 4}],
         "layers[0] attention heads=0 is outside 1-64"),
        ([{"type": "attention", "heads": 2, "key_dim": 513}],
         "layers[0] attention key_dim=513 is outside 1-512"),
        ([{"type": "dense", "units": 2049}], "layers[0] dense units=2049 is outside 1-2048"),
        ([{"type": "conv1d", "filters": 2, "kernel_size": 65}],
         "layers[0] conv1d kernel_size=65 is outside 1-64"),
        ([{"type": "transformer", "depth": 9}],
         "layers[0] transformer_encoder depth=9 is outside 1-8"),
        ([{"type": "dropout", "rate": 1}], "layers[0] dropout rate=1 is outside 0-1 (1 excluded)"),
        ([{"type": "dense", "units": float("nan")}],
         "layers[0] dense units=NaN is not a whole number (int 1-2048)"),
        ([{"type": "dropout", "rate": float("inf")}],
         "layers[0] dropout rate=Infinity is not a finite number (number 0-1 (1 excluded))"),
        ([{"type": "dense", "units": {"n": 4}}],
         "layers[0] dense units={'n': 4} is not a whole number (int 1-2048)"),
        ([{"type": "dense", "units": True}],
         "layers[0] dense units=true is not a whole number (int 1-2048)"),
        ([{"type": "dense", "units": 1.5}],
         "layers[0] dense units=1.5 is not a whole number (int 1-2048)"),
        ([{"type": "dense", "units": None}], "layers[0] dense: 'units' is missing (int 1-2048)"),
        ([{"type": "dense", "units": 4, "activation": "rleu"}],
         "layers[0] dense activation='rleu' is unknown; did you mean 'relu'?"),
        ([{"type": "dense", "units": 4, "dim": 5}],
         "layers[0] dense: 'units' is given twice, as 4 and 5"),
        ([{"type": "lstm", "units": 4, "return_sequences": "maybe"}],
         "layers[0] lstm return_sequences='maybe' is not true or false"),
        (["dense"], "layers[0] is 'dense', not an object"),
        ([{"units": 4}], "layers[0] has no 'type'"),
        ([{"type": "dense", "Type": "lstm", "units": 4}], "layers[0] has more than one 'type'"),
        ([{"type": 4}], "layers[0] type=4 is not a name"),
        ([{"type": "relu", "activation": "tanh"}],
         "layers[0] relu: unknown argument 'activation'"),
        ([{"type": "bidirectional", "layer": {"type": "dense", "units": 4}}],
         "layers[0] bidirectional layer type 'dense' cannot run both ways"),
        ([{"type": "bidirectional", "layer": {"type": "gru"}}],
         "layers[0] bidirectional layer gru: 'units' is missing (int 1-2048)"),
        ([{"type": "bidirectional", "layer": {"type": "gru", "units": 2, "go_backwards": True}}],
         "layers[0] bidirectional layer gru go_backwards=true contradicts bidirectional"),
        ([{"type": "bidirectional", "layer": {"type": "gru", "units": 2, "trainable": False}}],
         "layers[0] bidirectional layer gru: 'trainable' belongs to the outer layer"),
        ([{"type": "dense", "units": 2, "name": "a"}, {"type": "dense", "units": 2, "name": "a"}],
         "layers[1] dense name='a' is the name of layers[0] too"),
        ([{"type": "dense", "units": 2, "name": "x" * 65}],
         f"layers[0] dense name='{'x' * 38}… is not a printable text of 1-64 characters"),
    ],
)  # fmt: skip
def test_a_wrong_layer_gets_one_sentence_that_names_it(layers, message):
    assert refusal(*layers) == message


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lambda", "code from a caller is never run"),
        ("Lambda", "code from a caller is never run"),
        ("embedding", "data is numeric only"),
        ("Conv2D", "rows have at most one time axis"),
        ("max_pooling2d", "rows have at most one time axis"),
        ("gan", "networks are trained on a target"),
        ("autoencoder", "networks are trained on a target"),
        ("normalization", "the data is scaled"),
    ],
)
def test_known_ideas_that_are_not_offered_are_refused_with_their_reason(name, reason):
    assert f"layers[0] type '{name}' is not offered: {reason}" in refusal({"type": name})


def test_an_input_shape_on_another_layer_is_explained():
    with pytest.raises(InvalidArchitecture, match="unknown argument 'input_shape'") as caught:
        parse_layers([{"type": "dense", "units": 4, "input_shape": [53]}])
    assert "the input shape comes from the data" in caught.value.hint


def test_an_empty_list_and_one_of_65_layers_are_refused():
    assert refusal() == "layers is an empty list"
    layer = {"type": "dense", "units": 1}
    assert refusal(*[layer] * 65) == "layers has 65 entries; the limit is 64"
    assert len(parse_layers([layer] * MAX_LAYERS).layers) == 64


def test_the_hint_lists_the_arguments_with_their_other_names():
    with pytest.raises(InvalidArchitecture) as caught:
        parse_layers([{"type": "attention", "heads": 0, "key_dim": 4}])
    assert "heads (num_heads), key_dim (dim), dropout?, causal?" in caught.value.hint


def test_dropout_that_does_nothing_is_warned_about():
    assert parse_layers([{"type": "dropout", "rate": 0}]).warnings == [
        "layers[0] dropout with rate 0 does nothing"
    ]
    assert parse_layers(SEED_WORKER).warnings == []


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.sampled_from(list(VOCABULARY.values())).flatmap(written_layers))
def test_reading_what_was_written_gives_the_same_layer(layer):
    spec = read_one(layer)
    assert read_one(spec.to_json()) == spec
    json.dumps(spec.to_json(), allow_nan=False)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
type_names = st.sampled_from(list(VOCABULARY)) | st.text(max_size=10)
argument_names = st.sampled_from(
    sorted({name for kind in VOCABULARY.values() for arg in kind.accepted for name in arg.names})
) | st.text(max_size=8)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    st.lists(
        st.builds(
            lambda name, args: {**args, "type": name},
            type_names,
            st.dictionaries(argument_names, json_values, max_size=4),
        )
        | json_values,
        max_size=4,
    )
)
def test_any_json_is_either_read_or_refused_by_index(raw):
    refused = None
    try:
        parsed = parse_layers(raw)
    except InvalidArchitecture as error:
        refused = error
    if refused is None:
        assert len(parsed.layers) == len(raw)
    else:
        assert refused.message.startswith("layers")
        assert len(str(refused)) < 1000
