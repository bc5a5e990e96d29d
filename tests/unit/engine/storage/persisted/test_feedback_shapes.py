"""Stored outcomes of later versions can be read: what is missing has a default, what is new is ignored."""

from flow_nexus_neural.engine.storage.persisted.feedback_shapes import StoredFeedback, StoredOutcome

OUTCOME = {
    "prediction_id": "prd_1",
    "row": 0,
    "version": 3,
    "schema_digest": "s",
    "outcome": 1.0,
    "logits": {"worker-0": [0.5]},
    "shape": [1],
    "x": "AAAAAA==",
    "at": "now",
}


def test_what_is_missing_has_a_default_and_what_is_new_is_ignored():
    empty = StoredFeedback.model_validate({"later": 1})
    assert (empty.recorded, empty.version, empty.hedge.rounds) == (0, None, 0)
    stored = StoredOutcome.model_validate({**OUTCOME, "later": 1})
    assert (stored.symbol, stored.logits) == (None, {"worker-0": (0.5,)})
