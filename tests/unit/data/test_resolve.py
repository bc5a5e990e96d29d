import hashlib
import os

import pytest

from flow_nexus_neural.data.resolve import resolve
from flow_nexus_neural.errors import (
    DatasetNotFound,
    InvalidDataset,
    LimitExceeded,
    PathNotAllowed,
    SourceUnavailable,
)
from flow_nexus_neural.settings import Settings

CSV = "a,b,y\n" + "".join(f"{i},{i % 3},{i % 2}\n" for i in range(40))


def test_a_relative_path_is_found_in_each_root_in_order(tmp_path):
    first, second, third = (tmp_path / name for name in ("one", "two", "three"))
    for directory in (first, second, third):
        directory.mkdir()
    settings = Settings(state_dir=tmp_path, data_dir=first, start_dir=second, allow_paths=(third,))
    (third / "a.csv").write_text(CSV)
    assert resolve("a.csv", settings).table.rows == 40
    (second / "a.csv").write_text(CSV[: CSV.index("\n30,")])
    assert resolve("a.csv", settings).table.rows == 30


def test_the_digest_of_a_file_is_that_of_its_bytes(root, settings):
    (root / "a.csv").write_text(CSV)
    source = resolve("a.csv", settings)
    assert source.sha256 == hashlib.sha256(CSV.encode()).hexdigest()
    assert (source.kind, source.name, source.synthetic) == ("file", "a.csv", False)


def test_file_urls_absolute_paths_and_bare_stems_name_the_same_file(root, settings):
    (root / "my data.csv").write_text(CSV)
    url = "file://" + str(root / "my data.csv").replace(" ", "%20")
    digests = {
        resolve(name, settings).sha256
        for name in ("my data.csv", "my data", url, str(root / "my data.csv"))
    }
    assert len(digests) == 1


def test_a_path_outside_the_roots_is_refused_whether_or_not_it_exists(tmp_path, settings):
    (tmp_path / "secret.csv").write_text(CSV)
    for name in (str(tmp_path / "secret.csv"), "/nowhere/at/all.csv", "../secret.csv"):
        with pytest.raises(PathNotAllowed) as caught:
            resolve(name, settings)
        assert "--data-dir" in caught.value.hint
        assert "--allow-path" in caught.value.hint


def test_a_link_that_leads_out_of_the_roots_is_refused(tmp_path, root, settings):
    (tmp_path / "secret.csv").write_text(CSV)
    (root / "link.csv").symlink_to(tmp_path / "secret.csv")
    (root / "dir").mkdir()
    (root / "dir" / "link.csv").symlink_to(tmp_path / "secret.csv")
    for name in ("link.csv", "lin*.csv", "dir", "dir/link.csv"):
        with pytest.raises(PathNotAllowed):
            resolve(name, settings)


def test_a_link_that_stays_inside_the_roots_is_followed(root, settings):
    (root / "real.csv").write_text(CSV)
    (root / "link.csv").symlink_to(root / "real.csv")
    assert resolve("link.csv", settings).table.rows == 40


def test_a_missing_name_tells_where_files_belong_and_what_is_built_in(root, settings):
    with pytest.raises(DatasetNotFound, match=r"'nothing\.csv'") as caught:
        resolve("nothing.csv", settings)
    assert "--data-dir" in caught.value.hint
    assert "crypto_market_historical_data" in caught.value.hint
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["https://x.org/a.csv", "hf:imdb", "s3://b/k", "yfinance:BTC"])
def test_nothing_is_downloaded(settings, name):
    with pytest.raises(SourceUnavailable, match="downloaded"):
        resolve(name, settings)


def test_a_pipe_is_not_opened(root, settings):
    os.mkfifo(root / "pipe.csv")
    with pytest.raises(InvalidDataset, match="not a regular file"):
        resolve("pipe.csv", settings)


def test_a_glob_joins_files_of_equal_columns_in_name_order(root, settings):
    (root / "b2.csv").write_text("a,y\n3,0\n")
    (root / "b1.csv").write_text("a,y\n1,0\n2,1\n")
    source = resolve("b*.csv", settings)
    assert source.table.columns["a"].tolist() == [1, 2, 3]
    (root / "b3.csv").write_text("a,z\n3,0\n")
    with pytest.raises(InvalidDataset, match="differ in columns y, z"):
        resolve("b*.csv", settings)


def test_the_users_file_wins_over_the_generator_of_the_same_name(root, settings):
    assert resolve("crypto_market_historical_data", settings).synthetic
    (root / "crypto_market_historical_data.csv").write_text(CSV)
    source = resolve("crypto_market_historical_data", settings)
    assert (source.synthetic, source.table.rows) == (False, 40)
    assert resolve("synthetic:crypto_regime", settings).synthetic


def test_one_file_per_client_makes_clients_in_name_order(root, settings):
    (root / "c").mkdir()
    for name in ("zoe", "ann"):
        (root / "c" / f"{name}.csv").write_text(CSV)
    table = resolve("c", settings).table
    assert table.clients == ("ann", "zoe")
    assert table.client_of.tolist() == [0] * 40 + [1] * 40


def test_train_and_test_directories_mark_the_test_rows_of_each_client(root, settings):
    for part, sizes in (("train", {"ann": 30, "bob": 20}), ("test", {"ann": 5, "cid": 7})):
        (root / "c" / part).mkdir(parents=True)
        for name, size in sizes.items():
            lines = CSV.splitlines()[: size + 1]
            (root / "c" / part / f"{name}.csv").write_text("\n".join(lines) + "\n")
    table = resolve("c", settings).table
    assert table.clients == ("ann", "bob", "cid")
    tested = [int(table.in_test[table.client_of == index].sum()) for index in range(3)]
    assert (table.rows, tested) == (62, [5, 0, 7])


def test_a_directory_of_a_train_and_a_test_file_has_no_clients(root, settings):
    (root / "d").mkdir()
    (root / "d" / "train.csv").write_text(CSV)
    (root / "d" / "test.csv").write_text("\n".join(CSV.splitlines()[:11]) + "\n")
    table = resolve("d", settings).table
    assert table.clients == ()
    assert (int(table.in_test.sum()), table.rows) == (10, 50)


def test_an_empty_directory_is_refused(root, settings):
    (root / "e").mkdir()
    with pytest.raises(InvalidDataset, match="holds no data file"):
        resolve("e", settings)


def test_a_generator_respects_the_limit_of_rows(tmp_path):
    settings = Settings(state_dir=tmp_path, max_rows=23_999)
    with pytest.raises(LimitExceeded):
        resolve("crypto_market_historical_data", settings)
    assert resolve("crypto_market_historical_data", settings, rows=100).table.rows == 200


@pytest.mark.parametrize(
    "name", ["", " ", "#target=y", "a" * 300, "x" * 2_000, "\ud800", "a\0b", "~"]
)
def test_a_name_that_cannot_be_a_file_is_not_found(root, settings, name):
    (root / "a.csv").write_text(CSV)
    with pytest.raises(DatasetNotFound) as caught:
        resolve(name.partition("#")[0], settings)
    str(caught.value).encode()


def test_a_glob_never_walks_the_whole_tree(root, settings):
    for name in ("**/a.csv", "a**.csv", "../*.csv"):
        with pytest.raises(PathNotAllowed):
            resolve(name, settings)
