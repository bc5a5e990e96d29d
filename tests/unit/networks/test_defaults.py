"""The networks of nodes deployed without layers."""

import pytest

from flow_nexus_neural.errors import UnsupportedCombination
from flow_nexus_neural.networks.defaults import default_layers
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import check_structure, plan_network
from flow_nexus_neural.protocol.plan import InputSpec

CRYPTO = InputSpec(vector_length=50, n_scalars=3)


def plan_of(raw, task="binary", n_outputs=1):
    layers = parse_layers(raw).layers
    check_structure(layers)
    return plan_network(
        layers, input=CRYPTO, task=task, n_outputs=n_outputs, max_parameters=2_500_000
    ).plan


@pytest.mark.parametrize(
    ("architecture", "base", "large", "xl"),
    [
        ("transformer", 69_377, 406_401, 2_142_721),
        ("cnn", 8_993, 100_545, 594_561),
        ("rnn", 19_777, 208_001, 1_350_913),
        ("gnn", 6_593, 41_985, 231_681),
    ],
)
def test_default_workers_have_their_documented_sizes(architecture, base, large, xl):
    counts = [
        plan_of(default_layers(architecture, model, "worker", 0)).n_params
        for model in ("base", "large", "xl")
    ]
    assert counts == [base, large, xl]


@pytest.mark.parametrize(
    ("model", "parameters"), [("base", 15_233), ("large", 46_849), ("xl", 192_001)]
)
def test_default_parameter_servers_have_their_documented_sizes(model, parameters):
    raw = default_layers("cnn", model, "parameter_server", 0)
    assert plan_of(raw).n_params == parameters


FLAT = InputSpec(vector_length=0, n_scalars=30)
WINDOW = InputSpec(vector_length=0, n_scalars=3, window=8)


@pytest.mark.parametrize("architecture", ["transformer", "cnn", "rnn", "gnn", "hybrid"])
def test_rows_without_a_sequence_get_dense_layers_whatever_the_architecture(architecture):
    for model, budget in (("base", 100_000), ("large", 500_000), ("xl", 2_500_000)):
        raw = default_layers(architecture, model, "worker", 1, FLAT)
        assert {layer["type"] for layer in raw} == {"dense", "dropout"}
        assert plan_of(raw).n_params <= budget
        for rows in (WINDOW, CRYPTO, None):
            assert default_layers(architecture, model, "worker", 1, rows) != raw


def test_a_small_transformer_is_narrow_where_a_step_has_few_channels():
    many = InputSpec(vector_length=0, n_scalars=8, window=8)
    assert default_layers("transformer", "base", "worker", 0, many)[0]["units"] == 64
    narrow = default_layers("transformer", "base", "worker", 0, CRYPTO)
    kinds = ["lstm", "positional_encoding", "transformer_encoder", "dropout"]
    assert [layer["type"] for layer in narrow] == kinds
    assert (narrow[0]["units"], plan_of(narrow).n_params) == (32, 13_313)
    for architecture, model in (("transformer", "large"), ("rnn", "base"), ("hybrid", "base")):
        known = default_layers(architecture, model, "worker", 0, CRYPTO)
        assert known == default_layers(architecture, model, "worker", 0)


def test_the_other_roles_do_not_depend_on_the_rows():
    for role in ("parameter_server", "aggregator", "validator"):
        assert default_layers("cnn", "base", role, 0, FLAT) == default_layers(
            "cnn", "base", role, 0
        )


def test_workers_of_a_hybrid_cluster_take_the_families_in_turn():
    families = [default_layers("hybrid", "base", "worker", number) for number in range(4)]
    expected = ("rnn", "cnn", "transformer", "rnn")
    assert families == [default_layers(name, "base", "worker", 0) for name in expected]


@pytest.mark.parametrize("role", ["worker", "parameter_server", "aggregator"])
@pytest.mark.parametrize("architecture", ["transformer", "cnn", "rnn", "gnn", "hybrid"])
def test_every_default_leaves_its_head_to_the_task_and_drops_out_before_it(role, architecture):
    for model in ("base", "large", "xl"):
        raw = default_layers(architecture, model, role, 0)
        plan = plan_of(raw, task="multiclass", n_outputs=5)
        assert plan.implied_head
        assert plan.layers[-1].out_shape == (5,)
        assert plan.layers[-2].type == "dropout"
        assert plan.layers[-2].args["rate"] == 0.1


def test_the_validator_gives_one_probability():
    plan = plan_of(default_layers("cnn", "base", "validator", 0))
    assert not plan.implied_head
    assert [layer.out_shape for layer in plan.layers] == [(64,), (32,), (32,), (1,)]


def test_the_aggregator_normalises_over_the_batch():
    types = [layer["type"] for layer in default_layers("cnn", "base", "aggregator", 0)]
    assert types == ["dense", "batch_normalization", "dense", "dropout"]


def test_a_custom_model_needs_layers():
    with pytest.raises(UnsupportedCombination, match="custom"):
        default_layers("cnn", "custom", "worker", 0)


def test_a_caller_may_change_what_it_got():
    first = default_layers("cnn", "base", "worker", 0)
    first[0]["filters"] = 1
    assert default_layers("cnn", "base", "worker", 0)[0]["filters"] == 32


def test_an_unknown_family_is_an_error_of_ours():
    with pytest.raises(ValueError, match="no default network"):
        default_layers("perceptron", "base", "worker", 0)
