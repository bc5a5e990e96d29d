"""Reads every byte that a server process holds while it sums under masks, and searches single updates."""

import os
import sys
from pathlib import Path

import anyio
import numpy as np
import pytest

from flow_nexus_neural.kernels.secure.masks import decode, encode
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.protocol.messages import Train
from flow_nexus_neural.runtime.inproc.runtime import InprocRuntime
from tests.doubles.held_server import COMMAND, ROOT, held_after
from tests.doubles.stdio_client import META, ServerProcess
from tests.integration.product import product

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

ROUNDS, WORKERS = 5, 3
HELD_AFTER = 3
"""The round after which the server's memory is read while it trains."""
CLUSTER = {"name": "masked", "seed": 5, "daaEnabled": False, "consensus": "raft"}
LAYERS = [{"type": "dense", "units": 24, "activation": "tanh"}]
TRAINING = {
    "dataset": "synthetic:xor#rows=300",
    "federated": True,
    "rounds": ROUNDS,
    "local_epochs": 2,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "refit": False,
}
PLACES = (0, 8, 40)
"""Where parts of four numbers are taken from a vector: none is equal to another by chance."""
BLOCK = 1 << 18
"""Bytes that are searched at a time."""


class Notes:
    """What every worker made of each round, from the same training inside this process."""

    def __init__(self) -> None:
        self.bases: list[np.ndarray] = []
        self.made: list[dict[str, np.ndarray]] = []
        self.rows: dict[str, int] = {}

    def service(self, spec):
        notes = self

        class Watched(NodeService):
            def handle(self, request, arrays, poll):
                reply, sent = super().handle(request, arrays, poll)
                if isinstance(request, Train) and reply.kind == "trained":
                    number = sum(spec.slot in made for made in notes.made)
                    if number == len(notes.made):
                        notes.made.append({})
                        notes.bases.append(self._regions[request.base].arrays["params"].copy())
                    weights = self._held[request.network].workspace.weights
                    notes.made[number][spec.slot] = weights.params.numpy().copy()
                    shard = self._regions[request.shard].arrays
                    notes.rows[spec.slot] = len(next(iter(shard.values())))
                return reply, sent

        return Watched(node_id=spec.node_id, incarnation=spec.incarnation, seed=spec.seed)

    def encoded(self, number: int) -> dict[str, np.ndarray]:
        """The updates of a round as fixed point, as they are before a mask is added."""
        whole = sum(self.rows.values())
        return {
            slot: encode(made - self.bases[number], self.rows[slot] / whole)
            for slot, made in self.made[number].items()
        }

    def needles(self) -> dict[bytes, tuple[str, str]]:
        """Parts of single updates: whose, and in what form."""
        found = {}
        for number, made in enumerate(self.made):
            words = self.encoded(number)
            for slot, state in made.items():
                change = state - self.bases[number]
                for form, vector in (("state", state), ("update", change), ("words", words[slot])):
                    for at in PLACES:
                        found[vector[at : at + 4].tobytes()] = (slot, form)
        assert len(found) == 9 * WORKERS * ROUNDS
        return found

    def mean(self, number: int) -> np.ndarray:
        """What the engine may know of a round: it fits only if the nodes encoded what `encoded` says."""
        total = np.zeros(self.bases[0].size, np.uint32)
        for words in self.encoded(number).values():
            total += words
        return (self.bases[number] + decode(total)).astype(np.float32)


def recomputed(folder: Path, *, secure: bool) -> Notes:
    notes = Notes()

    async def train() -> None:
        async with product(folder, InprocRuntime(notes.service)) as it:
            made = await it.result("cluster_init", **CLUSTER)
            for _ in range(WORKERS):
                await it.result("node_deploy", cluster_id=made["id"], layers=LAYERS)
            options = {**TRAINING, "secure_aggregation": secure}
            await it.result("train_distributed", cluster_id=made["id"], **options)
            assert (await it.done(made["id"]))["training_status"] == "completed"

    anyio.run(train)
    del notes.made[ROUNDS:]  # what a worker trains for itself after the rounds
    assert [len(made) for made in notes.made] == [WORKERS] * ROUNDS
    return notes


