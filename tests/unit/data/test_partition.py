from itertools import pairwise

import numpy as np
import pytest

from flow_nexus_neural.data.partition import (
    assign_shards,
    owned_symbols,
    pooled_shards,
    rows_of_clients,
)
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.errors import InvalidArguments, InvalidDataset

BTC = ("btc_analysis", "real_time_inference")
ETH = ("eth_analysis", "pattern_recognition")


def rows(labels, symbols=None, clients=None):
    count = len(labels)
    none = np.full(count, -1, dtype=np.int32)
    return Rows(
        x=np.zeros((count, 2), dtype=np.float32),
        y=np.asarray(labels),
        symbols=none if symbols is None else np.asarray(symbols, dtype=np.int32),
        clients=none if clients is None else np.asarray(clients, dtype=np.int32),
    )


def deal(train, capabilities, partition, seed=0, *, symbols=(), classes=(0, 1), clients=()):
    slots = [(f"worker-{index}", tags) for index, tags in enumerate(capabilities)]
    return assign_shards(
        train, slots, partition, seed, symbols=symbols, classes=classes, clients=clients
    )


def everyone_once(shards, count):
    return sorted(np.concatenate(list(shards.rows.values()))) == list(range(count))


def test_owners_of_a_symbol_split_its_rows_in_blocks_of_time():
    train = rows(np.arange(600) % 2, symbols=np.arange(600) % 2)
    shards = deal(train, [BTC] * 3 + [ETH] * 3, "capability", symbols=("BTC", "ETH"))
    assert shards.rows["worker-0"].tolist() == list(range(0, 200, 2))
    assert shards.rows["worker-4"].tolist() == list(range(201, 401, 2))
    assert set(shards.groups.values()) == {"BTC", "ETH"}
    assert shards.report["worker-5"].symbols == ["ETH"]
    assert everyone_once(shards, 600)


def test_a_worker_without_a_symbol_gets_a_share_of_every_symbol():
    train = rows(np.arange(600) % 2, symbols=np.arange(600) % 2)
    shards = deal(train, [BTC, ("pattern_recognition",)], "capability", symbols=("BTC", "ETH"))
    assert shards.report["worker-1"].symbols == ["BTC", "ETH"]
    assert shards.groups == {"worker-0": "BTC", "worker-1": "general"}
    assert everyone_once(shards, 600)


def test_rows_of_a_symbol_that_nobody_owns_are_spread_over_all():
    train = rows(np.arange(600) % 2, symbols=np.arange(600) % 3)
    shards = deal(train, [BTC, ETH], "capability", symbols=("BTC", "ETH", "SOL"))
    assert shards.report["worker-0"].symbols == ["BTC", "SOL"]
    assert shards.report["worker-1"].symbols == ["ETH", "SOL"]
    assert everyone_once(shards, 600)


@pytest.mark.parametrize("symbol", ["BTC", "btc", "BTC-USD", "BTC/EUR", "BTCUSDT"])
def test_a_tag_finds_its_symbol_in_every_usual_spelling(symbol):
    assert owned_symbols(BTC, ("ETH", symbol, "BTCX")) == [1]


@pytest.mark.parametrize("tag", ["btc_analysis", "BTC_analysis", "BTC_Analysis"])
def test_the_case_of_a_tag_does_not_change_who_gets_which_rows(tag):
    train = rows(np.arange(60) % 2, symbols=np.arange(60) % 2)
    shards = deal(train, [(tag,), ETH], "capability", symbols=("BTC", "ETH"))
    assert shards.rows["worker-0"].tolist() == list(range(0, 60, 2))
    assert shards.groups == {"worker-0": "BTC", "worker-1": "ETH"}
    assert shards.warnings == []


def test_data_without_symbols_are_dealt_at_random_and_it_is_said():
    shards = deal(rows(np.arange(100) % 2), [BTC, ETH], "capability")
    assert any("no symbols" in warning for warning in shards.warnings)
    assert shards.groups == {"worker-0": "all", "worker-1": "all"}
    assert everyone_once(shards, 100)


def test_iid_shards_are_even_alike_and_follow_the_seed():
    train = rows(np.repeat([0, 1], 500))
    first, again, other = (deal(train, [()] * 4, "iid", seed) for seed in (1, 1, 2))
    assert [len(own) for own in first.rows.values()] == [250] * 4
    assert first.heterogeneity < 0.01
    assert (first.rows["worker-0"] == again.rows["worker-0"]).all()
    assert (first.rows["worker-0"] != other.rows["worker-0"]).any()


def test_a_small_alpha_makes_shards_differ_and_a_large_one_does_not():
    train = rows(np.arange(4_000) % 10)
    classes = tuple(range(10))
    skewed = deal(train, [()] * 5, "dirichlet:0.1", 3, classes=classes)
    usual = deal(train, [()] * 5, "dirichlet", 3, classes=classes)
    even = deal(train, [()] * 5, "dirichlet:1000", 3, classes=classes)
    assert skewed.heterogeneity > usual.heterogeneity > 20 * even.heterogeneity
    for shards in (skewed, usual, even):
        assert everyone_once(shards, 4_000)
        assert min(len(own) for own in shards.rows.values()) >= 2


