"""What validators learn from, and what admits them."""

import numpy as np
import pytest

from flow_nexus_neural.engine.training.roles.confidence import NO_DECISION, Doubting
from flow_nexus_neural.engine.versions.members import Members, RoleWork
from flow_nexus_neural.kernels.decision_features import N_FEATURES
from tests.unit.engine.building import bundle, schema
from tests.unit.engine.training.roles.test_stacker import part

MODES = 3
GATES = {"confidence:mean", "confidence:weighted", "confidence:ensemble"}


def doubting(verify=100, task="binary", right=0.7):
    """One slot that is always equally sure, and right in so many cases."""
    sizes = {"meta": 50, "verify": verify, "calib": 200, "test": 40}
    parts = {name: part(n, n) for name, n in sizes.items()}
    logits = {}
    for name, rows in parts.items():
        hit = np.random.Generator(np.random.PCG64(9)).random(len(rows)) < right
        logits[name] = (np.where(hit, 1, -1) * (4 * rows.y - 2))[:, None].astype("f4")
    own = bundle({"worker-0": 1.0})
    members = Members(schema(task), parts, {"worker-0": "c0"}, own, own, {"c0": logits}, None)
    return Doubting(members, RoleWork(own))


def test_they_learn_from_every_aggregations_decisions_whether_these_are_right():
    lesson = doubting().lesson((1, 0))
    assert (len(lesson.fit), len(lesson.held)) == (MODES * 80, MODES * 20)
    assert lesson.fit.x.shape[1] == lesson.input.n_scalars == N_FEATURES
    assert lesson.fit.y.mean() == pytest.approx(0.7, abs=0.15)
    assert {name: len(rows) for name, rows in lesson.further.items()} == {
        "calib": MODES * 200,
        "test": MODES * 40,
    }


def test_there_must_be_something_to_learn():
    assert doubting().flaw is None
    assert doubting(0).flaw.startswith("there are no verify rows: none were kept")
    assert "10 verify rows" in doubting(10).flaw
    assert doubting(task="regression").flaw == NO_DECISION
    assert "are right" in doubting(right=1.1).flaw
    assert "are wrong" in doubting(right=-0.1).flaw


def said(of, strength):
    """Logits of a validator that knows which decisions are right, as strongly as that."""
    return {
        name: np.tile(strength * (2.0 * of._hits("mean", name) - 1), MODES)[:, None].astype("f4")
        for name in ("calib", "test")
    }


def test_a_validator_that_knows_is_admitted_and_one_that_guesses_is_not():
    of = doubting()
    knows = of.admitted(said(of, 1.0))
    assert set(knows.gates) == GATES
    assert all(gate.used for gate in knows.gates.values())
    hits = of._hits("mean", "test")
    assert knows.sure["mean"][hits].min() > 0.9
    assert knows.sure["mean"][~hits].max() < 0.1
    noise = np.random.Generator(np.random.PCG64(3)).standard_normal((MODES * 200, 1)).astype("f4")
    sure = doubting(right=0.88)  # as sure as its logits say
    assert not any(gate.used for gate in sure.admitted({"calib": noise}).gates.values())


def test_without_calib_rows_nobody_is_admitted():
    assert not any(gate.used for gate in doubting().admitted({}).gates.values())
