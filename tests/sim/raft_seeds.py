"""Many seeds of simulated raft, each checked all along: `python -m tests.sim.raft_seeds [--seeds 1000]`.

The test suite runs some of them. A seed is three or five voters and one that may join, over a network that
loses a tenth of all messages, delays and repeats others and falls apart, with crashes between and inside
steps. The exit status is 1 when any promise of raft was broken.
"""

import argparse
import sys
import time
from dataclasses import dataclass

from tests.doubles.raft_cluster import RaftCluster, Violation

TICKS = 500


@dataclass
class Course:
    """What one seed came to."""

    acknowledged: int
    terms: int
    snapshots: int
    configurations: int


def run_seed(seed, kind=RaftCluster, ticks=TICKS):
    """Run one seed. Raises `Violation`."""
    cluster = kind(seed, 3 if seed % 2 else 5)
    cluster.run(ticks)
    cluster.settle()
    return Course(
        acknowledged=len(cluster.acknowledged),
        terms=max(voter.term for voter in cluster.alive.values()),
        snapshots=sum(disk.snapshot.index > 0 for disk in cluster.disks.values()),
        configurations=sum(entry.kind == "voters" for entry in cluster.committed.values()),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    began_s, broken, courses = time.monotonic(), [], []
    for seed in range(asked.first, asked.first + asked.seeds):
        try:
            courses.append(run_seed(seed))
        except Violation as violation:
            broken.append(str(violation))
    for line in broken:
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(
        f"{asked.seeds} seeds of {TICKS} ticks, {sum(c.acknowledged for c in courses)} acknowledged records,"
        f" {sum(c.terms for c in courses)} terms, {sum(c.configurations for c in courses)} configurations,"
        f" {sum(c.snapshots for c in courses)} compacted logs, {len(broken)} violations,"
        f" {time.monotonic() - began_s:.0f} s\n"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
