"""Replies of clusters whose nodes may lie: a quorum is told, and without one nothing is decided."""

import math

import numpy as np
import pytest

from flow_nexus_neural.coordination.quorum import RobustQuorum
from flow_nexus_neural.engine.prediction.no_quorum import quorum_report, split_votes
from flow_nexus_neural.kernels.calibration import Calibrator
from flow_nexus_neural.kernels.conformal import ConformalScores
from flow_nexus_neural.server.rounding import wire_json
from tests.unit.engine.prediction.test_reply import adapted, answer, binary

MODES = ("mean", "majority", "weighted", "ensemble")
HONEST = (0.6, 0.62, 0.64)


def voted(logits, *more, **bundled):
    """The reply under byzantine consensus, of networks that differ."""
    return answer(logits, *more, mixed=True, robust=True, **bundled)


def test_a_liar_of_four_is_outvoted_and_the_quorum_is_told():
    made = voted(binary(*HONEST, 0.000001))
    middle = (math.log(0.6 / 0.4) + math.log(0.62 / 0.38)) / 2
    assert made.prediction == pytest.approx(1 / (1 + math.exp(-middle)))
    assert made.quorum.model_dump() == {"needed": 3, "got": 4, "f": 1}
    assert made.decision == ["1"]
    assert made.confidence == made.prediction
    assert made.node_predictions["node_worker-3"] == pytest.approx(1e-6)
    assert answer(binary(*HONEST, 0.000001), mixed=True).decision == ["0"], "the lie does not bite"


def test_a_cluster_that_trusts_its_nodes_has_no_quorum():
    assert answer(binary(0.9, 0.6)).quorum is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_list", [False, True])
def test_with_too_few_answers_nothing_is_decided_and_nothing_is_certain(mode, is_list):
    rows = 2 if is_list else 1
    logits = [[[3.0]] * rows, [[3.1]] * rows]
    calibrators = {"mean": Calibrator("platt", 0.5, 0.25)}
    made = voted(
        logits, mode, n_expected=4, given=adapted(rows, is_list=is_list), calibrators=calibrators
    )
    assert made.quorum.model_dump() == {"needed": 3, "got": 2, "f": 1}
    assert made.decision == ["no_quorum"] * rows
    assert made.predictions == made.confidences == [None] * rows
    assert made.prediction is made.confidence is made.raw_prediction is made.probabilities is None
    assert made.consensus is made.node_agreement is None
    assert (made.confidence_source, made.calibrated, made.degraded) == ("none", False, True)
    assert made.degraded_reason == "2 of 4 nodes answered; 3 are wanted"
    assert made.warnings[0].startswith("no_quorum: 2 nodes answered and 3 are needed")
    assert len(made.node_predictions) == 2, "what each node said is still told"


def test_values_without_a_quorum_have_no_interval_either():
    made = voted(
        [[[1.0]], [[2.0]]],
        task="regression",
        n_expected=4,
        conformal={"mean": ConformalScores(9, (9,), (1.0,))},
    )
    assert (made.prediction, made.interval, made.decision) == (None, None, ["no_quorum"])


def test_as_many_answers_as_are_needed_decide_with_the_same_number_of_liars_assumed():
    made = voted(binary(0.6, 0.62, 0.000001), n_expected=4)
    assert made.quorum.model_dump() == {"needed": 3, "got": 3, "f": 1}
    assert made.prediction == pytest.approx(0.6)
    assert made.decision == ["1"]


def test_votes_for_as_many_classes_as_nodes_decide_nothing_and_the_mean_is_named():
    logs = [[np.log(row)] for row in (np.full((3, 3), 0.1) + 0.7 * np.eye(3))]
    tied = voted([*logs, logs[0]], "majority", task="multiclass")
    assert tied.decision == ["a"]
    assert tied.confidence is not None
    split = voted(logs, "majority", task="multiclass", n_expected=4)
    assert split.decision == ["no_quorum"]
    assert split.prediction is split.confidence is None
    assert split.predictions == split.confidences == [None]
    assert split.probabilities == [pytest.approx([1 / 3] * 3)]
    assert split.quorum.got == 3
    assert "no class has 2 votes" in split.warnings[0]
    assert voted(logs, "mean", task="multiclass", n_expected=4).prediction is not None


def test_a_few_nodes_cannot_outvote_a_liar_and_are_combined_as_elsewhere():
    made = answer(binary(0.9, 0.6, 0.3), robust=True)
    assert made.quorum.model_dump() == {"needed": 1, "got": 3, "f": 0}
    assert made.prediction == answer(binary(0.9, 0.6, 0.3)).prediction


@pytest.mark.parametrize("mode", MODES)
def test_where_all_serve_one_model_the_reply_is_that_of_a_cluster_that_trusts_them(mode):
    same = binary(*[0.3141592] * 4)
    told = [rounded(answer(same, mode, robust=robust)) for robust in (True, False)]
    assert told[0] == told[1]


def rounded(made):
    """A reply as its caller gets it, without what must differ."""
    kept = made.model_copy(update={"quorum": None, "bundle_sha": ""})
    return wire_json(kept)


def test_split_votes_are_counted_by_record():
    quorum = RobustQuorum(needed=3, got=3, f=1)
    assert split_votes(None, quorum) == split_votes(["a"], quorum) == []
    (told,) = split_votes(["a", "no_quorum", "no_quorum"], quorum)
    assert "2 of 3 records" in told
    assert quorum_report(quorum).model_dump() == {"needed": 3, "got": 3, "f": 1}
