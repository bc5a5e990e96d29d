"""Options of federated methods: in force, refused where they do nothing, refused beside what they exclude."""

import pytest

from flow_nexus_neural.coordination.consensus.federated_methods import METHODS, OPTIONS
from flow_nexus_neural.coordination.consensus.registry import AVERAGING, find_policy
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.training.arguments import check_arguments
from flow_nexus_neural.engine.training.federated_options import (
    check_method,
    effective_options,
    rate_warnings,
)
from flow_nexus_neural.errors import InvalidArguments
from tests.unit.engine.training.test_strategies import config

ROBUST = ("auto", "krum", "coordinate_median")


def request(method=None, **more):
    given = {"optimizer": "sgd"} | more
    return TrainRequest(
        cluster_id="c", dataset="d", federated=True, aggregation_method=method, **given
    )


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_defaults_are_in_force_unless_something_is_given(method):
    assert effective_options(method, request(method.name)) == method.options
    given = dict.fromkeys(method.options, 0.25)
    assert effective_options(method, request(method.name, **given)) == given
    check_method(method, request(method.name, **given), "raft")


def test_the_defaults_are_those_of_the_design():
    found = {method.name: dict(method.options) for method in METHODS}
    adaptive = {"server_learning_rate": 0.01, "server_momentum": 0.9}
    assert found == {
        "fedprox": {"proximal_mu": 0.01},
        "fedavgm": {"server_learning_rate": 1.0, "server_momentum": 0.9},
        **dict.fromkeys(("fedadam", "fedyogi", "fedadagrad"), adaptive),
        "scaffold": {"server_learning_rate": 1.0},
    }


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_of_another_method_is_refused_with_those_that_have_it(name):
    takers = {method.name for method in METHODS if name in method.options}
    others = [method for method in METHODS if name not in method.options]
    for policy in (AVERAGING, *others, *map(find_policy, ROBUST)):
        with pytest.raises(InvalidArguments, match=f"{name} does nothing under {policy.name}") as e:
            check_method(policy, request(policy.name, **{name: 0.5}), "raft")
        assert all(taker in e.value.hint for taker in takers)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_without_federated_training_is_refused(name):
    plain = TrainRequest(cluster_id="c", dataset="d", **{name: 0.5})
    with pytest.raises(InvalidArguments, match=f"{name} belongs to federated"):
        check_arguments(plain, "raft")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_method_and_lying_workers_exclude_each_other(method):
    asked = request(method.name)
    check_arguments(asked, "raft")
    with pytest.raises(InvalidArguments, match="consensus is byzantine") as caught:
        check_arguments(asked, "byzantine")
    assert "auto" in caught.value.hint
    with pytest.raises(InvalidArguments, match="byzantine_f asks"):
        check_arguments(request(method.name, byzantine_f=1), "raft")
    check_arguments(request(method.name, byzantine_f=0), "raft")


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "adagrad"])
def test_scaffold_needs_plain_gradient_steps(optimizer):
    with pytest.raises(InvalidArguments, match=f"optimizer is {optimizer}") as caught:
        check_arguments(request("scaffold", optimizer=optimizer), "raft")
    assert "sgd" in caught.value.hint
    check_arguments(request("scaffold"), "raft")
    check_arguments(request("fedadam", optimizer=optimizer), "raft")


def test_options_are_read_back_from_a_configuration():
    assert config().method_options == {}
    assert config(proximal_mu=0.0).method_options == {"proximal_mu": 0.0}
    found = config(server_learning_rate=0.1, server_momentum=0.5)
    assert found.method_options == {"server_learning_rate": 0.1, "server_momentum": 0.5}
    assert set(config(**dict.fromkeys(OPTIONS, 0.5)).method_options) == set(OPTIONS)


def test_a_proximal_term_that_limits_the_steps_is_named():
    assert rate_warnings(config()) == []
    assert rate_warnings(config(proximal_mu=20.0, learning_rate=0.05)) == []
    (warning,) = rate_warnings(config(proximal_mu=40.0, learning_rate=0.05))
    assert "0.025" in warning
