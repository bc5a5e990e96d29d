"""What an evaluation says of where its rows come from."""

import numpy as np
import pytest

from flow_nexus_neural.data.prepare import DataRequest, prepare
from flow_nexus_neural.engine.versions.evaluation import baseline_warnings, compare, measure, report
from flow_nexus_neural.engine.versions.served import serve_groups
from flow_nexus_neural.engine.versions.sureness import Sureness
from flow_nexus_neural.kernels.decision import MOST_PROBABLE, DecisionRule
from flow_nexus_neural.settings import Settings
from tests.unit.engine.building import bundle

INLINE = {"X": [[i % 2, (i // 2) % 2] for i in range(40)], "y": [i % 2 for i in range(40)]}


@pytest.mark.parametrize(
    ("dataset", "source"),
    [("synthetic:xor", "synthetic"), ("sklearn:breast_cancer", "builtin"), (INLINE, "user")],
)
def test_rows_are_the_users_only_when_the_user_gave_them(dataset, source, tmp_path):
    data = prepare(DataRequest(dataset=dataset), Settings(state_dir=tmp_path))
    test = data.parts["test"]
    outputs = {"c0": np.zeros((len(test.y), data.schema.n_outputs), "f4")}
    answers = serve_groups(bundle({"worker-0": 1.0}), data.schema, "mean", outputs, {}).final
    found = measure(data.schema, answers, test)
    made = report(
        data.schema,
        {"mean": found},
        sureness={"mean": Sureness(None)},
        description=data.description,
        rule=MOST_PROBABLE,
    )
    assert made.data_source == source
    assert made.test_rows == len(test.y)


def evaluated(rule, tmp_path, positive=None):
    """A model that says .4 for every row of a data set in which one row of five is of class 1."""
    rare = {"X": [[i % 7, i % 3] for i in range(100)], "y": [int(i % 5 == 0) for i in range(100)]}
    data = prepare(DataRequest(rare, positive_class=positive), Settings(state_dir=tmp_path))
    outputs = np.full((len(data.parts["test"].y), 1), np.log(0.4 / 0.6), "f4")
    served = bundle({"worker-0": 1.0}, rule=rule)
    answers = serve_groups(served, data.schema, "mean", {"c0": outputs}, {}).final
    found = measure(data.schema, answers, data.parts["test"])
    compared = compare(data.schema, found, data.parts)
    return report(
        data.schema,
        {"mean": found},
        sureness={"mean": Sureness(None)},
        description=data.description,
        rule=rule,
        compared=compared,
    )


def test_an_evaluation_says_how_was_decided(tmp_path):
    usual = evaluated(MOST_PROBABLE, tmp_path)
    assert (usual.positive_class, usual.threshold, usual.class_weight) == (1, 0.5, None)
    assert usual.confusion == [[16, 0], [4, 0]]
    other = evaluated(DecisionRule(0.3), tmp_path, positive=0)
    assert (other.positive_class, other.threshold) == (0, 0.3)
    assert other.confusion == [[0, 4], [0, 16]]  # of the class 0 called positive, each row as it
    weighted = evaluated(DecisionRule(0.2, (1.0, 4.0)), tmp_path)
    assert weighted.class_weight == {"0": 1.0, "1": 4.0}


def test_who_gives_up_accuracy_on_purpose_is_told_what_for(tmp_path):
    (plain,) = baseline_warnings(evaluated(MOST_PROBABLE, tmp_path))
    assert plain.endswith("accuracy 0.8 against 0.8")
    (told,) = baseline_warnings(evaluated(DecisionRule(0.3), tmp_path))
    assert told.endswith(
        "accuracy 0.2 against 0.8; threshold 0.3 gives up accuracy on purpose: the balanced accuracy is"
        " 0.5 against 0.5 of any constant answer"
    )
