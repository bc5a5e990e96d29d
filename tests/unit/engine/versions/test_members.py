"""What slots answer on the rows of a model's parts."""

import numpy as np
import pytest

from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.versions.members import Members, RoleWork
from flow_nexus_neural.kernels.decision import DecisionRule
from tests.unit.engine.building import bundle, schema
from tests.unit.engine.state.test_roles import roles

SLOTS = {"worker-0": "c0", "worker-1": "c1"}
LOGITS = {
    "c0": {"verify": np.array([[2.0], [-2.0]], "f4")},
    "c1": {"verify": np.array([[1.0], [1.0]], "f4")},
}
NOBODY = np.full(2, -1, "i4")
VERIFY = Rows(np.zeros((2, 2), "f4"), np.array([1.0, 0.0], "f4"), NOBODY, NOBODY)


def members(task="binary", **bundled):
    own = bundle({slot: 0.5 for slot in SLOTS}, **bundled)  # noqa: C420  one share each
    return Members(schema(task), {"verify": VERIFY}, SLOTS, own, own, LOGITS, None)


def test_every_slot_answers_as_its_network_does():
    answers = members().answers("verify")
    assert list(answers) == ["worker-0", "worker-1"]
    assert answers["worker-1"].tolist() == [[1.0], [1.0]]


def test_class_weights_of_the_training_are_taken_out():
    answers = members(rule=DecisionRule(0.5, (1.0, np.e))).answers("verify")
    assert answers["worker-0"].tolist() == [[pytest.approx(1.0)], [pytest.approx(-3.0)]]


def test_losses_and_hits_are_those_of_the_combination():
    made = members().served(members().bundle, "weighted", "verify").final
    z = np.array([1.5, -0.5])
    expected = np.logaddexp(0, -z * np.array([1, -1]))
    assert members().losses(made, "verify") == pytest.approx(expected)
    assert members().hits(made, "verify").tolist() == [True, True]


def test_squared_errors_are_in_variances_of_the_target():
    of_values = members("regression")
    made = of_values.served(of_values.bundle, "mean", "verify").final
    assert of_values.losses(made, "verify") == pytest.approx([0.25, 0.25])
    with pytest.raises(ValueError, match="decide nothing"):
        of_values.hits(made, "verify")


def test_a_stack_is_served_only_where_its_gate_is_open():
    stacked = {"test": np.zeros((2, 1), "f4")}
    plain = bundle({"worker-0": 1.0})
    assert RoleWork(plain, stacked).served_stack("test") is None
    used = RoleWork(bundle({"worker-0": 1.0}, roles=roles()), stacked)
    assert used.served_stack("test") is stacked["test"]
    assert used.served_stack("calib") is None
