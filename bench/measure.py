"""Measuring without fooling oneself: machine, load, memory of a process tree, interleaving, records."""

import os
import platform
import random  # noqa: TID251 - order of measurements, not of anything that is measured
import statistics
import subprocess
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

QUIET_LOAD = 0.5
MOST_SPREAD = 1.1
"""Two series of one thing that differ by more say that the machine, not the contender, was measured."""
INTERESTING_FLAGS = ("avx2", "avx512f", "avx512_vnni", "amx_tile", "neon", "asimd")


class Machine(BaseModel):
    """Where a record was taken."""

    model_config = ConfigDict(extra="forbid")

    cpu: str
    cores: int
    flags: list[str]
    mem_gb: float | None
    kernel: str


class Record(BaseModel):
    """One contender's measurement of one thing; None where it was not measured.

    Attributes:
        ratio_to_reference: Median over the reference's median of the same run; below 1 is faster. None where
            the controls of the run differ by more than a tenth.
        controls_spread: Ratio of two series of the same contender: differences inside it mean nothing.
        different_work: The final pooled loss was not the reference's, so there is no ratio.
        quiet: Load average was below 0.5 at the start.
    """

    model_config = ConfigDict(extra="forbid")

    suite: str
    work: str
    contender: str
    config: str
    repeats: int
    samples: int
    unit: str
    median: float | None
    min: float | None
    max: float | None
    p95: float | None
    p99: float | None
    first: float | None
    ratio_to_reference: float | None
    reference: str | None
    controls_spread: float | None
    pooled_loss: float | None
    different_work: bool
    peak_pss_mb: float | None
    machine: Machine
    python: str
    torch: str
    threads: int
    load_start: float
    load_end: float
    quiet: bool
    commit: str | None
    date: str


def machine() -> Machine:
    """Read what /proc says; elsewhere only what Python knows."""
    lines = _lines("/proc/cpuinfo")
    facts = dict(
        (part.strip() for part in line.split(":", 1)) for line in reversed(lines) if ":" in line
    )
    present = set(facts.get("flags", facts.get("Features", "")).split())
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if "MemTotal" in line), None)
    return Machine(
        cpu=facts.get("model name", platform.processor() or "unknown"),
        cores=os.cpu_count() or 1,
        flags=[flag for flag in INTERESTING_FLAGS if flag in present],
        mem_gb=None if memory is None else round(int(memory) / 2**20, 1),
        kernel=f"{platform.system()} {platform.release().partition('-')[0]}",
    )


def load() -> float:
    """Load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def commit() -> str | None:
    """Short commit id of this checkout, with a + when files differ from it."""
    root = Path(__file__).parent
    try:
        name = _git(root, "rev-parse", "--short", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "../src")
    except (OSError, subprocess.CalledProcessError):
        return None
    return name + ("+" if changed else "")


def record(
    suite: str,
    work: str,
    contender: str,
    samples: Sequence[float],
    *,
    unit: str,
    load_start: float,
    repeats: int = 1,
    config: str = "",
    **more: Any,
) -> Record:
    """Make a record of samples; `more` are further fields of Record."""
    ordered = sorted(samples)
    empty = not ordered
    given: dict[str, Any] = {
        "first": None,
        "ratio_to_reference": None,
        "reference": None,
        "controls_spread": None,
        "pooled_loss": None,
        "different_work": False,
        "peak_pss_mb": None,
        "threads": 1,
        **more,
    }
    if not controls_agree(given["controls_spread"]):
        given["ratio_to_reference"] = None
    return Record(
        suite=suite,
        work=work,
        contender=contender,
        config=config,
        repeats=repeats,
        samples=len(ordered),
        unit=unit,
        median=None if empty else statistics.median(ordered),
        min=None if empty else ordered[0],
        max=None if empty else ordered[-1],
        p95=None if empty else float(np.percentile(ordered, 95)),
        p99=None if len(ordered) < 100 else float(np.percentile(ordered, 99)),
        machine=machine(),
        python=platform.python_version(),
        torch=_version("torch"),
        load_start=load_start,
        load_end=load(),
        quiet=load_start <= QUIET_LOAD,
        commit=commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        **given,
    )


def controls_agree(spread: float | None) -> bool:
    """Whether ratios of a run mean something; unknown where it had no controls."""
    return spread is None or 1 / MOST_SPREAD <= spread <= MOST_SPREAD


def interleave(
    contenders: Iterable[str], repeats: int, measure: Callable[[str], None], seed: int = 0
) -> None:
    """Measure every contender `repeats` times, in a new random order each time."""
    names = list(contenders)
    shuffler = random.Random(seed)
    for _ in range(repeats):
        shuffler.shuffle(names)
        for name in names:
            measure(name)


def process_tree(root: int) -> list[int]:
    """A process and all its descendants; one that ends meanwhile may be among them."""
    found = [root]
    for pid in found:
        try:
            tasks = [*Path(f"/proc/{pid}/task").glob("*/children")]
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        for task in tasks:
            found += [int(child) for child in (_lines(task) or [""])[0].split()]
    return found


def tree_pss_mb(root: int) -> float | None:
    """Proportional memory of a process tree in MB; None when a member cannot be read."""
    total_kb = 0
    for pid in process_tree(root):
        line = next((x for x in _lines(f"/proc/{pid}/smaps_rollup") if x.startswith("Pss:")), None)
        if line is None:
            return None
        total_kb += int(line.split()[1])
    return round(total_kb / 1024, 1)


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
