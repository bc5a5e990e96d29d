"""Which rule a training gets, and which combinations with numbers of workers are refused before it starts."""

import pytest

from flow_nexus_neural.coordination.consensus.gossip import GOSSIP, PUSH_SUM
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.training.aggregation_rule import (
    aggregation_rule,
    asks_all,
    find_rule,
)
from flow_nexus_neural.errors import InvalidArguments, NotAvailable, UnsupportedCombination
from tests.unit.engine.training.test_arguments import config


def rule(n, consensus="proof-of-learning", *, trusted=False, **more):
    asked = TrainRequest(cluster_id="c", dataset="d", **more)
    found = aggregation_rule(asked, consensus, n, trusted=trusted)
    return found.name, found.f, found.exact


def test_without_a_name_the_consensus_decides():
    assert rule(11) == ("federated_averaging", 0, False)
    assert rule(11, "byzantine") == ("auto", 3, False)
    assert rule(2, "byzantine") == ("auto", 0, False)
    assert rule(11, "byzantine", aggregation_method="fedavg") == ("federated_averaging", 0, False)
    assert rule(11, "raft", aggregation_method="nnm+krum") == ("nnm+krum", 3, False)


def test_rules_are_selected_by_trusted_rows_where_there_are_some_and_nobody_names_a_rule():
    assert rule(11, "byzantine", trusted=True) == ("validated", 3, False)
    assert rule(2, "byzantine", trusted=True) == ("validated", 0, False)
    assert rule(11, "byzantine", trusted=True, byzantine_f=2) == ("validated", 2, True)
    assert rule(11, "byzantine", trusted=True, aggregation_method="auto") == ("auto", 3, False)
    assert rule(11, "raft", trusted=True) == ("federated_averaging", 0, False)


def test_a_given_number_is_taken():
    assert rule(11, aggregation_method="krum", byzantine_f=2) == ("krum", 2, True)
    assert rule(1, aggregation_method="krum", byzantine_f=0) == ("krum", 0, True)
    assert rule(5, byzantine_f=0) == ("federated_averaging", 0, True)


@pytest.mark.parametrize(
    ("n", "more", "words", "way_out"),
    [
        (11, {"byzantine_f": 1}, "federated_averaging tolerates no lying worker", "auto"),
        (
            4,
            {"aggregation_method": "krum", "byzantine_f": 2},
            "outvote 2 lying ones, 5 can",
            "to 1 at most",
        ),
        (10, {"aggregation_method": "bulyan", "byzantine_f": 2}, "11 can", "to 1 at most"),
        (
            6,
            {"aggregation_method": "bulyan"},
            "from 7 workers on, and a round has 6",
            "byzantine_f to 0",
        ),
        (2, {"aggregation_method": "median"}, "from 3 workers on", "deploy more"),
        (24, {"aggregation_method": "mda"}, "346104 subsets", "to 4 at most"),
    ],
)
def test_a_rule_that_cannot_keep_its_number_is_refused_with_a_way_out(n, more, words, way_out):
    with pytest.raises(InvalidArguments, match=words) as caught:
        rule(n, **more)
    assert way_out in caught.value.hint


@pytest.mark.parametrize("method", ["bucketing"])
def test_what_this_version_lacks_is_not_called_unknown(method):
    with pytest.raises(NotAvailable, match=method):
        find_rule(method, "byzantine")
    with pytest.raises(InvalidArguments, match="unknown") as caught:
        find_rule("nonsense", "byzantine")
    assert "'caf' (exact_caf, covariance_filter)" in caught.value.hint


@pytest.mark.parametrize(
    ("method", "consensus", "why"),
    [
        ("krum", "gossip", "neighbours only"),
        ("nnm+caf", "gossip", "neighbours only"),
        ("push_sum", "raft", "belongs to consensus gossip"),
        ("gossip", "byzantine", "belongs to consensus gossip"),
    ],
)
def test_a_rule_that_contradicts_the_consensus_is_refused_with_a_way_out(method, consensus, why):
    with pytest.raises(UnsupportedCombination, match=why) as caught:
        find_rule(method, consensus)
    assert "leave aggregation_method out" in caught.value.hint


def test_under_gossip_the_mean_is_what_neighbours_mix_to_and_all_train():
    for method in (None, "fedavg", "federated_averaging", "gossip", "Metropolis-Hastings"):
        assert find_rule(method, "gossip") is GOSSIP
    assert find_rule("push-sum", "gossip") is PUSH_SUM
    assert asks_all(TrainRequest(cluster_id="c", dataset="d"), "gossip")
    liars = TrainRequest(cluster_id="c", dataset="d", byzantine_f=1)
    with pytest.raises(InvalidArguments, match="gossip tolerates no lying worker") as caught:
        aggregation_rule(liars, "gossip", 5)
    assert "consensus byzantine" in caught.value.hint


def test_a_robust_rule_asks_every_worker_and_counts_the_votes_of_a_round():
    robust = {"federated": True, "aggregation_method": "trimmed_mean"}
    assert not asks_all(TrainRequest(cluster_id="c", dataset="d"), "raft")
    assert asks_all(TrainRequest(cluster_id="c", dataset="d"), "byzantine")
    assert config(eligible=11, federated=True).clients_per_round == 5
    found = config(eligible=11, **robust)
    assert (found.clients_per_round, found.byzantine_f) == (11, 3)
    assert "byzantine_f" in found.chosen
    found = config(eligible=11, clients_per_round=5, byzantine_f=2, **robust)
    assert (found.clients_per_round, found.byzantine_f) == (5, 2)
    assert "byzantine_f" not in found.chosen
    with pytest.raises(InvalidArguments, match="5 updates cannot outvote 3"):
        config(eligible=11, clients_per_round=5, byzantine_f=3, **robust)


def test_the_list_of_an_unknown_method_has_those_that_the_consensus_takes():
    with pytest.raises(InvalidArguments) as of_gossip:
        find_rule("best", "gossip")
    assert "'push_sum'" in str(of_gossip.value)
    assert "krum" not in str(of_gossip.value)
    with pytest.raises(InvalidArguments) as of_raft:
        find_rule("best", "raft")
    assert "push_sum" not in str(of_raft.value)
    assert "'krum'" in str(of_raft.value)
