"""What the allocator's settings cost an optimiser step of the document's worker: page faults and CPU time.

Every sample is a fresh process with a zygote's environment, in which one node's service trains. The settings
of the nodes are measured twice: a ratio inside the spread of the two means nothing. Not wall time, so that
the result also holds on a busy machine.
"""

import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bench.measure import Record, interleave, load, record
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.node.free_memory import return_free_memory
from flow_nexus_neural.node.service import NodeService
from flow_nexus_neural.node.warmup import warm_up
from flow_nexus_neural.protocol.messages import Build, Pass, Reply, Train
from flow_nexus_neural.protocol.plan import InputSpec
from flow_nexus_neural.runtime.process.environment import ENVIRONMENT
from trading.trader import ARCHITECTURES

OURS, CONTROL, MAPPED = "settings of the nodes", "settings of the nodes, again", "mapped each time"
CONTENDERS: Final[Mapping[str, Mapping[str, str]]] = {
    OURS: ENVIRONMENT,
    CONTROL: ENVIRONMENT,
    # A trim threshold alone fixes the mmap threshold at its 128 KiB.
    MAPPED: {
        **{name: value for name, value in ENVIRONMENT.items() if name != "MALLOC_MMAP_THRESHOLD_"},
        "MALLOC_TRIM_THRESHOLD_": "131072",
    },
}
ROWS, BATCH, PASSES = 512, 32, 2
INPUT = InputSpec(vector_length=0, n_scalars=16, window=20)


class Sample(NamedTuple):
    """One process: per optimiser step, and at rest afterwards."""

    faults: float
    cpu_ms: float
    system_ms: float
    rest_mb: float
    digest: str


def measure_allocator(*, repeats: int) -> list[Record]:
    """Train `repeats` times per contender. Ratios are to memory that is mapped each time.

    Raises:
        SystemExit: The settings changed what was learned.
    """
    load_start = load()
    taken: dict[str, list[Sample]] = {name: [] for name in CONTENDERS}
    interleave(CONTENDERS, repeats, lambda name: taken[name].append(_in_process(CONTENDERS[name])))
    digests = {one.digest for samples in taken.values() for one in samples}
    if len(digests) != 1:
        raise SystemExit(f"equal seeds gave {len(digests)} different weights")
    return [
        record(
            "allocator",
            work,
            name,
            [getattr(one, field) for one in samples],
            unit=unit,
            repeats=repeats,
            load_start=load_start,
            config="LSTM 256, attention 8 x 64; 20 steps x 16, batches of 32",
            ratio_to_reference=_median(samples, field) / _median(taken[MAPPED], field),
            reference=MAPPED,
            controls_spread=_median(taken[CONTROL], field) / _median(taken[OURS], field),
        )
        for field, work, unit in (
            ("faults", "page faults of an optimiser step", "faults"),
            ("cpu_ms", "processor time of an optimiser step", "ms"),
            ("system_ms", "processor time of the kernel in an optimiser step", "ms"),
            ("rest_mb", "private memory that a training leaves behind", "MB"),
        )
        for name, samples in taken.items()
    ]


def _median(samples: list[Sample], field: str) -> float:
    return statistics.median(getattr(one, field) for one in samples)


def _in_process(environment: Mapping[str, str]) -> Sample:
    paths = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-m", "bench.allocator"],
        env={**environment, **paths},
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        check=True,
    )
    return Sample(**json.loads(done.stdout))


def _sample() -> Sample:
    """Train in this process: once to warm up, then measured."""
    warm_up()
    at_start_mb = _private_mb()
    service, request = _prepared()
    _trained(service, request)
    before = resource.getrusage(resource.RUSAGE_SELF)
    steps, digest = _trained(service, request)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return_free_memory()
    user_s, system_s = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return Sample(
        faults=(after.ru_minflt - before.ru_minflt) / steps,
        cpu_ms=(user_s + system_s) * 1e3 / steps,
        system_ms=system_s * 1e3 / steps,
        rest_mb=_private_mb() - at_start_mb,
        digest=digest,
    )


def _prepared() -> tuple[NodeService, Train]:
    plan = plan_network(
        parse_layers(ARCHITECTURES["worker"]).layers,
        input=INPUT,
        task="binary",
        n_outputs=1,
        max_parameters=10**6,
    ).plan
    draw = np.random.Generator(np.random.PCG64(1))
    sizes = {"params": plan.n_params, "buffers": plan.n_buffers}
    x = draw.standard_normal((ROWS, *INPUT.row_shape)).astype(np.float32)
    params = (draw.standard_normal(plan.n_params) * 0.05).astype(np.float32)
    sizes |= {"m": plan.n_params, "v": plan.n_params}
    base = {name: np.zeros(size, np.float32) for name, size in sizes.items()} | {"params": params}
    service = NodeService(node_id="bench", incarnation=1, seed=1)
    service.attach("shard", {"x": x, "y": (x[:, 0, 0] > 0).astype(np.float32)}, writable=False)
    service.attach("base", base, writable=False)
    service.attach("publish", {name: np.zeros_like(a) for name, a in base.items()}, writable=True)
    _answer(service, Build(network="net", plan=plan, seed=1))
    return service, Train(
        network="net",
        base="base",
        opt_step=0,
        shard="shard",
        publish="publish",
        optimizer="adam",
        learning_rate=1e-3,
        batch_size=BATCH,
        passes=tuple(Pass(order_seed=number) for number in range(PASSES)),
        dropout_seed=3,
    )


def _trained(service: NodeService, request: Train) -> tuple[int, str]:
    reply = _answer(service, request)
    if reply.kind != "trained":
        raise RuntimeError(f"training answered {reply!r}")
    return reply.steps, reply.digest


def _answer(service: NodeService, request: Build | Train) -> Reply:
    return service.handle(request, {}, lambda: False)[0]


def _private_mb() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("Private_")]
    return sum(kilobytes) / 1024


if __name__ == "__main__":
    print(json.dumps(_sample()._asdict()))
