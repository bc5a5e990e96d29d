import pytest

from flow_nexus_neural.coordination.consensus import registry
from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.training_defaults import PATIENCE, Scale
from flow_nexus_neural.coordination.training_strategy import Strategy
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.training.arguments import (
    Circumstances,
    check_arguments,
    effective_config,
    resolve_partition,
    sync_steps,
)
from flow_nexus_neural.engine.training.decision import Decision
from flow_nexus_neural.errors import InvalidArguments, NotAvailable, NoWorkers


def request(**more):
    return TrainRequest(cluster_id="c", dataset="d", **more)


def config(eligible=6, shard=320, has_validation=True, strategy="federated", **more):
    asked = request(**more)
    scale = Scale(
        shard_rows=shard,
        has_validation=has_validation,
        has_sequence=False,
        parameters=1_000,
        optimizer=asked.optimizer,
    )
    found = Circumstances(
        eligible=eligible,
        partition="iid",
        seed=9,
        scale=scale,
        strategy=Strategy(strategy, "a reason"),
        refit=False,
        decision=Decision(),
    )
    return effective_config(asked, found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rounds", 3),
        ("local_epochs", 2),
        ("clients_per_round", 2),
        ("min_nodes_per_round", 1),
        ("aggregation_method", "fedavg"),
    ],
)
def test_what_belongs_to_federated_training_is_refused_without_it(name, value):
    with pytest.raises(InvalidArguments, match=f"{name} belongs to federated"):
        check_arguments(request(**{name: value}))
    check_arguments(request(federated=True, **{name: value}))


@pytest.mark.parametrize(
    ("more", "failure"),
    [
        ({"clients_per_round": 2, "min_nodes_per_round": 3}, InvalidArguments),
        ({"aggregation_method": "bucketing"}, NotAvailable),
        ({"aggregation_method": "scaffold"}, InvalidArguments),
        ({"aggregation_method": "average"}, InvalidArguments),
        ({"partition": "random"}, InvalidArguments),
        ({"partition": "iid:2"}, InvalidArguments),
        ({"partition": "dirichlet:0"}, InvalidArguments),
        ({"partition": "dirichlet:nan"}, InvalidArguments),
        ({"partition": "dirichlet:1001"}, InvalidArguments),
        ({"partition": "dirichlet:x"}, InvalidArguments),
        ({"partition": "dirichlet:"}, InvalidArguments),
        ({"partition": "shards:"}, InvalidArguments),
    ],
)
def test_arguments_that_mean_nothing_are_refused_before_data_are_read(more, failure):
    with pytest.raises(failure) as caught:
        check_arguments(request(federated=True, **more))
    assert caught.value.hint


@pytest.mark.parametrize("method", ["federated_averaging", "FedAvg", "federated-averaging"])
def test_spellings_of_the_average_are_accepted(method):
    check_arguments(request(federated=True, aggregation_method=method))
    found = config(federated=True, aggregation_method=method)
    assert found.aggregation_method == "federated_averaging"


def test_a_registered_rule_is_accepted_under_each_of_its_names_and_named_by_its_own(monkeypatch):
    class Toy(FederatedAveraging):
        name = "toy_rule"
        aliases = ("toy",)

    with pytest.raises(InvalidArguments):
        check_arguments(request(federated=True, aggregation_method="toy"))
    monkeypatch.setattr(registry, "POLICIES", (*registry.POLICIES, Toy()))
    for method in ("toy", " Toy-Rule", "TOY_RULE"):
        check_arguments(request(federated=True, aggregation_method=method))
        found = config(federated=True, aggregation_method=method)
        assert found.aggregation_method == "toy_rule"
    assert config(federated=True).aggregation_method == "federated_averaging"
    for refused in ("nonsense", "bucketing"):
        with pytest.raises((InvalidArguments, NotAvailable)) as caught:
            check_arguments(request(federated=True, aggregation_method=refused))
        assert "'federated_averaging' (fedavg)" in caught.value.hint
        assert "'toy_rule' (toy)" in caught.value.hint


@pytest.mark.parametrize("partition", ["iid", "client", "Capability", "dirichlet", "dirichlet:0.3"])
def test_partitions_of_federated_training_are_accepted(partition):
    check_arguments(request(federated=True, partition=partition))
    if partition != "iid":
        with pytest.raises(InvalidArguments, match="belongs to federated"):
            check_arguments(request(partition=partition))


