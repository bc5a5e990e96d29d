from types import SimpleNamespace

import numpy as np
import pytest

from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.training.roles.out_of_fold import FOLDS, CrossFitting
from flow_nexus_neural.errors import RoundFailed, StoreUnavailable


class Again:
    """Records what is to be trained, and fails."""

    def __init__(self, failure):
        self.failure, self.asked = failure, []

    async def train_apart(self, rows, _trusted, n_rounds, *_):
        self.asked.append((len(rows), n_rounds))
        raise self.failure


def fitting(failure, rows=150, gap=None, blob=None):
    nobody = np.full(rows, -1, dtype=np.int32)
    own = Rows(np.zeros((rows, 1), np.float32), np.zeros(rows, np.float32), nobody, nobody)
    parts = {"train": own, "select": own.at(slice(0, 0))}
    data = SimpleNamespace(parts=parts, gap=gap, schema=SimpleNamespace(time_ordered=False))
    training = SimpleNamespace(
        personalisation=None,
        steering=SimpleNamespace(rate_of=None),
        starts={"c0": SimpleNamespace(blob=blob)},
    )
    cluster = SimpleNamespace(clock=lambda: 0.0)
    again = Again(failure)
    prepared = SimpleNamespace(data=data, run=(1, 1))
    return again, CrossFitting(cluster, training, prepared, again, 7)


async def test_a_copy_that_cannot_be_trained_is_the_reason_and_fails_nothing():
    again, own = fitting(RoundFailed("nobody delivered", hint="wait"))
    found = await own.run({}, {})
    assert not found
    assert found.reason == "round_failed: nobody delivered"
    assert again.asked == [(150 - 150 // FOLDS, 7)]


async def test_a_store_that_fails_is_nobodys_reason_and_is_raised():
    with pytest.raises(StoreUnavailable):
        await fitting(StoreUnavailable("full", hint="free some"))[1].run({}, {})


async def test_of_few_rows_nothing_is_trained():
    again, own = fitting(RoundFailed("x", hint="y"), rows=124)
    assert (await own.run({}, {})).reason == "124 training rows are fewer than 125"
    assert again.asked == []


async def test_copies_that_would_start_from_trained_weights_are_not_made():
    again, own = fitting(RoundFailed("x", hint="y"), blob="sha256:7")
    found = await own.run({}, {})
    assert not found
    assert "goes on from weights" in found.reason
    assert again.asked == []


async def test_folds_of_which_a_gap_leaves_too_few_rows_are_not_trained():
    again, own = fitting(RoundFailed("x", hint="y"), gap=60)
    assert "3 folds keep 40, 0, 40 of 150 rows" in (await own.run({}, {})).reason
    assert again.asked == []
    again, own = fitting(RoundFailed("x", hint="y"), gap=20)
    assert (await own.run({}, {})).reason.startswith("round_failed")
    assert again.asked == [(80, 7)]
