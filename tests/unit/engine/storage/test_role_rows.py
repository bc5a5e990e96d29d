"""Role networks are read back as they were stored."""

import pytest

from flow_nexus_neural.engine.state.roles import NO_ROLES
from flow_nexus_neural.engine.storage import persisted
from flow_nexus_neural.engine.storage.role_rows import load_roles, stored_roles
from flow_nexus_neural.engine.storage.version_rows import load_network, stored_network
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.kernels.calibration import Calibrator
from tests.unit.engine.state.test_roles import roles


def read(stored):
    again = persisted.StoredRoles.model_validate_json(stored.model_dump_json())
    return load_roles(again, lambda one: load_network(one, None))


def test_everything_of_them_comes_back():
    made = roles(calibrators={"mean": Calibrator("platt", 0.5, 0.1)})
    assert read(stored_roles(made, stored_network)) == made


def test_a_bundle_of_before_there_were_any_has_none():
    assert stored_roles(NO_ROLES, stored_network) is None
    assert load_roles(None, lambda one: load_network(one, None)) is NO_ROLES


def test_an_unknown_purpose_is_no_guess():
    stored = stored_roles(roles(), stored_network)
    learnt = {"aggregator-0": persisted.StoredLearnt(purpose="oracle")}
    with pytest.raises(StoreCorrupt, match="oracle"):
        read(stored.model_copy(update={"learnt": learnt}))
