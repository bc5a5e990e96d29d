"""Run suites and write one JSON file of records per suite.

python -m bench.run [--suite startup|spawn|rounds|predict|overhead|allocator] [--quick] [--out DIRECTORY]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Protocol

os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench.allocator import measure_allocator
from bench.measure import QUIET_LOAD, Record, controls_agree, load
from bench.rounds import measure_rounds
from bench.serving import measure_predict, measure_spawn, measure_startup


class Suite(Protocol):
    """Measures something, with fewer repeats when quick."""

    def __call__(self, *, quick: bool) -> list[Record]:
        """Measure."""
        ...


def startup(*, quick: bool) -> list[Record]:
    """Launch and end of the server."""
    return measure_startup(repeats=3 if quick else 10)


def spawn(*, quick: bool) -> list[Record]:
    """Eleven nodes."""
    return measure_spawn(repeats=2 if quick else 5)


def rounds(*, quick: bool) -> list[Record]:
    """Training rounds; the sequence model only in a full run."""
    records = []
    for name in ("W1", "W3") if quick else ("W1", "W2", "W3"):
        records += measure_rounds(name, repeats=2 if quick else 5)
    return records


def predict(*, quick: bool) -> list[Record]:
    """Latency of predictions."""
    return measure_predict(calls=200 if quick else 1000)


def overhead(*, quick: bool) -> list[Record]:
    """Cost of confinement and of eleven starts, in a process of its own: it forks, so it must be alone."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "bench.overhead", "--out", out]
        subprocess.run([*command, "--quick"] if quick else command, check=True)
        found = json.loads((Path(out) / "overhead.json").read_text())
    return [Record.model_validate(one) for one in found]


def allocator(*, quick: bool) -> list[Record]:
    """Page faults and processor time of an optimiser step."""
    return measure_allocator(repeats=2 if quick else 5)


SUITES: dict[str, Suite] = {
    "startup": startup,
    "spawn": spawn,
    "rounds": rounds,
    "predict": predict,
    "overhead": overhead,
    "allocator": allocator,
}


def main() -> None:
    """Read the command line, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", choices=sorted(SUITES), action="append")
    parser.add_argument("--quick", action="store_true", help="fewer repeats: about three minutes")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if load() > QUIET_LOAD:
        print(f"load average is {load()}: results will be labelled not quiet")
    for name in given.suite or SUITES:
        records = SUITES[name](quick=given.quick)
        path = given.out / f"{name}.json"
        path.write_text(json.dumps([one.model_dump() for one in records], indent=1) + "\n")
        print(f"{path}: {len(records)} records")
        for one in records:
            print("  " + _line(one))


def _line(one: Record) -> str:
    ratio = "" if one.ratio_to_reference is None else f" x{one.ratio_to_reference:.2f}"
    if not controls_agree(one.controls_spread):
        ratio = f" (no ratio: two series of one contender differ by a factor of {one.controls_spread:.2f})"
    median = "not measured" if one.median is None else f"{one.median:.4g} {one.unit}"
    label = " (different work)" if one.different_work else ""
    return f"{one.suite} {one.work} {one.contender}: {median}{ratio}{label}"


if __name__ == "__main__":
    main()