def held(pid: int) -> list[bytes]:
    """All that a process holds, in blocks: its mappings, and the memory files that it has open.

    Left out are blocks of zeros, and code and data of files that it maps without writing to them.
    """
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights, _, _, _, *path = line.split()
            if rights[0] != "r" or (rights[1] == "-" and rights[3] == "p" and path):
                continue
            start, end = (int(half, 16) for half in place.split("-"))
            try:
                memory.seek(start)
                found += blocks(memory.read(end - start))
            except (OSError, OverflowError):  # unmapped meanwhile, or the kernel's
                continue
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(f"/proc/{pid}/fd/{name}").startswith("/memfd:"):
                found += blocks(Path(f"/proc/{pid}/fd/{name}").read_bytes())
        except OSError:  # closed meanwhile
            continue
    return found


def blocks(content: bytes) -> list[bytes]:
    """Blocks that overlap by a needle less one byte."""
    cut = [content[at : at + BLOCK + 15] for at in range(0, len(content), BLOCK)]
    return [block for block in cut if np.frombuffer(block, np.uint8).any()]


def searched(snapshot: list[bytes], needles: dict[bytes, tuple[str, str]]) -> set[tuple[str, str]]:
    """Whose needles are there, at any alignment.

    A table of the first two bytes, then one of the next two, leave little to compare: time does not grow with
    the number of needles.
    """
    tables = np.zeros((2, 1 << 16), bool)
    for needle in needles:
        tables[[0, 1], np.frombuffer(needle, "<u2", 2)] = True
    found = set()
    for block in snapshot:
        for shift in (0, 1):
            pairs = np.frombuffer(block, "<u2", (len(block) - shift) // 2, shift)
            likely = np.flatnonzero(tables[0][pairs[:-1]])
            for at in 2 * likely[tables[1][pairs[likely + 1]]] + shift:
                whose = needles.get(block[at : at + 16])
                found |= {whose} if whose else set()
    return found


@pytest.mark.parametrize("secure", [True, False])
def test_no_byte_of_the_server_is_part_of_a_single_update(
    tmp_path: Path, secure: bool, monkeypatch: pytest.MonkeyPatch
):
    """The control: without masks the same search finds what every worker made."""
    notes = recomputed(tmp_path / "here", secure=secure)
    needles, mean = notes.needles(), notes.mean(ROUNDS - 1)
    command = [*COMMAND, "--state-dir", str(tmp_path / "state")]
    with (
        held_after(tmp_path, HELD_AFTER, monkeypatch) as go_on,
        ServerProcess(command, ROOT, tmp_path / "stderr") as server,
    ):

        def result(tool: str, **arguments):
            return server.client.result(f"neural_{tool}", arguments, _meta=META)

        cluster_id = result("cluster_init", **CLUSTER)["id"]
        for _ in range(WORKERS):
            result("node_deploy", cluster_id=cluster_id, layers=LAYERS)
        options = {**TRAINING, "secure_aggregation": secure}
        result("train_distributed", cluster_id=cluster_id, **options)
        snapshots, status = [], {"training_status": "running"}
        while status["training_status"] == "running":
            wait = {"wait_seconds": 20, "until": "done"} if snapshots else {"wait_seconds": 1}
            status = result("cluster_status", cluster_id=cluster_id, **wait)
            if not snapshots and status["training"]["current_round"] == HELD_AFTER:
                snapshots.append((status["training_status"], held(server.process.pid)))
                go_on()
        assert status["training_status"] == "completed", status["training_error"]
        after = held(server.process.pid)
    found = set().union(*(searched(one, needles) for one in [after, *(s for _, s in snapshots)]))
    parts = {mean[at : at + 4].tobytes(): ("all", "mean") for at in PLACES}
    sees_the_mean = bool(searched(after, parts))
    slots = {f"worker-{k}" for k in range(WORKERS)}
    if secure:
        assert snapshots[0][0] == "running"
        assert sees_the_mean  # so the search works there, and the nodes encoded what was searched
        assert not found
    else:
        assert {slot for slot, form in found if form == "state"} == slots
