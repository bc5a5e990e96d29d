"""What persistence would answer: the latest label of the same series that was known at a row."""

import numpy as np

from flow_nexus_neural.data.last_value import known_before, last_known
from flow_nexus_neural.data.prepare import DataRequest, prepare
from flow_nexus_neural.settings import Settings


def test_the_label_before_is_known_and_none_at_the_start(tmp_path):
    days = np.datetime64("2021-01-01") + np.arange(60)
    rows = [{"day": str(day), "x": i % 7, "tgt": float(i)} for i, day in enumerate(days)]
    asked = DataRequest(dataset=rows, target="tgt", task="regression", refit=True)
    data = prepare(asked, Settings(state_dir=tmp_path))
    schema = data.schema
    known = data.whole.last * schema.target_sd + schema.target_mean
    assert np.isnan(known[0])
    assert np.allclose(known[1:], np.arange(59), atol=1e-4)


def test_rows_without_an_order_have_no_label_before_them():
    class Unordered:
        ordered = False

    assert known_before(Unordered(), None) is None


def test_a_label_that_nobody_knew_is_not_a_number():
    class Labels:
        values = np.array([3.0, 5.0])

    class Schema:
        target_mean, target_sd = 1.0, 2.0

    known = last_known(np.array([-1, 0]), Labels, Schema)
    assert np.isnan(known[0])
    assert known[1] == 1.0
