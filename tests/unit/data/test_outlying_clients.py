"""One client of another magnitude does not decide how everyone's rows are scaled."""

import numpy as np
import pytest

from flow_nexus_neural.data.outlying_clients import (
    LIMIT,
    ClientStatistics,
    outlying_clients,
)
from flow_nexus_neural.data.prepare import DataRequest, prepare
from flow_nexus_neural.data.resolve import resolve


def clients(scales, rows=20):
    draw = np.random.Generator(np.random.PCG64(3))
    users = {}
    for number, scale in enumerate(scales):
        y = np.arange(rows) % 2
        x = (draw.standard_normal((rows, 2)) + 2 * y[:, None]) * scale
        users[f"c{number}"] = {"X": x.tolist(), "y": y.tolist()}
    return {"clients": users}


@pytest.mark.parametrize(
    ("factor", "is_outlying"), [(1, False), (0.5 * LIMIT, False), (1e6, True), (1e300, True)]
)
def test_a_client_is_outlying_by_its_magnitude_beside_the_middle_one(factor, is_outlying):
    values = np.concatenate([np.full(4, 1.0), np.full(4, 2.0), np.full(4, factor)])
    found = outlying_clients(values, np.repeat([0, 1, 2], 4), 3)
    assert found.tolist() == [False, False, is_outlying]


def test_unknown_owners_missing_values_and_zeros_are_no_reason():
    values = np.array([0.0, 0.0, np.nan, 1.0, 1.0, 1e9, np.inf, 1.0])
    owners = np.array([0, 0, 1, 1, 2, -1, 2, 3])
    assert not outlying_clients(values, owners, 4).any()


def test_of_two_clients_nobody_can_say_which_one_is_wrong(settings):
    table = resolve(clients([1, 1e6]), settings).table
    train = np.arange(40)
    column = next(iter(table.columns.values()))
    assert ClientStatistics(table, train).rows_for("a", column) is train
    assert not outlying_clients(np.array([1.0, 1e6, 0.0]), np.array([0, 1, 2]), 3).any()


def test_the_rows_of_the_others_keep_their_scale_and_the_client_is_named(settings):
    fair = prepare(DataRequest(dataset=clients([1, 1, 1, 1, 1])), settings)
    poisoned = prepare(DataRequest(dataset=clients([1, 1, 1, 1, 1e6])), settings)
    train = poisoned.parts["train"]
    others = train.x[train.clients < 4]
    assert others.std() == pytest.approx(fair.parts["train"].x[train.clients < 4].std(), rel=0.3)
    assert np.abs(train.x[train.clients == 4]).max() == 6
    (warning,) = [w for w in poisoned.warnings if "c4" in w]
    assert "do not count for the scaling" in warning
    assert not any("scaling" in w for w in fair.warnings)


def test_data_without_clients_are_scaled_by_all_training_rows(settings):
    table = resolve({"data": [[1.0], [2.0], [1e9]], "labels": [0, 1, 1]}, settings).table
    train = np.arange(3)
    assert ClientStatistics(table, train).rows_for("a", next(iter(table.columns.values()))) is train
