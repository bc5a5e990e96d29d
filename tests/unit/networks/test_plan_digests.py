"""Plans keep their digests: stored clusters are recognised by them; a change would orphan their weights."""

import pytest

from flow_nexus_neural.networks.defaults import default_layers
from flow_nexus_neural.protocol.digest import json_digest
from tests.unit.networks.building import CRYPTO, FLAT_16, SEED, WINDOW, plan_of

EVERY_SEQUENCE_LAYER = [
    {"type": "input", "shape": [20, 16]},
    {"type": "conv1d", "filters": 6, "kernel_size": 3, "padding": "same", "strides": 2},
    {"type": "batch_normalization", "trainable": False},
    {"type": "spatial_dropout1d", "rate": 0.1},
    {"type": "positional_encoding"},
    {"type": "transformer_encoder", "heads": 2, "depth": 2},
    {"type": "lstm", "units": 4, "return_sequences": True},
    {"type": "gru", "units": 4, "return_sequences": True, "go_backwards": True},
    {"type": "simple_rnn", "units": 4, "return_sequences": True, "activation": "relu"},
    {
        "type": "bidirectional",
        "layer": {"type": "lstm", "units": 3, "return_sequences": True},
        "merge_mode": "ave",
    },
    {"type": "graph_conv", "units": 4},
    {"type": "max_pooling1d"},
    {"type": "average_pooling1d", "pool_size": 2, "strides": 1},
    {"type": "layer_normalization"},
    {"type": "attention", "heads": 2, "key_dim": 3, "causal": True},
]
ENDINGS = {
    "last step": [{"type": "dense", "units": 3, "use_bias": False}],
    "average": [{"type": "global_average_pooling1d"}],
    "maximum": [{"type": "global_max_pooling1d"}],
    "flatten": [{"type": "flatten"}, {"type": "leaky_relu"}],
    "both ways": [{"type": "bidirectional", "layer": {"type": "gru", "units": 2}}],
}
FLAT = [
    {"type": "dense", "units": 5, "activation": "gelu"},
    {"type": "batch_norm"},
    {"type": "layer_norm"},
    {"type": "gaussian_noise", "stddev": 0.1},
    {"type": "dropout", "rate": 0.2},
    {"type": "leaky_relu"},
    {"type": "relu"},
    {"type": "activation", "activation": "softsign"},
    {"type": "dense", "units": 1, "activation": "sigmoid"},
]

DIGESTS = {
    "example worker": "255d10fd566f5d84882e615d39bb6c5663fdc064239259c3bbfc919ef5fc3f6d",
    "example parameter_server": "f8ecfb45de70ba0642bf08726cac787024918127abecd9364e71ed0f2bbee1bf",
    "example aggregator": "fa3a063dca26f8273e2764c949d37f16ac51bf93c064acda339a3511c166558f",
    "example validator": "9ade2ffa3552e2645e605faa9ca7274fbeedbc922329b610d0c89a308127333c",
    "default transformer": "b355d76d50235b8d6c50e28e21384553ab0864a678aa676fccbd7f56fde9107a",
    "default cnn": "5d9ba38892dd34b900a84d4da043b71a57e7e91664b6b7ba6954edf606eeb846",
    "default rnn": "a0da12da60391527398db81d808c4a6002c3163470d65eff69d094977815ad84",
    "default gnn": "8da2d1acd9f23e9b009da9ae8dd4097e55650464597cf9dcd505f57a2c825412",
    "ending last step": "76a2df6ad67fe55a461343a67cb30755ac805e5f6129c96415a48c20910fafcb",
    "ending average": "e4915f5548146eb820e8670d7b344b734023f5c2f97e076176635a3ab904c473",
    "ending maximum": "c18b9b09e7e6cdbf645ce79068d5aebdb98f379195f03906aa1c6714166e58b4",
    "ending flatten": "5bb265bc0ba0c785da573e14fc27729cfe5881a767536b6b94781619e2abe173",
    "ending both ways": "64ef117dd4369d48564e0cbca7dff74cd96f33091caeb4c40e6748bbdd4da1d3",
    "flat": "fdce7eb97b14acb5a15be8c57c127632cb1ca4353eff1f710a667f768c1c6109",
    "flat regression": "a3021917789204e712aacfe99d59917fa206ab89dbf0ecc7d62980949130d746",
}


def digest_of(plan):
    return json_digest(plan.model_dump(mode="json"))


def plans():
    for role, layers in SEED.items():
        yield f"example {role}", plan_of(layers)
    for family in ("transformer", "cnn", "rnn", "gnn"):
        layers = default_layers(family, "base", "worker", 0)
        yield f"default {family}", plan_of(layers, CRYPTO, task="multiclass", n_outputs=3)
    for ending, layers in ENDINGS.items():
        yield f"ending {ending}", plan_of([*EVERY_SEQUENCE_LAYER, *layers], WINDOW)
    yield "flat", plan_of(FLAT, FLAT_16)
    yield "flat regression", plan_of(FLAT, FLAT_16, task="regression")


PLANS = dict(plans())


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_keeps_its_digest(name):
    assert digest_of(PLANS[name]) == DIGESTS[name]


def test_the_pinned_plans_hold_every_layer_type_that_a_plan_can_hold():
    held = {layer.type for plan in PLANS.values() for layer in plan.layers}
    assert held == {
        "activation",
        "attention",
        "average_pooling1d",
        "batch_normalization",
        "bidirectional",
        "conv1d",
        "dense",
        "dropout",
        "flatten",
        "gaussian_noise",
        "global_average_pooling1d",
        "global_max_pooling1d",
        "graph_conv",
        "gru",
        "layer_normalization",
        "leaky_relu",
        "lstm",
        "max_pooling1d",
        "positional_encoding",
        "simple_rnn",
        "spatial_dropout1d",
        "transformer_encoder",
    }
