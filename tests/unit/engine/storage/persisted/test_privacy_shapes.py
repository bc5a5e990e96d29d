"""The stored privacy of a model has every field of it, and reads back to the same."""

from flow_nexus_neural.coordination.privacy.lineage import (
    FRESH,
    DataPrivacy,
    ModelPrivacy,
    TrainingPrivacy,
    with_training,
)
from flow_nexus_neural.engine.storage.persisted.privacy_shapes import (
    StoredDataPrivacy,
    StoredModelPrivacy,
    StoredTrainingPrivacy,
)
from flow_nexus_neural.engine.storage.version_rows import load_privacy, stored_privacy
from tests.unit.coordination.test_privacy_lineage import THERE, trained

PAIRS = {
    StoredModelPrivacy: ModelPrivacy,
    StoredDataPrivacy: DataPrivacy,
    StoredTrainingPrivacy: TrainingPrivacy,
}


def test_no_field_is_lost():
    for stored, held in PAIRS.items():
        assert set(stored.model_fields) == set(held.model_fields)


def test_it_reads_back_to_the_same():
    made = with_training(
        with_training(FRESH, trained("a", of_data=True)), trained("b", None, THERE)
    )
    stored = stored_privacy(made)
    again = StoredModelPrivacy.model_validate_json(stored.model_dump_json())
    assert load_privacy(again) == made
    assert load_privacy(None) is stored_privacy(None) is None
