"""Warnings of unknown values."""

import numpy as np

from flow_nexus_neural.data.remarks import unknown_values
from flow_nexus_neural.data.table import TextColumn


def test_missing_and_infinite_values_are_counted_by_column():
    features = {
        "a": np.array([1.0, np.nan, np.inf]),
        "b": TextColumn(np.array([0, -1, -1], dtype=np.int32), ("x",)),
        "c": np.zeros(3),
    }
    assert unknown_values(features) == [
        "3 values are missing and count as unknown: a 1, b 2",
        "1 values are infinite and count as unknown: a 1",
    ]
    assert unknown_values({"c": np.zeros(3)}) == []
