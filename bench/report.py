"""Make the README's tables from the committed results.

python -m bench.report           writes the tables between the README's markers
python -m bench.report --check   fails when README and results differ
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from bench.measure import Record, controls_agree
from readme.markers import replace_between

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
README = ROOT / "README.md"


def load_records(folder: Path) -> list[Record]:
    """Every record of every suite in a folder, validated."""
    return [
        Record.model_validate(entry)
        for path in sorted(folder.glob("*.json"))
        for entry in json.loads(path.read_text())
    ]


def render(records: list[Record]) -> str:
    """All tables, or a sentence when nothing was measured yet."""
    if not records:
        return "Nothing has been measured yet: run `make bench`."
    of = {
        suite: [one for one in records if one.suite == suite]
        for suite in ("startup", "spawn", "predict", "rounds", "launch", "overhead")
    }
    parts = [_start_table(of["startup"] + of["spawn"]), _predict_table(of["predict"])]
    parts += [_rounds_table(of["rounds"], of["launch"]), _overhead_table(of["overhead"])]
    parts += [_footer(records)]
    return "\n\n".join(part for part in parts if part)


def _start_table(records: list[Record]) -> str:
    rows = [
        (
            one.contender if one.suite == "startup" else f"{one.work}: {one.contender}",
            _quantity(one.median, one.unit),
            f"{_quantity(one.min, one.unit)} to {_quantity(one.max, one.unit)}",
            str(one.samples),
            _megabytes(one),
        )
        for one in records
    ]
    return _table(("start and stop", "median", "range", "n", "memory (PSS)"), rows)


def _predict_table(records: list[Record]) -> str:
    rows = [
        (
            f"one record, {one.work}, {one.contender}",
            _quantity(one.median, "ms"),
            _quantity(one.p95, "ms"),
            _quantity(one.p99, "ms"),
            _quantity(one.max, "ms"),
            str(one.samples),
        )
        for one in records
    ]
    return _table(("predict, 11 nodes", "p50", "p95", "p99", "max", "n"), rows)


def _rounds_table(rounds: list[Record], launches: list[Record]) -> str:
    launch = {(one.work, one.contender): one for one in launches}
    rows = []
    for one in rounds:
        started = launch.get((one.work, one.contender))
        rows.append(
            (
                f"{one.work} {one.contender}",
                _quantity(one.median, "s"),
                "different work"
                if one.different_work
                else "controls differ"
                if not controls_agree(one.controls_spread)
                else f"{one.ratio_to_reference:.2f}"
                if one.ratio_to_reference is not None
                else "",
                _quantity(started.median if started else None, "s"),
                _megabytes(one),
            )
        )
    return _table(("training", "s/round", "/ plain", "launch to first round", "memory (PSS)"), rows)


def _overhead_table(records: list[Record]) -> str:
    rows = [
        (
            f"{one.work}: {one.contender}",
            _quantity(one.median, one.unit),
            "" if one.ratio_to_reference is None else f"{one.ratio_to_reference:.2f}",
            str(one.samples),
        )
        for one in records
    ]
    return _table(("confinement", "median", "/ bare", "n"), rows)


def _footer(records: list[Record]) -> str:
    first = records[0]
    spreads = [one.controls_spread for one in records if one.controls_spread is not None]
    control = (
        f" Two series of the same thing differed by a factor of up to {_worst(spreads):.2f} in this run:"
        " smaller differences mean nothing."
        if spreads
        else ""
    )
    quiet = (
        ""
        if all(one.quiet for one in records)
        else " **The machine was not quiet** (load above 0.5)."
    )
    return (
        f"Measured {first.date[:10]} on {first.machine.cores} cores of {first.machine.cpu},"
        f" {first.machine.kernel}, Python {first.python}, torch {first.torch}, one thread a process,"
        f" commit {first.commit}.{quiet}{control}"
    )


def _worst(ratios: Iterable[float]) -> float:
    return max(max(ratio, 1 / ratio) for ratio in ratios)


def _quantity(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.3g} {unit.partition('/')[0]}"


def _megabytes(one: Record) -> str:
    return "" if one.peak_pss_mb is None else f"{one.peak_pss_mb:.0f} MB"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    replace_between(README, "bench", render(load_records(given.results)), check=given.check)


if __name__ == "__main__":
    main()
