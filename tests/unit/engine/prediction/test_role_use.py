"""Which network had a say in a reply, and what is said where it had none."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.coordination.role_gates import Gate, closed
from flow_nexus_neural.engine.prediction.answer import Answer
from flow_nexus_neural.engine.prediction.reply import as_measured, served
from flow_nexus_neural.engine.prediction.role_use import (
    combined_by,
    of_confidence,
    of_ensemble,
    without_stacker,
)
from flow_nexus_neural.engine.prediction.weighting import Weighting
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.engine.state.roles import Learnt
from flow_nexus_neural.kernels.calibration import Calibrator
from tests.unit.engine.building import bundle, committed, network, slot
from tests.unit.engine.prediction.test_reply import adapted
from tests.unit.engine.state.test_roles import roles

NAMES = ("worker-0", "worker-1")
OF_STACK, OF_WEIGHTED = Calibrator("temperature", 0.3, 0.0), Calibrator("temperature", 0.8, 0.0)


def answer(aggregation="ensemble", made_of=None, **more):
    own = {slot_name: 0.5 for slot_name in NAMES}  # noqa: C420  one share each
    calibrators = {"ensemble": OF_STACK, "weighted": OF_WEIGHTED}
    of = bundle(own, roles=roles() if made_of is None else made_of, calibrators=calibrators)
    values = {
        "committed": committed([network(slots=NAMES)], of),
        "request": PredictRequest(cluster_id="c", input_data=[0, 0], aggregation=aggregation),
        "adapted": adapted(),
        "slots": [slot(name) for name in NAMES],
        "logits": {name: np.zeros((1, 1)) for name in NAMES},
        "latency_ms": {},
        "excluded": {},
        "weighting": Weighting(own),
        "elapsed_ms": 1.0,
    }
    return Answer(**values | more)


def test_stacking_networks_are_asked_for_an_ensemble_whose_gate_is_open():
    assert answer().stacks
    assert not answer("mean").stacks
    assert not answer(made_of=roles(gates={"stacker": closed("why")})).stacks
    assert combined_by(answer("mean")) is None
    assert combined_by(answer()) == "fallback"
    assert combined_by(answer(stacked=np.zeros((1, 1)))) == "net"


def test_nobody_is_asked_where_too_few_answered_to_decide_anything():
    few = answer()
    robust = replace(few.committed, bundle=replace(few.committed.bundle, robust=True))
    slots = [slot(f"worker-{k}") for k in range(4)]
    assert not replace(few, committed=robust, slots=slots).stacks, "2 of 4, where one may lie"


def test_without_its_networks_an_ensemble_is_calibrated_as_the_weighted_mean_that_it_is():
    of = answer().committed.bundle
    assert without_stacker(of).calibrators == {"ensemble": OF_WEIGHTED, "weighted": OF_WEIGHTED}
    unused = answer(made_of=roles(gates={"stacker": closed("why")})).committed.bundle
    assert without_stacker(unused) is unused, "its calibrator is of the weighted mean already"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (answer(made_of=roles(gates={})), "without a trained aggregator"),
        (answer(role_excluded={"aggregator-0": "node_died"}), "answered (aggregator-0: node_died)"),
        (
            answer(made_of=roles(gates={"stacker": Gate(False, "not better", 0.5, 0.4, 0.1, 90)})),
            "(not better, loss 0.5 against 0.4 on 90 rows)",
        ),
    ],
)
def test_a_reply_says_why_an_ensemble_is_a_weighted_mean(made, said):
    (text,) = of_ensemble(made)
    assert said in text
    assert text.endswith("a mean of logits with equal weights")


def test_it_says_nothing_where_the_network_answered_or_none_was_wanted():
    assert of_ensemble(answer(stacked=np.zeros((1, 1)))) == []
    assert of_ensemble(answer("mean")) == []


TWO_OF_EACH = roles(
    networks={
        name: network(name, (name,), digest=name) for name in ("agg-0", "agg-1", "val-0", "val-1")
    },
    learnt={
        f"{short}-{k}": Learnt(purpose, 100, 0.4, f"{short}-{k}")
        for short, purpose in (("agg", "stacker"), ("val", "confidence"))
        for k in (0, 1)
    },
)


def test_a_validator_that_does_not_answer_changes_nothing_of_the_answer_itself():
    heard = answer(made_of=TWO_OF_EACH, stacked=np.full((1, 1), 2.0))
    deaf = replace(heard, role_excluded={"val-0": "node_died", "val-1": "node_died"})
    assert as_measured(deaf)
    assert served(deaf).final.values == served(heard).final.values
    assert served(deaf).calibrated
    assert not as_measured(replace(heard, role_excluded={"agg-1": "node_died"}))


def test_some_of_several_that_do_not_answer_are_named_with_what_that_changes():
    stacked = answer(made_of=TWO_OF_EACH, stacked=np.zeros((1, 1)), sure=np.array([0.8]))
    assert (of_ensemble(stacked), of_confidence(stacked)) == ([], [])
    lacking = replace(stacked, role_excluded={"agg-1": "node_died", "val-0": "too late"})
    (of_one,), (of_other,) = of_ensemble(lacking), of_confidence(lacking)
    assert of_one.startswith("1 of 2 aggregator nodes answered (agg-1: node_died)")
    assert of_other.startswith("1 of 2 validator nodes answered (val-0: too late)")


def test_values_are_not_called_logits():
    made = answer(made_of=roles(gates={}))
    schema = made.committed.schema.model_copy(update={"task": "regression"})
    (text,) = of_ensemble(replace(made, committed=replace(made.committed, schema=schema)))
    assert "a mean of values with" in text
