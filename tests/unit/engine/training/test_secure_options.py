"""What secure aggregation excludes, each with its reason."""

from types import SimpleNamespace

import pytest

from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.training.arguments import check_arguments
from flow_nexus_neural.engine.training.secure_options import check_secure, check_secure_networks
from flow_nexus_neural.errors import InvalidArguments, UnsupportedCombination
from tests.unit.engine.building import network
from tests.unit.engine.training.test_strategies import config


def request(**more):
    values = {"federated": True, "secure_aggregation": True} | more
    return TrainRequest(cluster_id="c", dataset="d", **values)


def test_what_goes_on_from_a_mean_can_be_secure():
    for method in (None, "fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad"):
        check_arguments(request(aggregation_method=method), "raft")


@pytest.mark.parametrize(
    ("consensus", "more", "said"),
    [
        ("proof-of-learning", {}, "proves each of them"),
        ("raft", {"aggregation_method": "krum"}, "krum works on single ones"),
        ("raft", {"aggregation_method": "scaffold", "optimizer": "sgd"}, "scaffold works on"),
        ("byzantine", {}, "auto works on single ones"),
        ("gossip", {}, "works on single ones"),
        (
            "raft",
            {"privacy": {"mode": "central_dp", "noise_multiplier": 1, "adaptive": True}},
            "adaptive clipping counts",
        ),
    ],
)
def test_what_needs_single_updates_is_refused_with_the_reason(consensus, more, said):
    with pytest.raises(UnsupportedCombination, match=said) as caught:
        check_secure(request(**more), consensus)
    assert caught.value.hint


def test_it_belongs_to_federated_training():
    with pytest.raises(InvalidArguments, match="belongs to federated"):
        check_secure(request(federated=False), "raft")
    check_secure(request(federated=False, secure_aggregation=False), "raft")


@pytest.mark.parametrize(("clients", "eligible"), [(2, 4), (4, 2)])
def test_fewer_than_three_clients_are_refused(clients, eligible):
    networks = [network(slots=("worker-0", "worker-1", "worker-2", "worker-3"))]
    secure = config(secure_aggregation=True, clients_per_round=clients)
    names = {f"worker-{k}" for k in range(eligible)}
    with pytest.raises(InvalidArguments, match="at least 3 workers"):
        check_secure_networks(secure, networks, names)
    check_secure_networks(secure.model_copy(update={"secure_aggregation": False}), networks, names)


def test_running_statistics_are_refused():
    plan = SimpleNamespace(n_buffers=4)
    slots = ("worker-0", "worker-1", "worker-2")
    secure = config(secure_aggregation=True, clients_per_round=3)
    networks = [SimpleNamespace(plan=plan, slots=slots)]
    with pytest.raises(UnsupportedCombination, match="batch_normalization") as caught:
        check_secure_networks(secure, networks, set(slots))
    assert "secure_aggregation" in caught.value.hint
