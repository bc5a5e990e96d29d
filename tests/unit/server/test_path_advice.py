"""A refused path names the line of the configuration that would allow it."""

import pytest

from flow_nexus_neural.errors import DatasetNotFound, InvalidDataset, PathNotAllowed
from flow_nexus_neural.server.errors import error_text
from flow_nexus_neural.server.path_advice import named_path, with_path_advice

NOT_FOUND = DatasetNotFound("nothing is called so", hint="Put the file into /state/data")
OUTSIDE = PathNotAllowed(
    "it lies outside", hint="move it into the data directory", details={"a": 1}
)


@pytest.mark.parametrize(
    ("dataset", "directory"),
    [
        ("/data/market/prices.csv", "/data/market"),
        ("file:///data/market/prices.csv", "/data/market"),
        ("file:///data/my%20market/prices.csv", "/data/my market"),
        ("file://localhost/data/market/prices.csv", "/data/market"),
        ("prices.csv", "/the/folder/of/the/file"),
        ("market/prices", "/the/folder/of/the/file"),
        ("/prices.csv", "/the/folder/of/the/file"),
        ("/data/*/prices.csv", "/the/folder/of/the/file"),
    ],
)
@pytest.mark.parametrize("failure", [NOT_FOUND, OUTSIDE])
def test_the_line_to_add_is_named_before_everything_else(failure, dataset, directory):
    told = with_path_advice(failure, dataset)
    assert type(told) is type(failure)
    assert (told.message, told.details) == (failure.message, failure.details)
    assert told.hint.startswith(f'Ask the user to add "--allow-path", "{directory}" to "args" of')
    assert failure.hint[1:] in told.hint


def test_a_home_is_written_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f'"{tmp_path}/data"' in with_path_advice(OUTSIDE, "~/data/prices.csv").hint


@pytest.mark.parametrize("dataset", ["crypto_market", {"X": []}, None, "s3://bucket/a.csv"])
def test_what_is_no_path_is_refused_as_before(dataset):
    assert with_path_advice(NOT_FOUND, dataset) is NOT_FOUND


def test_other_failures_stay_as_they_are():
    failure = InvalidDataset("no table")
    assert with_path_advice(failure, "/data/prices.csv") is failure


def test_a_path_of_any_length_gives_one_short_error():
    text = error_text(with_path_advice(OUTSIDE, f"/{'x' * 5000}/a\n.csv"))
    assert len(text) < 1000
    assert "\n" not in text


def test_the_path_that_a_call_was_refused_for_is_found_among_its_arguments():
    given = {"inputPath": "a.csv", "output_path": "/b/out.csv"}
    assert named_path(PathNotAllowed("'a.csv' lies outside"), given) == "a.csv"
    assert (
        named_path(PathNotAllowed("output_path 'x' lies outside the roots"), given) == "/b/out.csv"
    )
    for why in ("is hidden", "holds '..'", "lies in the state directory"):
        assert named_path(PathNotAllowed(f"output_path 'x' {why}"), given) is None
    assert named_path(PathNotAllowed("x"), {"dataset": "d.csv"}) == "d.csv"
    assert named_path(ValueError("x"), {}) is None
