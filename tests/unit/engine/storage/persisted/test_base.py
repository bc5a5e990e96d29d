"""Every stored part says in which format it was written, and cannot be changed by accident."""

import pytest
from pydantic import ValidationError

from flow_nexus_neural.engine.storage.persisted.base import FORMAT, StoredPart


class StoredThing(StoredPart):
    part = "state"

    number: int = 0


def test_a_part_is_stored_with_the_present_format():
    assert StoredThing(number=2).to_json() == {"format": FORMAT, "number": 2}


def test_a_part_is_not_changed_after_it_was_read():
    with pytest.raises(ValidationError, match="frozen"):
        StoredThing().number = 3
