"""Suite `rounds`: seconds of a training round, and launch to first round, on equal work."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field

from bench.measure import Record, interleave, load, record, tree_pss_mb

REFERENCE = "plain"
CONTENDERS: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "--fused"),
    "plain, again": ("plain", "--fused"),
    "plain, torch's default Adam": ("plain",),
    "two processes": ("two_process",),
    "stacked in two processes": ("stacked",),
    "ours, nodes": ("ours",),
    "ours, node groups": ("ours_grouped",),
    "ours, through the tools": ("ours_tools",),
}
CONTROL = "plain, again"
CONFIGS = {
    "plain": "torch.optim.Adam(fused=True), one thread: the fastest plain loop",
    "plain, again": "the same, as a control",
    "plain, torch's default Adam": "torch.optim.Adam, one thread; rounds differently, and rounding grows",
    "two processes": "two forks, shared parameters, fused Adam, no isolation",
    "stacked in two processes": "two forks of the node's stacked trainer, shared parameters, no isolation",
    "ours, node groups": "two confined processes, clients trained stacked, fresh moments each round",
    "ours, nodes": "one confined process per client, fresh moments each round",
    "ours, through the tools": "MCP, evaluation and durable commit each round, averaged moments",
}
ROUNDS = {"W1": 15, "W2": 3, "W3": 6}
"""Rounds per repeat: the first is reported apart, the others are the samples."""


@dataclass
class _Series:
    first_s: list[float] = field(default_factory=list)
    launch_s: list[float] = field(default_factory=list)
    steady_s: list[float] = field(default_factory=list)
    pss_mb: list[float | None] = field(default_factory=list)
    pooled_loss: float | None = None


def measure_rounds(work: str, *, repeats: int) -> list[Record]:
    """Run all contenders as fresh processes, interleaved."""
    load_start = load()
    series = {name: _Series() for name in CONTENDERS}
    interleave(CONTENDERS, repeats, lambda name: _run(name, work, series[name]))
    reference = series[REFERENCE]
    spread = _median(series[CONTROL].steady_s) / _median(reference.steady_s)
    records = []
    for name, one in series.items():
        equal = same_work(one.pooled_loss, reference.pooled_loss)
        more = {
            "repeats": repeats,
            "config": CONFIGS[name],
            "load_start": load_start,
            "pooled_loss": one.pooled_loss,
            "different_work": not equal,
            "reference": REFERENCE,
        }
        records.append(
            record(
                "rounds",
                work,
                name,
                one.steady_s,
                unit="s/round",
                first=_median(one.first_s),
                ratio_to_reference=_ratio(one.steady_s, reference.steady_s) if equal else None,
                controls_spread=spread,
                peak_pss_mb=max((x for x in one.pss_mb if x is not None), default=None),
                **more,
            )
        )
        records.append(
            record(
                "launch",
                work,
                name,
                one.launch_s,
                unit="s",
                ratio_to_reference=_ratio(one.launch_s, reference.launch_s) if equal else None,
                controls_spread=spread,
                **more,
            )
        )
    return records


def same_work(loss: float | None, reference: float | None) -> bool:
    """Whether two runs did the same arithmetic: equal pooled loss to five digits."""
    return loss is not None and reference is not None and abs(loss / reference - 1) <= 1e-5


def _run(name: str, work: str, series: _Series) -> None:
    module, *flags = CONTENDERS[name]
    launched_s = time.monotonic()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            f"bench.contenders.{module}",
            work,
            f"--rounds={ROUNDS[work]}",
            *flags,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"contender {name!r} failed on {work}")
        result = json.loads(line)
        series.pss_mb.append(tree_pss_mb(process.pid))
    series.launch_s.append(result["first_round_at_s"] - launched_s)
    series.first_s.append(result["round_s"][0])
    series.steady_s += result["round_s"][1:]
    series.pooled_loss = result["pooled_loss"]


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _ratio(values: list[float], reference: list[float]) -> float:
    return _median(values) / _median(reference)
