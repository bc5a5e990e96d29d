"""The predictor is one file that answers without this project; a broken one is noticed."""

import json
import subprocess
import sys

import numpy as np
import pytest

from flow_nexus_neural.artifacts.predictor_file import PredictorFile
from flow_nexus_neural.errors import StoreCorrupt
from tests.doubles.limits import HANG_S
from tests.unit.artifacts.building import CASES, model_and_examples


def test_it_answers_as_the_cluster_and_knows_every_layer():
    model, examples = model_and_examples(**CASES["every layer"])
    made = PredictorFile().render(model)
    assert "flow_nexus_neural" not in made.files["predictor.py"].decode()
    again = PredictorFile().recompute(model, made.files, examples)
    assert np.abs(again.answers - again.expected).max() < 1e-6
    broken = made.files["predictor.py"].replace(b"import numpy as np", b"import nump as np", 1)
    with pytest.raises(StoreCorrupt, match=r"does not run: .*nump"):
        PredictorFile().recompute(model, {"predictor.py": broken}, examples)


def test_as_a_program_it_reads_records_by_name_with_their_symbol(tmp_path):
    model, examples = model_and_examples(**{**CASES["prices of symbols"], "rows": 3})
    path = tmp_path / "predictor.py"
    path.write_bytes(PredictorFile().render(model).files["predictor.py"])
    names = [column.name for column in model.schema.columns]
    records = []
    for row, symbol in zip(examples.rows, examples.symbols, strict=True):
        steps = [
            {name: None if np.isnan(v) else v for name, v in zip(names, step, strict=True)}
            for step in row
        ]
        records.append({"window": steps, "symbol": symbol})
    done = subprocess.run(
        [sys.executable, "-I", str(path)],
        input=json.dumps(records),
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_S,
    )
    told = json.loads(done.stdout)
    assert told["classes"] == ["no", "yes"]
    assert np.abs(np.array(told["probabilities"]) - examples.answers).max() < 1e-6
    assert told["prediction"] == [("no", "yes")[int(p[1] >= 0.5)] for p in examples.answers]