def test_shards_are_a_few_pieces_of_the_rows_sorted_by_label():
    train = rows(np.arange(1_000) % 10)
    classes = tuple(range(10))
    for pieces in (1, 2, 5):
        shards = deal(train, [()] * 5, f"shards:{pieces}", 3, classes=classes)
        assert everyone_once(shards, 1_000)
        assert [len(own) for own in shards.rows.values()] == [200] * 5
        assert max(len(np.unique(train.y[own])) for own in shards.rows.values()) <= max(2, pieces)
    two = [deal(train, [()] * 5, text, 3, classes=classes) for text in ("shards", "shards:2")]
    assert all((two[0].rows[slot] == two[1].rows[slot]).all() for slot in two[0].rows)
    one = deal(train, [()] * 5, "shards:1", 3, classes=classes)
    many = deal(train, [()] * 5, "shards:100", 3, classes=classes)
    # Of ten equal classes, one piece of five and two pieces of ten both hold two classes.
    assert one.heterogeneity == pytest.approx(two[0].heterogeneity)
    assert one.heterogeneity > 2 * many.heterogeneity
    other = deal(train, [()] * 5, "shards:2", 4, classes=classes)
    assert any((other.rows[slot] != two[0].rows[slot]).any() for slot in other.rows)


def test_more_pieces_than_rows_are_refused_with_a_number_that_works():
    with pytest.raises(InvalidDataset, match="40 training rows") as caught:
        deal(rows(np.arange(40) % 2), [()] * 4, "shards:11")
    assert "shards:10" in caught.value.hint


def test_numbers_are_sorted_by_their_value():
    train = rows(np.linspace(-1, 1, 100).astype(np.float32)[::-1])
    shards = deal(train, [()] * 4, "shards:1", classes=None)
    spans = sorted((train.y[own].min(), train.y[own].max()) for own in shards.rows.values())
    assert all(high < low for (_, high), (low, _) in pairwise(spans))


def test_no_shard_is_left_empty_even_by_the_most_skewed_draw():
    shards = deal(rows(np.arange(40) % 2), [()] * 20, "dirichlet:0.001")
    assert min(len(own) for own in shards.rows.values()) >= 2
    assert everyone_once(shards, 40)
    assert any("moved" in warning for warning in shards.warnings)


def test_whole_clients_go_to_workers_in_turn():
    clients = np.repeat([0, 1, 2, 3, 4], 10)
    train = rows(np.arange(50) % 2, clients=clients)
    shards = deal(train, [(), ()], "client", clients=("a", "b", "c", "d", "e"))
    assert set(clients[shards.rows["worker-0"]]) == {0, 2, 4}
    assert set(clients[shards.rows["worker-1"]]) == {1, 3}


def test_fewer_clients_than_workers_are_refused_with_both_counts():
    train = rows(np.arange(20) % 2, clients=np.zeros(20))
    with pytest.raises(InvalidDataset, match=r"1 clients .* for 2 workers"):
        deal(train, [(), ()], "client", clients=("a", "b"))


def test_clients_that_train_by_themselves_have_their_rows_in_the_order_of_their_names():
    clients = np.array([1, 0, -1, 1, 3])
    found = rows_of_clients(rows(np.zeros(5), clients=clients), ("a", "b", "c", "d"))
    assert list(found) == ["a", "b", "d"]
    assert [own.tolist() for own in found.values()] == [[1], [0, 3], [4]]


def test_clients_that_train_by_themselves_may_be_fewer_than_workers_and_differ_by_themselves():
    train = rows(np.repeat([0, 1], 10), clients=np.repeat([0, 1], 10))
    shards = deal(train, [(), (), ()], "each_client", clients=("a", "b"))
    assert [len(own) for own in shards.rows.values()] == [10, 10, 0]
    merged = deal(train, [()], "each_client", clients=("a", "b"))
    assert merged.heterogeneity == shards.heterogeneity > 0.3
    assert deal(train, [()], "client", clients=("a", "b")).heterogeneity == 0


def test_a_regression_has_no_label_balance_and_still_splits_by_its_target():
    train = rows(np.linspace(-1, 1, 500).astype(np.float32))
    shards = deal(train, [()] * 3, "dirichlet:0.1", classes=None)
    assert shards.heterogeneity is None
    assert shards.report["worker-0"].label_balance is None
    assert everyone_once(shards, 500)


def test_the_report_counts_what_the_shard_holds():
    train = rows([0, 0, 1, 1, 1, 1], symbols=[0, 0, 0, 0, 1, 1])
    shards = deal(train, [BTC, ETH], "capability", symbols=("BTC", "ETH"))
    report = shards.report["worker-0"]
    assert (report.rows, report.label_balance) == (4, {"0": 0.5, "1": 0.5})
    # Shards (2, 2) and (0, 2) against the pool (2, 4), worked out by hand.
    assert shards.heterogeneity == pytest.approx((0.0207205 + 0.1908745) / 2, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "by_file",
        "dirichlet:x",
        "dirichlet:0",
        "iid:3",
        "",
        "dirichlet:nan",
        "shards:0",
        "shards:x",
        "shards:1.5",
    ],
)
def test_an_unknown_partition_lists_the_valid_ones(text):
    with pytest.raises(InvalidArguments):
        deal(rows(np.arange(40) % 2), [()] * 2, text)


def test_more_workers_than_rows_are_refused():
    with pytest.raises(InvalidDataset, match="2 training rows for 3 workers"):
        deal(rows([0, 1]), [()] * 3, "iid")


def test_pooled_rows_are_all_of_the_first_slot():
    train = rows([0, 1, 1, 0, 1])
    slots = [("worker-3", ()), ("worker-7", BTC)]
    shards = pooled_shards(train, slots, symbols=(), classes=(0, 1))
    assert shards.rows["worker-3"].tolist() == [0, 1, 2, 3, 4]
    assert shards.rows["worker-7"].tolist() == []
    assert (shards.report["worker-3"].rows, shards.report["worker-7"].rows) == (5, 0)
    assert shards.warnings == []
    assert shards.heterogeneity == 0
    with pytest.raises(InvalidDataset, match="no worker"):
        pooled_shards(train, [], symbols=(), classes=(0, 1))
