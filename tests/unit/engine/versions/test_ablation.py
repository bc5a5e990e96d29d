"""What each role adds, measured on the same test rows."""

import numpy as np
import pytest

from flow_nexus_neural.engine.versions.ablation import WITHOUT_STUDENT, ablation
from flow_nexus_neural.engine.versions.members import Members, RoleWork
from tests.unit.engine.building import bundle, schema
from tests.unit.engine.training.roles.test_stacker import part

PARTS = {name: part(60, seed) for seed, name in enumerate(("meta", "verify", "calib", "test"))}
BLIND = {name: np.zeros((60, 1), "f4") for name in PARTS}
KNOWS = {name: (6 * rows.y - 3)[:, None].astype("f4") for name, rows in PARTS.items()}
ROLES = (
    "ensemble_with_aggregators",
    "ensemble_without_student",
    "student",
    "confidence_with_validators",
)


def members(task="binary"):
    own = bundle({"worker-0": 1.0})
    return Members(schema(task), PARTS, {"worker-0": "c0"}, own, own, {"c0": BLIND}, None)


def test_what_no_node_made_is_null():
    told = ablation(members(), RoleWork(members().bundle))
    assert [told[name] for name in ROLES] == [None] * 4
    assert told["mean"] == told["weighted"] == told["ensemble_without_aggregators"]
    assert told["mean"]["log_loss"] == pytest.approx(np.log(2))
    assert told["confidence_without_validators"]["brier"] == pytest.approx(0.25)


def test_each_line_is_of_its_own_outputs_whether_or_not_they_are_used():
    of = members()
    work = RoleWork(
        of.bundle,
        stacked={**KNOWS, WITHOUT_STUDENT: -KNOWS["test"]},
        student={"test": KNOWS["test"]},
        sure={"mean": (PARTS["test"].y > 0.5) * 0.98 + 0.01},
    )
    told = ablation(of, work)
    assert told["ensemble_with_aggregators"]["accuracy"] == 1.0
    assert told["ensemble_without_student"]["accuracy"] == 0.0
    assert told["student"]["accuracy"] == 1.0
    assert told["ensemble_without_aggregators"]["accuracy"] == 0.5
    knows, blind = told["confidence_with_validators"], told["confidence_without_validators"]
    assert knows["brier"] < 0.01 < blind["brier"]


def test_values_have_errors_and_no_confidence():
    told = ablation(members("regression"), RoleWork(members("regression").bundle))
    assert set(told["mean"]) == {"mae", "rmse"}
    assert told["confidence_without_validators"] is None
