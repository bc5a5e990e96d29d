"""What confinement costs: time and processor time until a node is ready, and an optimiser step inside one.

python -m bench.overhead [--quick]

Every sample is a fresh fork of one warm process, confined or not, in random order. The bare contender is
measured twice: a ratio inside the spread of the two means that nothing can be told apart.
"""

import argparse
import gc
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from pydantic import JsonValue

from bench.measure import Record, interleave, load, record
from bench.starts import measure_starts
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.node.confinement.apply import Limits, confine, run_probes
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.node.warmup import warm_up
from flow_nexus_neural.protocol.messages import Build, Pass, Train
from flow_nexus_neural.protocol.plan import InputSpec
from flow_nexus_neural.runtime.process.environment import ENVIRONMENT

BARE, CONTROL, CONFINED = "bare fork", "bare fork, again", "confined"
CONTENDERS = (BARE, CONTROL, CONFINED)
LIMITS = Limits(memory_mb=1024, cpu_s=3600, nofile=96)
BATCH, ROWS = 32, 3200
LAYERS: list[dict[str, JsonValue]] = [
    {"type": "dense", "units": 64, "activation": "relu"},
    {"type": "dense", "units": 64, "activation": "relu"},
]
INPUT = InputSpec(vector_length=16, n_scalars=0)


class Sample(NamedTuple):
    """One child: from the fork to ready, its whole processor time, and what its work measured."""

    ready_ms: float
    cpu_ms: float
    work_ms: float


def measure_overhead(*, spawns: int, trainings: int) -> list[Record]:
    """Fork `spawns` nodes and train `trainings` times per contender.

    Ratios are to the bare fork.
    """
    warm_up()
    gc.collect()
    gc.freeze()
    started = load()
    starts: dict[str, list[Sample]] = {name: [] for name in CONTENDERS}
    trained: dict[str, list[Sample]] = {name: [] for name in CONTENDERS}
    with _environment_of_a_zygote():
        interleave(CONTENDERS, spawns, lambda name: starts[name].append(_in_child(name, _nothing)))
        interleave(
            CONTENDERS, trainings, lambda name: trained[name].append(_in_child(name, _ms_per_step))
        )
    given = {"load_start": started, "repeats": spawns}
    return [
        *_records("time to a ready node", starts, "ready_ms", **given),
        *_records("processor time to a ready node", starts, "cpu_ms", **given),
        *_records("optimiser step", trained, "work_ms", load_start=started, repeats=trainings),
    ]


@contextmanager
def _environment_of_a_zygote() -> Iterator[None]:
    """Nodes find few variables, and none to remove."""
    ours = dict(os.environ)
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(ours)


def _records(work: str, samples: dict[str, list[Sample]], field: str, **more: Any) -> list[Record]:
    values = {name: [getattr(one, field) for one in taken] for name, taken in samples.items()}
    middle = {name: statistics.median(taken) for name, taken in values.items()}
    return [
        record(
            "overhead",
            work,
            name,
            taken,
            unit="ms",
            ratio_to_reference=middle[name] / middle[BARE],
            reference=BARE,
            controls_spread=middle[CONTROL] / middle[BARE],
            **more,
        )
        for name, taken in values.items()
    ]


def _in_child(contender: str, work: Callable[[], float]) -> Sample:
    reader, writer = os.pipe()
    parent = os.getpid()
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        try:
            if contender == CONFINED:
                confine(LIMITS, keep_fds=(2, writer), expected_ppid=parent)
                run_probes()
            os.write(writer, b"r")
            os.write(writer, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.read(reader, 1)
    ready_ms = (time.perf_counter() - start) * 1e3
    answer = b""
    while chunk := os.read(reader, 64):
        answer += chunk
    os.close(reader)
    _, _, used = os.wait4(pid, 0)
    return Sample(ready_ms, (used.ru_utime + used.ru_stime) * 1e3, float(json.loads(answer)))


def _nothing() -> float:
    return 0.0


def _ms_per_step() -> float:
    """Wall time of a step of Adam on a small network, over one pass, after one pass to warm up."""
    plan = plan_network(
        parse_layers(LAYERS).layers, input=INPUT, task="binary", n_outputs=1, max_parameters=10**6
    ).plan
    draw = np.random.Generator(np.random.PCG64(1))
    sizes = {"params": plan.n_params, "buffers": plan.n_buffers}
    sizes |= {"m": plan.n_params, "v": plan.n_params}
    x = draw.standard_normal((ROWS, *INPUT.row_shape)).astype(np.float32)
    state = {name: np.full(size, 0.01, np.float32) for name, size in sizes.items()}
    service = NodeService(node_id="bench", incarnation=1, seed=1)
    service.attach("shard", {"x": x, "y": (x[:, 0] > 0).astype(np.float32)}, writable=False)
    service.attach("base", state, writable=False)
    service.attach("publish", {name: np.zeros_like(a) for name, a in state.items()}, writable=True)
    service.handle(Build(network="net", plan=plan, seed=1), {}, lambda: False)
    train = Train(
        network="net",
        base="base",
        opt_step=0,
        shard="shard",
        publish="publish",
        optimizer="adam",
        learning_rate=1e-3,
        batch_size=BATCH,
        passes=(Pass(order_seed=2),),
        dropout_seed=3,
    )
    service.handle(train, {}, lambda: False)
    start = time.perf_counter()
    reply, _ = service.handle(train, {}, lambda: False)
    if reply.kind != "trained":
        raise RuntimeError(f"training answered {reply!r}")
    return (time.perf_counter() - start) * 1e3 / reply.steps


def main() -> None:
    """Measure, write `overhead.json`, and say the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats: about ten seconds")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    given = parser.parse_args()
    records = measure_overhead(
        spawns=30 if given.quick else 200, trainings=8 if given.quick else 60
    ) + measure_starts(repeats=5 if given.quick else 30)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "overhead.json"
    path.write_text(json.dumps([one.model_dump() for one in records], indent=1) + "\n")
    for one in records:
        ratio = (
            ""
            if one.ratio_to_reference is None
            else f", x{one.ratio_to_reference:.3f}, controls x{one.controls_spread:.3f}"
        )
        print(f"{one.work}, {one.contender}: median {one.median:.3f} ms{ratio}")


if __name__ == "__main__":
    main()
