"""What an evaluation says of where its rows come from."""

import numpy as np
import pytest

from flow_nexus_neural.data.prepare import DataRequest, prepare
from flow_nexus_neural.engine.versions.evaluation import measure, report
from flow_nexus_neural.engine.versions.served import serve_groups
from flow_nexus_neural.kernels.decision import MOST_PROBABLE
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
    made = report(data.schema, {"mean": found}, description=data.description, rule=MOST_PROBABLE)
    assert made.data_source == source
    assert made.test_rows == len(test.y)
