"""How a contender talks to the harness: arguments in, one JSON line out, then it waits to be looked at."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from bench.work import WORKS, Work

Rounds = Callable[[Work, int], tuple[list[float], float]]
"""(work, rounds) -> seconds of every round, and the pooled loss after the last one."""


def report(round_s: list[float], pooled_loss: float | None, first_round_at_s: float) -> None:
    """Print the result; return when the harness closes our input, so that it can read our memory first."""
    print(
        json.dumps(
            {
                "round_s": round_s,
                "pooled_loss": pooled_loss,
                "first_round_at_s": first_round_at_s,
            }
        ),
        flush=True,
    )
    sys.stdin.read()


def arguments() -> tuple[Work, int, argparse.Namespace]:
    """Which work, how many rounds; fewer clients or rows make it small enough for a test."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=sorted(WORKS))
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--clients", type=int)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--fused", action="store_true")
    given = parser.parse_args()
    work = WORKS[given.work]
    work = replace(work, clients=given.clients or work.clients, rows=given.rows or work.rows)
    return work, given.rounds, given


class Stopwatch:
    """Times rounds and remembers when the first one ended, on a clock that processes share."""

    def __init__(self) -> None:
        self.round_s: list[float] = []
        self.first_round_at_s = 0.0
        self._started_s = 0.0

    def __enter__(self) -> "Stopwatch":
        self._started_s = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        ended_s = time.monotonic()
        self.round_s.append(ended_s - self._started_s)
        self.first_round_at_s = self.first_round_at_s or ended_s