def test_defaults_of_federated_training():
    found = config(federated=True, epochs=50)
    assert (found.rounds, found.epochs, found.local_epochs) == (50, 50, 1)
    assert (found.clients_per_round, found.min_nodes_per_round) == (5, 4)
    assert (found.strategy, found.sync_every_steps, found.seed) == ("federated", None, 9)
    assert config(federated=True, epochs=50, rounds=7).rounds == 7
    assert config(federated=True, epochs=50, rounds=7).epochs == 7


@pytest.mark.parametrize(("clients", "fewest"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 5)])
def test_four_fifths_of_the_clients_close_a_round(clients, fewest):
    """But not all of three or more: a single slow one would hold up every round."""
    assert config(federated=True, clients_per_round=clients).min_nodes_per_round == fewest
    voting = config(federated=True, clients_per_round=clients, aggregation_method="auto")
    assert voting.min_nodes_per_round == -(-4 * clients // 5)


def test_no_more_clients_than_workers():
    assert config(federated=True, eligible=3).clients_per_round == 3
    with pytest.raises(InvalidArguments, match="clients_per_round=4 is above the 3 workers"):
        config(federated=True, eligible=3, clients_per_round=4)
    with pytest.raises(NoWorkers, match="a round needs 4 workers and 2 take part"):
        config(federated=True, eligible=2, min_nodes_per_round=4)


def test_without_federation_the_strategy_is_the_chosen_one_with_its_reason():
    alone = config(eligible=4, strategy="single_process")
    together = config(eligible=4, strategy="local_sgd", shard=3200, batch_size=32)
    assert alone.strategy_reason == together.strategy_reason == "a reason"
    assert (alone.strategy, alone.sync_every_steps) == ("single_process", None)
    assert (together.strategy, together.sync_every_steps) == ("local_sgd", 25)
    assert together.clients_per_round is together.min_nodes_per_round is None


def test_what_is_given_is_used_and_the_rest_is_chosen_and_named():
    chosen = config()
    assert chosen.chosen == ["epochs", "batch_size", "learning_rate", "patience"]
    given = {"epochs": 7, "batch_size": 5, "learning_rate": 0.3, "patience": 2}
    found = config(**given)
    assert {name: getattr(found, name) for name in given} == given
    assert found.chosen == []
    assert config(federated=True, rounds=7).chosen == ["batch_size", "learning_rate"]
    assert config(learning_rate=0.3).epochs == chosen.epochs


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, PATIENCE),
        ({"epochs": 50}, 0),
        ({"federated": True, "rounds": 50}, 0),
        ({"epochs": 50, "patience": 3}, 3),
        ({"patience": 0}, 0),
        ({"has_validation": False}, 0),
        ({"has_validation": False, "patience": 3}, 0),
    ],
)
def test_a_training_ends_early_unless_its_rounds_were_given_or_nothing_can_be_counted(
    more, expected
):
    assert config(**more).patience == expected


@pytest.mark.parametrize(("rows", "batch", "steps"), [(10, 32, 16), (2048, 32, 16), (2049, 32, 17)])
def test_workers_average_about_four_times_an_epoch(rows, batch, steps):
    assert sync_steps(rows, batch) == steps


@pytest.mark.parametrize(
    ("more", "clients", "expected"),
    [
        ({}, 0, "iid"),
        ({}, 9, "iid"),
        ({"federated": True}, 0, "capability"),
        ({"federated": True}, 9, "client"),
        ({"federated": True, "partition": " Dirichlet:0.5 "}, 9, "dirichlet:0.5"),
        ({"federated": True, "clients_per_round": 4}, 9, "client"),
        ({"federated": True, "clients_per_round": 5}, 9, "each_client"),
        ({"federated": True, "clients_per_round": 5}, 0, "capability"),
        ({"federated": True, "clients_per_round": 5, "partition": "client"}, 9, "client"),
    ],
)
def test_the_partition_in_force(more, clients, expected):
    assert resolve_partition(request(**more), clients=clients, workers=4) == expected


def test_the_rule_of_gossip_may_be_named_where_training_is_not_federated():
    named = request(federated=False, aggregation_method="push_sum")
    check_arguments(named, "gossip")
    with pytest.raises(InvalidArguments, match="belongs to federated training"):
        check_arguments(named, "byzantine")
