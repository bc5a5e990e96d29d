"""Draws the pictures of docs/seeing.md: a real training on the digits, by `python -m readme.pictures`."""

import io
import tempfile
from pathlib import Path

import anyio
from PIL import Image

from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.requests import (
    ConnectRequest,
    DeployRequest,
    InitRequest,
    PlotRequest,
    StatusRequest,
    TrainRequest,
)
from flow_nexus_neural.settings import Settings

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
KINDS = ("learning_curve", "topology", "reliability", "confusion")
MAX_BYTES = 60_000
LAYERS = ({"type": "dense", "units": 32, "activation": "relu"}, {"type": "dense", "units": 10})


async def main() -> None:
    with tempfile.TemporaryDirectory() as state:
        async with Engine.open(Settings(state_dir=Path(state))) as engine:
            asked = InitRequest(name="digits", topology="ring", seed=7, daa_enabled=False)
            cluster = (await engine.init_cluster(asked)).cluster_id
            for _ in range(4):
                await engine.deploy_node(
                    DeployRequest(cluster_id=cluster, role="worker", layers=LAYERS)
                )
            await engine.connect(ConnectRequest(cluster_id=cluster))
            training = TrainRequest(
                cluster_id=cluster, dataset="sklearn:digits", epochs=12, federated=True
            )
            await engine.train(training)
            wait = StatusRequest(cluster_id=cluster, wait_seconds=25, until="done")
            while (await engine.status(wait)).training_status == "running":
                pass
            for kind in KINDS:
                made = await engine.plot(PlotRequest(cluster_id=cluster, kind=kind, format="png"))
                path = FOLDER / f"{kind}.png"
                drawn = Image.open(io.BytesIO(made.content)).convert("RGB")
                drawn.quantize(256, dither=0).save(path, optimize=True)
                if path.stat().st_size > MAX_BYTES:
                    raise SystemExit(f"{path} is too large: {path.stat().st_size} bytes")
                print(path.name, path.stat().st_size)


if __name__ == "__main__":
    anyio.run(main)
