"""What clients of the data that train by themselves exclude; the rest is in tests/sim/test_each_client.py."""

import pytest

from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.training.client_options import (
    check_each_client,
    check_one_network,
    merged_warning,
)
from flow_nexus_neural.errors import UnsupportedCombination
from tests.unit.engine.training.by_hand import group


def request(**more):
    return TrainRequest(cluster_id="c", dataset="d", federated=True, **more)


@pytest.mark.parametrize("partition", ["each_client", " Each_Client "])
def test_a_rule_of_votes_is_refused(partition):
    with pytest.raises(UnsupportedCombination, match="a lying one makes the updates of all"):
        check_each_client(request(aggregation_method="krum"), partition, "raft")


@pytest.mark.parametrize("method", ["fedavg", "fedprox", "fedadam"])
def test_rules_that_go_on_from_a_mean_are_taken(method):
    check_each_client(request(aggregation_method=method), "each_client", "proof-of-learning")


def test_another_partition_excludes_nothing():
    check_each_client(request(aggregation_method="krum"), "client", "byzantine")


def test_workers_of_two_networks_cannot_take_turns():
    check_one_network({"c0": group(["worker-0"])})
    with pytest.raises(UnsupportedCombination, match="2 kinds"):
        check_one_network({"c0": group(["worker-0"]), "c1": group(["worker-1"], key="c1")})


def test_merged_clients_are_told_of_only_where_there_are_more_than_workers():
    assert merged_warning(["a", "b", "c"], 2, "client")
    assert not merged_warning(["a", "b"], 2, "client")
    assert not merged_warning(["a", "b", "c"], 2, "each_client")
