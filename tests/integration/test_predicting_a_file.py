"""A file is predicted into a file over standard streams, by real nodes, with progress on the way."""

import csv
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.doubles.limits import HANG_S
from tests.doubles.stdio_client import ServerProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nodes need Linux")

ROWS = 5000


def test_a_file_of_rows_becomes_a_file_of_the_numbers_that_replies_give(tmp_path: Path):
    data = tmp_path / "state" / "data"
    data.mkdir(parents=True)
    draw = np.random.Generator(np.random.PCG64(3))
    rows = draw.random((ROWS, 2)).tolist()
    lines = [f"{i},{a!r},{b!r},{int((a > 0.5) != (b > 0.5))}" for i, (a, b) in enumerate(rows)]
    (data / "in.csv").write_text("id,x0,x1,y\n" + "\n".join(lines) + "\n")
    command = [sys.executable, "-m", "flow_nexus_neural", "--state-dir", str(tmp_path / "state")]
    with ServerProcess(command, tmp_path, tmp_path / "stderr") as server:
        server.client.initialize()
        call = server.client.result
        cluster_id = call("neural_cluster_init", {"name": "xor", "seed": 7})["id"]
        layers = [{"type": "dense", "units": 8, "activation": "tanh"}]
        call("neural_node_deploy", {"cluster_id": cluster_id, "layers": layers, "count": 2})
        asked = {"cluster_id": cluster_id, "dataset": "in.csv", "epochs": 1, "target": "y"}
        call("neural_train_distributed", asked)
        status = {"training_status": "running"}
        while status["training_status"] == "running":
            wait = {"cluster_id": cluster_id, "wait_seconds": 20, "until": "done"}
            status = call("neural_cluster_status", wait)
        paths = {"input_path": "in.csv", "output_path": "out.csv"}
        asked = {"cluster_id": cluster_id, **paths}
        report = call("neural_predict_distributed", asked, _meta={"progressToken": "p"})
        output = report["output"]
        content = (data / "out.csv").read_bytes()
        assert (output["status"], output["rows_done"]) == ("written", ROWS)
        assert output["sha256"] == hashlib.sha256(content).hexdigest()
        found = list(csv.DictReader(content.decode().splitlines()))
        assert [int(row["row"]) for row in found] == list(range(ROWS))
        assert [row["id"] for row in found] == [row["row"] for row in found]
        records = [{"x0": a, "x1": b} for a, b in rows[2000:3000]]
        batch = {"cluster_id": cluster_id, "input_data": records, "deadline_ms": 10_000}
        reply = call("neural_predict_distributed", batch)
        part = found[2000:3000]
        assert [float(row["prediction"]) for row in part] == reply["predictions"]
        assert [float(row["confidence"]) for row in part] == reply["confidences"]
        told = [json.loads(line) for line in server.client.lines]
        steps = [m["params"] for m in told if m.get("method") == "notifications/progress"]
        assert steps
        assert all(step["total"] == ROWS for step in steps)
        again = server.client.call("neural_predict_distributed", asked)
        assert again["content"][0]["text"].startswith("invalid_arguments: 'out.csv' exists")
        outside = {
            "cluster_id": cluster_id,
            "input_path": "in.csv",
            "output_path": "/somewhere/out.csv",
        }
        refused = server.client.call("neural_predict_distributed", outside)["content"][0]["text"]
        assert refused.startswith("path_not_allowed: output_path")
        assert '"--allow-path", "/somewhere"' in refused
        assert sorted(path.name for path in data.iterdir()) == ["in.csv", "out.csv"]
        server.process.stdin.close()
        assert server.process.wait(HANG_S) == 0
