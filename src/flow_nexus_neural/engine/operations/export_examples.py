"""A few rows with the answers of a cluster's own nodes, by which an export of its model is checked."""

from dataclasses import dataclass

import anyio
import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.artifacts.model import Examples
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.data.unscaling import unscaled
from flow_nexus_neural.engine.links.connect import link_as_before
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.lifecycle import revive
from flow_nexus_neural.engine.prediction.fan_out import FanOut
from flow_nexus_neural.engine.prediction.question import MAX_DEADLINE_S, Question
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.storage.prepared_data import read_prepared
from flow_nexus_neural.engine.versions.loading import expected_slots, serving_slots
from flow_nexus_neural.engine.versions.served import serve
from flow_nexus_neural.errors import StoreError
from flow_nexus_neural.vocabulary import DEFAULT_AGGREGATION

N_EXAMPLES = 8
COMEBACK_S = 30.0
PARTS = ("test", "select", "calib", "train")
"""From where rows are taken, the first part that has some."""


@dataclass(frozen=True)
class _Rows:
    x: NDArray[np.float32]
    symbols: tuple[str | None, ...]
    source: str


async def examples_of(
    cluster: LiveCluster, version: CommittedVersion
) -> tuple[Examples | None, str]:
    """Rows with the nodes' answers and where the rows are from; None and why there are no answers."""
    present = cluster.committed
    if present is None or version.version != present.version:
        return None, f"the nodes serve another version than {version.version}"
    if any(slot.state == "recovering" for slot in expected_slots(cluster, version)):
        with anyio.move_on_after(COMEBACK_S):
            await revive(cluster)
            cluster.context.spawn(link_as_before, cluster)
    rows = await cluster.context.offload_data(_example_rows, cluster, version)
    schema = version.schema
    raw = unscaled(schema, rows.x, rows.symbols)
    steps = schema.input.window or 1
    of = [symbol for symbol in rows.symbols for _ in range(steps)]
    x, _ = schema.scaler.scale(raw.reshape(len(of), -1), of)
    x = x.reshape(rows.x.shape)
    by_key = await _answers_of_nodes(cluster, version, x)
    missing = sorted(set(version.members.values()) - by_key.keys())
    if missing:
        return (
            None,
            f"no node answered for network {missing[0]}: nothing to compare the export with",
        )
    keys = [version.members[slot] for slot in version.bundle.slot_weights]
    logits = np.stack([by_key[key] for key in keys])
    weights = list(version.bundle.slot_weights.values())
    served = serve(version.bundle, schema, DEFAULT_AGGREGATION, logits, weights).final
    answers = served.values[:, None] if served.probabilities is None else served.probabilities
    return Examples(raw, rows.symbols, x, by_key, answers, served.decisions), rows.source


async def _answers_of_nodes(
    cluster: LiveCluster, version: CommittedVersion, x: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """Logits by network, of the first node in slot order that answered for it."""
    fan_out = FanOut(cluster, Question(version, x, usual=True, by_nodes=True))
    asked = serving_slots(cluster, version)
    await fan_out.ask(asked, MAX_DEADLINE_S, None, len(asked))
    found: dict[str, NDArray[np.float64]] = {}
    for slot in asked:
        if slot.name in fan_out.logits:
            found.setdefault(version.members[slot.name], fan_out.logits[slot.name])
    return found


def _example_rows(cluster: LiveCluster, version: CommittedVersion) -> _Rows:
    """The last rows of the training's test part, else rows that only the scaling tells of. Blocking."""
    training = cluster.state.latest_training
    if training is not None and training.data is not None:
        try:
            data = read_prepared(cluster.context.checkpoints, training.data)
        except StoreError:
            return _made_up(version.schema)
        part = next((name for name in PARTS if name in data.parts and len(data.parts[name])), None)
        if data.schema.digest == version.schema.digest and part is not None:
            rows = data.parts[part]
            last = rows.at(slice(max(len(rows) - N_EXAMPLES, 0), None))
            names = (*version.schema.symbols, None)
            symbols = tuple(names[index] if index >= 0 else None for index in last.symbols)
            return _Rows(last.x, symbols, f"{part} rows of the training")
    return _made_up(version.schema)


def _made_up(schema: DataSchema) -> _Rows:
    """Rows over two standard deviations around the training mean, the same ones each time."""
    shape = (N_EXAMPLES, *schema.input.row_shape)
    places = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    symbols: tuple[str | None, ...] = tuple([*schema.symbols, None][:1] * N_EXAMPLES)
    x = (2.0 * np.sin(1.0 + 0.7 * places)).astype(np.float32)
    return _Rows(x, symbols, "values spread around the training mean; no rows of it are stored")
