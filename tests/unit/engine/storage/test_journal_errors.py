"""What sqlite says becomes an error of ours that tells damage, a full disk and a closed journal apart."""

import sqlite3

import pytest

from flow_nexus_neural.engine.storage.journal_errors import START_AGAIN, translated
from flow_nexus_neural.engine.storage.schema import RESTORE
from flow_nexus_neural.errors import NeuralError, ShuttingDown, StoreCorrupt, StoreUnavailable


def raised(failure):
    with pytest.raises((NeuralError, ZeroDivisionError)) as caught, translated("do it"):
        raise failure
    return caught.value


def with_code(code):
    failure = sqlite3.OperationalError("sqlite says")
    failure.sqlite_errorcode = code
    return failure


@pytest.mark.parametrize(
    ("failure", "kind", "hint"),
    [
        (with_code(sqlite3.SQLITE_FULL), StoreUnavailable, "free disk space"),
        (with_code(sqlite3.SQLITE_IOERR | 3 << 8), StoreUnavailable, "free disk space"),
        (with_code(sqlite3.SQLITE_BUSY), StoreUnavailable, "free disk space"),
        (sqlite3.OperationalError("without a code"), StoreUnavailable, "free disk space"),
        (with_code(sqlite3.SQLITE_ERROR), StoreCorrupt, RESTORE),
        (with_code(sqlite3.SQLITE_ERROR | 1 << 8), StoreCorrupt, RESTORE),
        (sqlite3.DatabaseError("malformed"), StoreCorrupt, RESTORE),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text"), StoreCorrupt, RESTORE),
        (sqlite3.IntegrityError("UNIQUE"), StoreCorrupt, START_AGAIN),
        (sqlite3.ProgrammingError("closed"), ShuttingDown, "start the server again"),
    ],
)
def test_each_failure_has_its_kind_and_what_to_do(failure, kind, hint):
    found = raised(failure)
    assert type(found) is kind
    assert found.message.startswith("could not do it")
    assert str(failure) in found.message
    assert found.hint.startswith(hint)
    assert found.__cause__ is failure


def test_only_a_disk_that_refuses_is_worth_trying_again():
    assert raised(with_code(sqlite3.SQLITE_FULL)).retryable
    assert not raised(sqlite3.DatabaseError("malformed")).retryable


def test_other_errors_and_success_pass_unchanged():
    failure = ZeroDivisionError("a bug")
    assert raised(failure) is failure
    with translated("do it"):
        done = True
    assert done


def test_what_a_real_full_disk_says_is_understood(tmp_path):
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    connection.execute("CREATE TABLE t (x)")
    connection.execute("PRAGMA max_page_count=2")
    with pytest.raises(StoreUnavailable, match="full"), translated("write"):
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    connection.close()
