"""Two of seven clients lie about their data: what that does to the plain mean, and to byzantine consensus.

No node misbehaves. Both liars flip every label and hold eight times as many rows as the others, so that a
mean by rows listens to them most of all.
"""

from pathlib import Path

import numpy as np

from client import Neural, Reply
from console import evidence

CLIENTS, LIARS = 7, ("station_2", "station_5")
ROWS, FLOOD, TEST_ROWS = 40, 8, 300
LAYERS = [{"type": "dense", "units": 32, "activation": "relu"}] * 2
SURVIVED, COLLAPSED = 0.8, 0.5


def write_clients(folder: Path, seed: int) -> None:
    """A file per client, and test rows of which nobody flipped a label: is a point in opposite quadrants?"""
    draw = np.random.default_rng(seed)
    for part in ("train", "test"):
        (folder / part).mkdir()
    for name in (f"station_{number}" for number in range(CLIENTS)):
        lies = name in LIARS
        text = _points(draw, ROWS * (FLOOD if lies else 1), flipped=lies)
        (folder / "train" / f"{name}.csv").write_text(text)
    (folder / "test" / "all.csv").write_text(_points(draw, TEST_ROWS, flipped=False))


async def survive_liars(server: Neural, folder: Path, seed: int) -> None:
    """Train by the mean and by what byzantine consensus does by default; print what each learnt."""
    write_clients(folder, seed)
    mean = await train(server, folder, seed, "federated_averaging")
    evidence("mean by rows", f"accuracy {mean['global_accuracy']:.3f} on honest test rows")
    robust = await train(server, folder, seed, None)
    evidence("byzantine consensus", f"accuracy {robust['global_accuracy']:.3f} on the same rows")
    seen = robust["consensus_report"]["byzantine"]
    named = sorted(name for suspect in seen["suspected"] for name in suspect["clients"])
    evidence("its rule, its suspects", f"{seen['rule_last']}, {', '.join(named)}")
    if not mean["global_accuracy"] < COLLAPSED < SURVIVED < robust["global_accuracy"]:
        raise SystemExit("the attack did not harm the mean, or harmed the robust rule too")


async def train(server: Neural, folder: Path, seed: int, method: str | None) -> Reply:
    """Train seven new workers, each on one client's rows, and return the status at the end."""
    name = f"stations-{method or 'default'}"
    cluster = await server.call("neural_cluster_init", name=name, consensus="byzantine", seed=seed)
    here = {"cluster_id": cluster["id"]}
    await server.call("neural_node_deploy", **here, role="worker", layers=LAYERS, count=CLIENTS)
    await server.call("neural_cluster_connect", **here)
    await server.call(
        "neural_train_distributed",
        **here,
        dataset=str(folder),
        target="same",
        federated=True,
        rounds=10,
        local_epochs=5,
        clients_per_round=CLIENTS,
        batch_size=16,
        learning_rate=0.02,
        aggregation_method=method,
    )
    status: Reply = {"training_status": "running"}
    while status["training_status"] == "running":
        status = await server.call("neural_cluster_status", **here, wait_seconds=25, until="done")
    await server.call("neural_cluster_terminate", **here)
    return status


def _points(draw: np.random.Generator, rows: int, *, flipped: bool) -> str:
    points = draw.uniform(-1, 1, (rows, 2))
    same = (points[:, 0] * points[:, 1] > 0) != flipped
    lines = [f"{x:.4f},{y:.4f},{int(of)}" for (x, y), of in zip(points, same, strict=True)]
    return "\n".join(["east,north,same", *lines]) + "\n"
