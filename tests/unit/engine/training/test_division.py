"""The division of rows, as status reports it."""

from flow_nexus_neural.data.partition import ShardReport, Shards
from flow_nexus_neural.engine.reports import ShardInfo
from flow_nexus_neural.engine.training.division import division_of


def shards(*reports):
    named = {f"worker-{number}": report for number, report in enumerate(reports)}
    return Shards(rows={}, groups={}, report=named)


def test_every_worker_has_its_rows_symbols_and_labels():
    found = division_of(
        shards(ShardReport(4, ["BTC"], {"0": 0.5, "1": 0.5}), ShardReport(0, [], {"0": 0, "1": 0}))
    )
    assert found.heterogeneity == 0
    assert found.shards == [
        ShardInfo(slot="worker-0", rows=4, symbols=["BTC"], labels={"0": 0.5, "1": 0.5}),
        ShardInfo(slot="worker-1", rows=0, symbols=[], labels={"0": 0, "1": 0}),
    ]


def test_numbers_have_no_labels_and_no_heterogeneity():
    found = division_of(shards(ShardReport(4, [], None), ShardReport(3, [], None)))
    assert found.heterogeneity is None
    assert [shard.labels for shard in found.shards] == [None, None]


def test_workers_of_one_class_each_are_as_different_as_can_be_of_their_pool():
    apart = division_of(shards(ShardReport(5, [], {"a": 1.0, "b": 0.0}),
                               ShardReport(5, [], {"a": 0.0, "b": 1.0})))  # fmt: skip
    assert 0.3 < apart.heterogeneity < 0.32
