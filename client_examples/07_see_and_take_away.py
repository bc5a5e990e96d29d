"""Plots, a file predicted to a file, versions and a roll back, and the model taken to another cluster."""

import json
import tempfile
from pathlib import Path

import anyio
import numpy as np

from client import Neural, ToolFailed, neural_server
from console import evidence, flags, heading, number

LAYERS = [{"type": "dense", "units": 16, "activation": "relu"}]
PRIVACY = {"mode": "record_dp", "noise_multiplier": 0.6, "clip_norm": 1.0}


async def main(epochs: int) -> None:
    """Work below a folder of its own, which the server may read and write."""
    with tempfile.TemporaryDirectory(prefix="flow-nexus-neural-files-") as folder:
        async with neural_server("--allow-path", folder) as server:
            cluster = await train(server, Path(folder), epochs)
            await see(server, Path(folder), cluster)
            await go_back(server, cluster)
            await take_away(server, Path(folder), cluster)


async def train(server: Neural, folder: Path, epochs: int) -> dict[str, str]:
    """Train two nodes on a file, with privacy; the cluster's id as an argument of calls."""
    points = np.random.default_rng(0).uniform(-1, 1, size=(600, 2)).round(3)
    rows = [f"{x},{y},{int(np.hypot(x, y) < 0.8)}" for x, y in points]
    (folder / "points.csv").write_text("\n".join(["x,y,inside", *rows]) + "\n")
    cluster = {"cluster_id": (await server.call("neural_cluster_init", name="seen"))["id"]}
    for _ in range(2):
        await server.call("neural_node_deploy", **cluster, layers=LAYERS)
    training = {"dataset": str(folder / "points.csv"), "epochs": epochs, "learning_rate": 0.05}
    await server.call("neural_train_distributed", **cluster, **training, privacy=PRIVACY)
    done = {"wait_seconds": 25, "until": "done"}
    while (status := await server.call("neural_cluster_status", **cluster, **done))["timed_out"]:
        pass
    if status["training_error"]:
        raise SystemExit(status["training_error"])
    return cluster


async def see(server: Neural, folder: Path, cluster: dict[str, str]) -> None:
    """A picture with the same in words, and predictions from file to file."""
    heading("see it")
    picture = {"kind": "learning_curve", "path": str(folder / "curve.png")}
    try:
        words = await server.words("neural_cluster_plot", **cluster, **picture)
    except ToolFailed:  # pictures need the extra `plot`; words do not
        words = await server.words("neural_cluster_plot", **cluster, format="text")
    evidence("learning curve", f"{len(words.split())} words say the same")
    made = {"input_path": str(folder / "points.csv"), "output_path": str(folder / "answers.csv")}
    reply = await server.call("neural_predict_distributed", **cluster, **made)
    evidence("predicted to a file", f"{reply['output']['rows']} rows")


async def go_back(server: Neural, cluster: dict[str, str]) -> None:
    """Put an earlier version in force again, under a new number."""
    heading("go back")
    versions = (await server.call("neural_cluster_status", **cluster, detail="versions"))[
        "versions"
    ]
    evidence("versions kept", len(versions))
    oldest = versions[-1]["version"]
    back = {"restore": cluster["cluster_id"], "version": oldest}
    await server.call("neural_cluster_init", **back)
    status = await server.call("neural_cluster_status", **cluster, detail="versions")
    evidence("restored", f"version {oldest} is in force as version {status['model_version']}")


async def take_away(server: Neural, folder: Path, cluster: dict[str, str]) -> None:
    """Export, and import into another cluster, which answers the same."""
    heading("take it away")
    privacy = {}
    for form, name in (("safetensors", "model"), ("predictor", "model.py")):
        where = {"format": form, "path": str(folder / name)}
        out = await server.call("neural_model_export", **cluster, **where)
        privacy = out["privacy"]
        evidence(
            form,
            f"{len(out['files'])} files, nodes differ by {out['verified']['max_difference']:.0e}",
        )
    evidence("privacy in the export", f"{privacy['mode']}, epsilon {number(privacy['epsilon'], 3)}")
    card = (folder / "model" / "README.md").read_text()
    evidence("and in its model card", privacy["mode"] in card)
    twin = await server.call("neural_model_import", path=str(folder / "model"), name="twin")
    answers = [
        await server.call("neural_predict_distributed", cluster_id=own, input_data=[0.1, 0.0])
        for own in (cluster["cluster_id"], twin["cluster_id"])
    ]
    same = json.dumps(answers[0]["prediction"]) == json.dumps(answers[1]["prediction"])
    evidence("imported answers the same", same)


if __name__ == "__main__":
    anyio.run(main, flags(__doc__, epochs=6).epochs)
