"""Replies by hand-computed values."""

import math

import numpy as np
import pytest

from flow_nexus_neural.data.schema import Adapted
from flow_nexus_neural.engine.prediction.answer import Answer
from flow_nexus_neural.engine.prediction.reply import report
from flow_nexus_neural.engine.prediction.weighting import Weighting
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.kernels.calibration import Calibrator
from flow_nexus_neural.kernels.conformal import ConformalScores
from flow_nexus_neural.kernels.decision import DecisionRule
from tests.unit.engine.building import bundle, committed, network, slot

NAMES = ("worker-0", "worker-1", "worker-2", "worker-3")


def logit(p):
    return math.log(p / (1 - p))


def adapted(rows=1, is_list=False, coverage=1.0, familiar=None):
    return Adapted(
        x=np.zeros((rows, 2), "f4"),
        is_list=is_list,
        symbols=[None] * rows,
        coverage=np.full(rows, coverage),
        familiar=np.full(rows, coverage if familiar is None else familiar),
        mode="batch" if is_list else "single",
        mapped=["f0"],
        imputed=["f1"],
        ignored=[{"name": "z", "reason": "unknown"}],
        ood=[],
        clipped=0,
        warnings=["from the adapter"],
    )


def answer(
    logits,
    aggregation="mean",
    task="binary",
    *,
    given=None,
    n_expected=None,
    mixed=False,
    asked=None,
    threshold=None,
    **bundled,
):
    """The reply when the first slots answered with these logits, [slots][rows][outputs].

    `mixed` gives every slot a model of its own; `asked` and `threshold` are the caller's.
    """
    names = NAMES[: n_expected or len(logits)]
    weights = bundled.pop("weights", dict.fromkeys(names, 1 / len(names)))
    networks = [network(slots=names, task=task)]
    if mixed:
        networks = [network(f"c{k}", (name,), task, f"d{k}") for k, name in enumerate(names)]
    model = committed(networks, bundle(weights, **bundled), task)
    detail = bundled.get("detail", "default")
    return report(
        "dnc_1",
        "prd_1",
        Answer(
            committed=model,
            request=PredictRequest(
                cluster_id="dnc_1",
                input_data=[0, 0],
                aggregation=aggregation,
                detail=detail,
                weights=asked,
                threshold=threshold,
            ),
            adapted=given or adapted(),
            slots=[slot(name) for name in names],
            logits={name: np.array(values) for name, values in zip(names, logits, strict=False)},
            latency_ms=dict.fromkeys(names[: len(logits)], 1.5),
            excluded=dict.fromkeys(names[len(logits) :], "node_died"),
            weighting=Weighting(weights, "equal" if asked is None else "caller"),
            elapsed_ms=4.25,
        ),
    )


def binary(*ps):
    return [[[logit(p)]] for p in ps]


def test_the_mean_of_three_nodes():
    made = answer(binary(0.9, 0.6, 0.3))
    assert made.prediction == pytest.approx(0.6)
    assert made.predictions == [made.prediction]
    assert made.confidence == pytest.approx(0.6)
    assert made.decision == ["1"]
    assert made.consensus == pytest.approx(2 / 3)
    assert made.node_agreement == pytest.approx(1 - (0.3 + 0.6 + 0.3) / 3)
    assert made.node_predictions == {
        "node_worker-0": pytest.approx(0.9),
        "node_worker-1": pytest.approx(0.6),
        "node_worker-2": pytest.approx(0.3),
    }
    assert [i.prediction for i in made.individual_predictions] == pytest.approx([0.9, 0.6, 0.3])
    assert (made.nodes_used, made.nodes_expected, made.degraded) == (3, 3, False)
    assert (made.calibrated, made.confidence_source, made.stacker) == (False, "margin", None)
    assert made.raw_prediction == made.prediction
    assert (made.model_version, made.latency_ms) == (3, 4.25)
    assert made.probabilities is made.interval is None


def test_a_majority_is_the_share_of_votes_and_as_sure_as_the_mean():
    made = answer(binary(0.51, 0.52, 0.05), "majority")
    assert made.prediction == pytest.approx(2 / 3)
    assert made.decision == ["1"]
    assert made.confidence == pytest.approx((0.51 + 0.52 + 0.05) / 3)


