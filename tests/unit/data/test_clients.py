"""Files that are clients, and files that hold clients."""

import json
from pathlib import PurePath

import pytest

from flow_nexus_neural.data.clients import by_client, say_that_they_are_clients, stem_of
from flow_nexus_neural.data.inline import table_of
from flow_nexus_neural.data.memory import Limits
from flow_nexus_neural.data.resolve import resolve
from flow_nexus_neural.errors import InvalidDataset
from tests.unit.data.reading import read_folder


def csv_of(number, rows=4):
    return "a,label\n" + "".join(f"{number * 10 + row},{row % 2}\n" for row in range(rows))


def leaf(users):
    data = {user: {"x": [[number, 1]] * 3, "y": [0, 1, 1]} for number, user in enumerate(users)}
    return json.dumps({"users": users, "num_samples": [3] * len(users), "user_data": data})


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["clients/a.csv", "clients/b.csv"], True),
        (["data/client_0.csv", "data/client_1.csv"], True),
        (["data/hospital-A.csv", "data/hospital-B.csv"], True),
        (["data/site1.csv", "data/site2.csv.gz"], True),
        (["users/1.parquet", "users/2.parquet"], True),
        (["data/2023.csv", "data/2024.csv"], False),
        (["data/siteline.csv", "data/sitemap.csv"], False),
        (["clients/a.csv"], False),
        (["clients/a.csv", "clients/a.json"], False),
        (["clients/a.csv", "other/b.csv"], False),
    ],
)
def test_names_say_whether_files_are_clients(paths, says):
    assert say_that_they_are_clients([PurePath(path) for path in paths]) is says


@pytest.mark.parametrize("pattern", ["clients/*.csv", "clients/client_[0-5].csv"])
def test_six_client_files_as_a_glob_are_six_clients(settings, root, pattern):
    (root / "clients").mkdir()
    for number in range(6):
        (root / "clients" / f"client_{number}.csv").write_text(csv_of(number))
    source = resolve(pattern, settings)
    assert source.table.clients == tuple(f"client_{number}" for number in range(6))
    assert source.table.client_of.tolist() == [n for n in range(6) for _ in range(4)]
    assert source.origin == "6 files with 6 clients"


def test_files_that_do_not_say_so_are_one_table(settings, root):
    for year in (2023, 2024):
        (root / f"{year}.csv").write_text(csv_of(year))
    source = resolve("*.csv", settings)
    assert (source.table.clients, source.table.rows) == ((), 8)


def test_leaf_files_hold_clients_alone_as_a_glob_and_in_train_and_test(settings, root):
    for part, users in (("train", ["u0", "u1"]), ("test", ["u0", "u1"])):
        (root / "leaf" / part).mkdir(parents=True)
        (root / "leaf" / part / f"all_data_{part}_9.json").write_text(leaf(users))
    (root / "leaf" / "train" / "all_data_more.json").write_text(leaf(["u2"]))
    assert resolve("leaf/test/all_data_test_9.json", settings).table.clients == ("u0", "u1")
    assert resolve("leaf/train/*.json", settings).table.clients == ("u0", "u1", "u2")
    table, target, _ = read_folder(root / "leaf", settings)
    assert (table.clients, target) == (("u0", "u1", "u2"), "y")
    assert [int(table.in_test[table.client_of == n].sum()) for n in range(3)] == [3, 3, 0]


def test_a_client_in_two_files_is_refused(settings, root):
    (root / "leaf").mkdir()
    for name in ("a", "b"):
        (root / "leaf" / f"{name}.json").write_text(leaf(["u0"]))
    with pytest.raises(InvalidDataset, match="a client occurs in two files"):
        resolve("leaf/*.json", settings)
    with pytest.raises(InvalidDataset, match="client 'u0' occurs in two files"):
        read_folder(root / "leaf", settings)


def test_a_table_is_divided_by_client():
    table = table_of(json.loads(leaf(["u1", "u0"])), "data", Limits(100))[0]
    parts = dict(by_client(table))
    assert list(parts) == ["u0", "u1"]
    assert parts["u1"].columns["f0"].tolist() == [0, 0, 0]
    assert list(by_client(parts["u1"])) == []
    assert stem_of("a.b.csv.gz") == "a"


def test_a_column_that_is_empty_for_one_client_adds_no_value_to_the_words_of_another():
    clients = {
        "ann": [{"a": None, "b": 1, "y": n % 2} for n in range(4)],
        "bob": [{"a": f"w{n % 2}", "b": 2, "y": n % 2} for n in range(4)],
    }
    table, _ = table_of({"clients": clients}, "inline data", Limits(100))
    assert table.columns["a"].levels == ("w0", "w1")
    assert table.columns["a"].codes.tolist() == [-1] * 4 + [0, 1, 0, 1]


def test_a_train_and_a_test_file_that_hold_clients_are_refused(root, settings):
    (root / "d").mkdir()
    (root / "d" / "train.json").write_text(leaf(["ann", "bob"]))
    (root / "d" / "test.json").write_text(leaf(["cid"]))
    with pytest.raises(InvalidDataset, match="hold clients of their own"):
        read_folder(root / "d", settings)
