"""The engine over real nodes: it learns, and what it reports equals what others can compute and count."""

import json
import os
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import numpy as np
import pytest
from safetensors import safe_open
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from flow_nexus_neural.coordination.rounds import RoundPatience
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.patience import USUAL_PATIENCE, Deadline
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.errors import StateDirLocked
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.sim.simulated import World, blobs

LAYERS = (
    {"type": "dense", "units": 128, "activation": "relu"},
    {"type": "dense", "units": 64, "activation": "relu"},
    {"type": "dense", "units": 10, "activation": "softmax"},
)
SMALL = (
    {"type": "dense", "units": 16, "activation": "relu"},
    {"type": "dense", "units": 1, "activation": "sigmoid"},
)


CALM = replace(USUAL_PATIENCE, rounds=RoundPatience(least_s=HANG_S), link=Deadline(HANG_S, None))
"""Who is slow is waited for, however busy the machine is."""


class CountingRuntime(LocalRuntime):
    """Counts, where nodes are spoken to, what the engine says that it counts."""

    def __init__(self, settings):
        super().__init__(settings)
        self.counted, self.read_bytes = [], 0

    async def start(self, spec, **more):
        node = await super().start(spec, **more)
        grant, call = node.grant, node.call
        buffers = {}

        async def counted_grant(region):
            await grant(region)
            if region.writable or region.key.startswith(("reveal:", "proof:")):
                buffers[region.key] = region.nbytes
            else:  # the node reads it once
                self.read_bytes += region.nbytes

        async def counted_call(request, arrays=None):
            answer = await call(request, arrays)
            if request.kind == "train":  # the engine reads the node's buffer once
                self.read_bytes += buffers[request.publish]
            if request.kind == "reexecute":  # the verifier reads a revealed state each time
                self.read_bytes += buffers[request.state]
            return answer

        node.grant, node.call = counted_grant, counted_call
        self.counted.append(node)
        return node

    @property
    def frame_bytes(self):
        return sum(node.bytes_sent + node.bytes_received for node in self.counted)


@asynccontextmanager
async def local_world(state_dir, kind=CountingRuntime, **settings):
    options = Settings(state_dir=state_dir, predict_deadline_ms=20_000, **settings)
    runtime = kind(options)
    ports = Ports(patience=CALM)
    async with runtime, Engine.open(options, runtime=runtime, ports=ports) as engine:
        yield World(engine, runtime, None)


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def w(anyio_backend, tmp_path_factory):
    async with local_world(tmp_path_factory.mktemp("state")) as opened:
        yield opened


@pytest.fixture(scope="module")
def digits():
    """(inline training data, rows held out, their labels): 80/20 stratified, standardised."""
    x, y = load_digits(return_X_y=True)
    x, x_out, y, y_out = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)
    scaler = StandardScaler().fit(x)
    data = {"X": scaler.transform(x).tolist(), "y": y.tolist()}
    return data, scaler.transform(x_out).tolist(), y_out


async def held_out_accuracy(w, cluster, rows, labels):
    answer = await w.predict(cluster, rows, deadline_ms=20_000)
    return float(np.mean(np.array(answer.predictions) == labels))