def test_weights_pool_logits():
    weights = {"worker-0": 0.5, "worker-1": 0.25, "worker-2": 0.25}
    made = answer(binary(0.9, 0.6, 0.3), "weighted", weights=weights)
    pooled = 0.5 * logit(0.9) + 0.25 * logit(0.6) + 0.25 * logit(0.3)
    assert made.prediction == pytest.approx(1 / (1 + math.exp(-pooled)))
    assert made.consensus == pytest.approx(0.75)
    ensemble = answer(binary(0.9, 0.6, 0.3), "ensemble", weights=weights)
    assert ensemble.prediction == made.prediction
    assert ensemble.stacker == "fallback"
    assert any("without a trained aggregator" in warning for warning in ensemble.warnings)


def test_nodes_that_did_not_answer_lower_consensus_and_confidence():
    made = answer(binary(0.9, 0.6, 0.3), n_expected=4)
    assert made.prediction == pytest.approx(0.6)
    assert made.consensus == pytest.approx(2 / 4)
    assert made.confidence == pytest.approx(0.5 + 0.1 * 3 / 4)
    assert made.degraded
    assert made.degraded_reason == "3 of 4 nodes answered; 4 are wanted"
    assert [(e.node_id, e.reason) for e in made.excluded_nodes] == [("node_worker-3", "node_died")]


def test_inputs_that_were_not_given_lower_confidence_and_nothing_else():
    made = answer(binary(0.9, 0.9), given=adapted(coverage=0.25))
    assert made.prediction == pytest.approx(0.9)
    assert made.confidence == pytest.approx(0.5 + 0.4 * 0.25)
    assert made.input_report.coverage == 0.25
    assert made.input_report.imputed == ["f1"]
    assert made.input_report.ignored[0].name == "z"
    assert "from the adapter" in made.warnings


def test_inputs_unlike_the_training_rows_draw_confidence_towards_chance_though_all_were_given():
    sure = answer(binary(0.9, 0.9))
    strange = answer(binary(0.9, 0.9), given=adapted(coverage=1.0, familiar=0.0))
    assert sure.confidence == pytest.approx(0.9)
    assert strange.confidence == pytest.approx(0.5)
    assert strange.input_report.coverage == 1.0


@pytest.mark.parametrize(("extreme", "expected"), [(80.0, 1 - 1e-6), (-80.0, 1e-6)])
@pytest.mark.parametrize("aggregation", ["mean", "majority", "weighted", "ensemble"])
def test_a_probability_is_never_quite_0_or_1(extreme, expected, aggregation):
    made = answer([[[extreme]], [[extreme]]], aggregation)
    assert made.prediction == pytest.approx(expected, rel=1e-9)
    assert made.confidence <= 1 - 1e-6


def test_one_node_agrees_with_itself():
    made = answer(binary(0.2))
    assert (made.node_agreement, made.consensus, made.decision) == (1.0, 1.0, ["0"])
    assert made.confidence == pytest.approx(0.8)
    assert made.effective_ensemble_size == 1


def test_an_even_split_is_decided_by_the_mean():
    assert answer(binary(0.9, 0.45), "majority").decision == ["1"]
    assert answer(binary(0.55, 0.1), "majority").decision == ["0"]


def test_a_calibrator_belongs_to_its_mode():
    calibrators = {"mean": Calibrator("platt", 0.5, 0.25)}
    made = answer(binary(0.9, 0.9), calibrators=calibrators)
    assert made.calibrated
    assert made.raw_prediction == pytest.approx(0.9)
    assert made.prediction == pytest.approx(1 / (1 + math.exp(-(0.5 * logit(0.9) + 0.25))))
    assert made.confidence == pytest.approx(made.prediction)
    assert made.consensus == 1
    # Votes are counted after calibration too: all of these are below a half then.
    turned = answer(binary(0.6, 0.4, 0.6), calibrators={"mean": Calibrator("platt", 1.0, -1.0)})
    assert turned.decision == ["0"]
    assert turned.consensus == 1
    split = answer(binary(0.6, 0.4, 0.8), calibrators={"mean": Calibrator("platt", 1.0, -1.0)})
    assert split.decision == ["0"]
    assert split.consensus == pytest.approx(2 / 3)
    assert not answer(binary(0.9, 0.9), "weighted", calibrators=calibrators).calibrated


HALF = ConformalScores(9, (9,), (1.5,))
LEAST = ConformalScores(9, (9,), (-0.1,))
CALIBRATORS = {"weighted": Calibrator("platt", 0.5, 0.25)}


@pytest.mark.parametrize("more", [{"asked": {"worker-0": 1.0}}, {"n_expected": 3}])
def test_a_mix_of_models_that_was_not_measured_is_neither_calibrated_nor_given_an_interval(more):
    def whole(logits, task, **others):
        return answer(
            logits,
            "weighted",
            task,
            calibrators=CALIBRATORS,
            conformal={"weighted": HALF if task == "regression" else LEAST},
            **others,
        )

    values = [[[1.0]], [[2.0]]]
    assert whole(binary(0.9, 0.9), "binary", mixed=True).calibrated
    assert not whole(binary(0.9, 0.9), "binary", mixed=True, **more).calibrated
    assert whole(binary(0.9, 0.9), "binary", mixed=True).prediction_set is not None
    assert whole(binary(0.9, 0.9), "binary", mixed=True, **more).prediction_set is None
    assert whole(values, "regression", mixed=True).interval is not None
    assert whole(values, "regression", mixed=True, **more).interval is None
    # One model gives one answer, however it is counted.
    assert whole(binary(0.9, 0.9), "binary", **more).calibrated
    assert whole(values, "regression", **more).interval is not None


def test_classes_are_answered_by_label_with_all_probabilities():
    logs = [[np.log([0.7, 0.2, 0.1])], [np.log([0.1, 0.5, 0.4])]]
    made = answer(logs, task="multiclass")
    assert (made.prediction, made.decision, made.classes) == ("a", ["a"], ["a", "b", "c"])
    assert made.probabilities == [pytest.approx([0.4, 0.35, 0.25])]
    assert made.node_predictions == {"node_worker-0": "a", "node_worker-1": "b"}
    assert made.node_agreement == pytest.approx(1 - 0.6)
    assert made.consensus == pytest.approx(0.5)
    assert made.confidence == pytest.approx(0.4)


def test_a_record_has_the_classes_that_may_be_right():
    logs = [[np.log([0.7, 0.2, 0.1])], [np.log([0.1, 0.5, 0.4])]]  # 0.4, 0.35, 0.25 on the mean
    for least, expected in ((0.25, ["a", "b", "c"]), (0.3, ["a", "b"]), (0.9, ["a"])):
        scores = {mode: ConformalScores(9, (9,), (-least,)) for mode in ("mean", "majority")}
        made = answer(logs, task="multiclass", conformal=scores)
        assert made.prediction_set == [expected]
        assert made.interval is None
        # Votes are no probabilities: the set is that of the mean, and what the votes decided.
        assert answer(logs, "majority", "multiclass", conformal=scores).prediction_set == [expected]
    assert answer(logs, task="multiclass").prediction_set is None


def test_a_set_is_of_what_was_scored_before_calibration_and_holds_the_decision():
    # Scored at .6 and .4, of which the first is enough; calibrated, the other class is decided.
    made = answer(
        binary(0.6, 0.6),
        calibrators={"mean": Calibrator("platt", 1.0, -1.0)},
        conformal={"mean": ConformalScores(9, (9,), (-0.5,))},
    )
    assert made.decision == ["0"]
    assert made.prediction_set == [[0, 1]]


def test_values_have_an_interval_and_no_confidence():
    made = answer(
        [[[1.0]], [[2.0]], [[4.5]]],
        task="regression",
        conformal={"mean": HALF},
        residual_median=0.5,
        error_correlation=0.4,
    )
    assert made.prediction == pytest.approx((12 + 14 + 19) / 3)
    assert made.interval[0].model_dump() == pytest.approx({"low": 13.5, "high": 16.5, "level": 0.9})
    assert made.confidence is None
    assert made.confidences == [None]
    assert (made.confidence_source, made.decision, made.classes) == ("none", None, None)
    assert made.error_correlation == 0.4
    median = answer([[[1.0]], [[2.0]], [[4.5]]], "majority", task="regression")
    assert median.prediction == 14
    assert median.interval is None
    assert any("median" in warning for warning in median.warnings)


def test_a_list_is_answered_by_lists_even_of_one():
    one = answer(binary(0.9, 0.6), given=adapted(1, is_list=True))
    assert one.prediction is one.raw_prediction is one.individual_predictions is None
    assert one.predictions == pytest.approx([0.75])
    two = answer(
        [[[logit(0.9)], [logit(0.2)]], [[logit(0.7)], [logit(0.4)]]],
        given=adapted(2, is_list=True),
    )
    assert two.predictions == pytest.approx([0.8, 0.3])
    assert two.decision == ["1", "0"]
    assert two.confidences == pytest.approx([0.8, 0.7])
    assert two.confidence == pytest.approx(0.75)
    assert two.node_predictions["node_worker-1"] == pytest.approx([0.7, 0.4])