def process_cpu_s(pid):
    """CPU seconds that the system has counted for a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def cpu_s(w, cluster):
    return sum(process_cpu_s(node.pid) for node in (await w.status(cluster)).nodes)


async def learn(w, data, workers, rate, **more):
    cluster = await w.cluster(workers, layers=LAYERS, seed=3)
    more = {"batch_size": 32, "learning_rate": rate} | more
    status = await w.train(cluster, data, **more)
    assert status.training_status == "completed", status.training_error
    return cluster, status


async def test_digits_are_learnt_centrally(w, digits):
    data, rows, labels = digits
    cluster, status = await learn(w, data, 1, 0.001, epochs=30, federated=False)
    assert status.training.strategy == "single_process"
    assert await held_out_accuracy(w, cluster, rows, labels) >= 0.965
    assert status.evaluation.baseline_accuracy < 0.12
    await w.terminate(cluster)


async def test_digits_are_learnt_by_five_workers_that_never_see_each_others_rows(w, digits):
    data, rows, labels = digits
    cluster, status = await learn(w, data, 5, 0.003, epochs=30, federated=True)
    assert await held_out_accuracy(w, cluster, rows, labels) >= 0.96
    shards = [node.rows for node in status.nodes]
    assert sum(shards) == 1035
    assert max(shards) - min(shards) < 60
    await w.terminate(cluster)


async def test_labels_without_meaning_are_not_learnt(w, digits):
    data, rows, labels = digits
    shuffled = np.random.Generator(np.random.PCG64(4)).permutation(data["y"]).tolist()
    shuffled = {"X": data["X"], "y": shuffled}
    cluster, status = await learn(w, shuffled, 2, 0.003, epochs=6, federated=True)
    assert await held_out_accuracy(w, cluster, rows, labels) < 0.2
    assert status.global_accuracy < 0.2
    await w.terminate(cluster)


async def test_more_epochs_cost_more_cpu_time_and_lower_the_loss(w, digits):
    data, _, _ = digits
    cluster = await w.cluster(1, layers=LAYERS, seed=3)
    spent, losses, steps = [await cpu_s(w, cluster)], [], []
    for epochs in (2, 20):
        # At a lower rate than the default the loss falls evenly, so that two single values compare.
        status = await w.train(
            cluster, data, epochs=epochs, federated=False, batch_size=16, learning_rate=0.001
        )
        spent.append(await cpu_s(w, cluster))
        losses.append(status.training.train_loss)
        steps.append(status.training.evidence.steps)
    assert steps == [130, 1300]
    assert spent[2] - spent[1] > 2 * (spent[1] - spent[0])
    assert losses[1] < losses[0] / 2
    await w.terminate(cluster)


def recomputed(file, row):
    """Class probabilities of a row, in plain numpy, from a checkpoint alone."""
    with safe_open(file, "np") as stored:
        header = json.loads(stored.metadata()["flow_nexus_neural"])
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    columns = header["schema"]["columns"]
    mean, sd = (np.array([c[name][0] for c in columns]) for name in ("mean", "sd"))
    # A constant column, sd 0, says nothing and is 0 for every row.
    scaled = np.where(sd > 0, (np.array(row) - mean) / np.where(sd > 0, sd, 1), 0)
    h = scaled.clip(-6, 6).astype("f4")
    for number in range(3):
        h = h @ tensors[f"layers.{number}.kernel"] + tensors[f"layers.{number}.bias"]
        h = np.maximum(h, 0) if number < 2 else h
    p = np.exp(h - h.max())
    return header["schema"]["classes"], p / p.sum()


async def test_a_prediction_can_be_computed_again_from_the_stored_file(w, digits):
    data, rows, _ = digits
    cluster, status = await learn(w, data, 2, 0.003, epochs=3, federated=True)
    state_dir = w.engine.context.settings.state_dir
    (file,) = status.serving.files.values()
    for row in rows[:5]:
        answer = await w.predict(cluster, row)
        classes, expected = recomputed(state_dir / file, row)
        assert answer.classes == classes
        assert np.abs(np.array(answer.probabilities[0]) - expected).max() < 1e-6
        assert answer.prediction == classes[expected.argmax()]
    await w.terminate(cluster)


async def test_communication_is_what_an_independent_count_gives(tmp_path):
    async with local_world(tmp_path) as w:
        cluster = await w.cluster(3, layers=SMALL)
        await w.deploy(cluster, "validator")
        await w.train(cluster, clients_per_round=2)
        await w.connect(cluster, "star")
        for _ in range(3):
            await w.predict(cluster)
        status = await w.status(cluster)
        assert w.runtime.read_bytes > 0
        # What was said before a node was the cluster's own: its announcement that it is ready.
        assert status.communication_bytes == w.runtime.frame_bytes + w.runtime.read_bytes
        parts = status.communication
        assert parts.train + parts.predict + parts.sync + parts.consensus == (
            status.communication_bytes
        )
        assert parts.predict > 0
        assert status.communication_mb == status.communication_bytes / 1e6


async def test_a_new_server_on_the_old_directory_answers_the_same_to_the_bit(tmp_path):
    record = [0.25, -1.5, 2.0]
    async with local_world(tmp_path) as w:
        cluster = await w.cluster(3, layers=SMALL)
        await w.train(cluster, blobs(400), epochs=4)
        before = await w.predict(cluster, record, deadline_ms=20_000)
        report = await w.start(cluster, blobs(400), epochs=900, patience=0)
        await w.rounds(cluster, 2)
        with pytest.raises(StateDirLocked, match="another server"):
            async with Engine.open(Settings(state_dir=tmp_path), runtime=w.runtime):
                pass
        interrupted = await w.predict(cluster, record, deadline_ms=20_000)
        assert interrupted.prediction != before.prediction
    async with local_world(tmp_path) as w:
        status = await w.status(cluster)
        assert status.training.training_id == report.training_id
        assert status.training_status == "running"  # it goes on until it is stopped
        # Stopped before its nodes are back, it would leave them to start on first use.
        await w.rounds(cluster, status.training.current_round + 1)
        await w.terminate(cluster, training_id=report.training_id)
        status = await w.status(cluster)
        assert (status.training_status, status.failed_nodes) == ("stopped", 0)
        assert status.training.resumed.times == 1
        with anyio.fail_after(HANG_S):
            first, second = [await w.predict(cluster, record, deadline_ms=20_000) for _ in range(2)]
        assert first.model_version == status.model_version
        assert first.prediction == second.prediction
        digest = first.bundle_sha
    async with local_world(tmp_path) as w:
        third = await w.predict(cluster, record, deadline_ms=20_000)
        assert (third.prediction, third.bundle_sha) == (first.prediction, digest)