def test_per_node_values_of_large_lists_are_left_out_with_a_word():
    logits = [[[0.0]] * 2001] * 2
    made = answer(logits, given=adapted(2001, is_list=True))
    assert made.node_predictions is None
    assert any("2001 records x 2 nodes" in warning for warning in made.warnings)
    fewer = answer([[[0.0]] * 2000] * 2, given=adapted(2000, is_list=True))
    assert len(fewer.node_predictions["node_worker-0"]) == 2000


def test_equal_weights_are_no_independent_evidence():
    assert any("no independent evidence" in w for w in answer(binary(0.9, 0.9)).warnings)
    assert not any("no independent evidence" in w for w in answer(binary(0.9)).warnings)


def test_a_split_vote_on_classes_is_decided_by_the_mean():
    logs = [[np.log([0.5, 0.4, 0.1])], [np.log([0.1, 0.85, 0.05])]]
    made = answer(logs, "majority", task="multiclass")
    assert made.decision == ["b"]
    assert made.prediction == "b"
    assert made.confidence == pytest.approx(0.625)


LOW = DecisionRule(threshold=0.3)


def test_a_class_decided_below_one_half_is_as_sure_as_its_probability():
    made = answer(binary(0.4, 0.4, 0.28), rule=LOW)
    assert (made.decision, made.threshold, made.positive_class) == (["1"], 0.3, 1)
    assert made.prediction == made.confidence == pytest.approx(0.36)
    assert made.consensus == pytest.approx(2 / 3)
    assert made.warnings == ["from the adapter", "all nodes serve the same weights" + SAME]


SAME = ": their agreement is no independent evidence"


def test_what_is_missing_never_makes_a_decision_surer():
    below = answer(binary(0.4), rule=LOW, n_expected=2, given=adapted(coverage=0.5))
    assert below.confidence == pytest.approx(0.4)
    above = answer(binary(0.9), rule=LOW, n_expected=2, given=adapted(coverage=0.5))
    assert above.confidence == pytest.approx(0.5 + 0.4 / 4)


def test_a_majority_decided_at_a_threshold_is_as_sure_as_the_mean_is_of_its_decision():
    made = answer(binary(0.4, 0.32, 0.12), "majority", rule=LOW)
    assert (made.prediction, made.decision) == (pytest.approx(2 / 3), ["1"])
    assert made.confidence == pytest.approx(0.28)


def test_a_threshold_of_the_call_decides_this_call_and_is_named():
    usual = answer(binary(0.4, 0.2))
    made = answer(binary(0.4, 0.2), threshold=0.25)
    assert (usual.decision, usual.threshold) == (["0"], 0.5)
    assert (made.decision, made.threshold) == (["1"], 0.25)
    assert made.prediction == usual.prediction
    assert made.consensus == pytest.approx(0.5)
    (told,) = [text for text in made.warnings if "threshold" in text]
    assert told == "decided at this call's threshold 0.25; status reports what is decided at 0.5"
    same = answer(binary(0.4, 0.2), threshold=0.5)
    assert not any("threshold" in text for text in same.warnings)


def test_a_calibrated_answer_is_decided_at_the_threshold_of_the_call():
    lower = {"mean": Calibrator("platt", 1.0, -1.0)}
    assert answer(binary(0.5), calibrators=lower).prediction == pytest.approx(0.2689, abs=1e-4)
    assert answer(binary(0.5), calibrators=lower, threshold=0.26).decision == ["1"]
    assert answer(binary(0.5), calibrators=lower, threshold=0.27).decision == ["0"]


def test_the_probabilities_of_a_weighted_training_are_those_of_the_data():
    rule = DecisionRule(threshold=0.2, class_weight=(1.0, 4.0))
    made = answer(
        binary(0.5), rule=rule
    )  # half of the distribution in which class 1 counts 4 times
    assert made.prediction == pytest.approx(0.2)
    assert made.node_predictions["node_worker-0"] == pytest.approx(0.2)
    assert made.confidence == pytest.approx(0.2)
    assert made.decision == ["1"]


def test_of_several_weighted_classes_another_than_the_likeliest_may_be_decided():
    rule = DecisionRule(class_weight=(1.0, 1.0, 4.0))
    p = np.array([0.5, 0.25, 0.25]) * (1, 1, 4)  # what the weighted training learns
    made = answer([[list(np.log(p))]], task="multiclass", rule=rule)
    assert made.probabilities == [pytest.approx([0.5, 0.25, 0.25])]
    assert made.decision == [str(made.classes[2])]
    assert made.confidence == pytest.approx(0.25)
    assert (made.threshold, made.positive_class) == (None, None)
    assert any("need not be the most probable" in text for text in made.warnings)
