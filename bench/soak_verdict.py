"""What may be harmed in a soak, what is expected to happen, and what was wrong in the end."""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from client import Reply

DEADLINE_MS = 1000
SPARED_WORKERS = 2
"""Healthy workers that are left alone, whatever is harmed."""
BACK_S = 30.0
"""Seconds after the death of the process that starts nodes in which predictions may find nobody."""
MIN_ANSWERED = 0.5
MAX_GROWTH = 0.05
PARTS = 5
"""Parts of a storm of which the second, when everything has happened once, is held against the last."""
LEAST_WEIGHED = 50
MAX_REFUSED_BESIDE = 0.05
"""Share of predictions that may be refused while workers were spared: a full machine misses a deadline."""

IN_TIME_S = {
    "neural_predict_distributed": DEADLINE_MS / 1000 + 1.0,
    "neural_cluster_status": 2.0,
    "neural_node_deploy": 35.0,
    "neural_cluster_connect": 35.0,
    "neural_train_distributed": 35.0,
}
"""Seconds for a call to return, with a margin for a machine whose cores are all taken."""
CAME_BACK = "only a failed, recovering or quarantined node can be replaced"
"""The refusal when a node came back by itself before it was replaced."""
EXPECTED = {
    "neural_predict_distributed": {"no_serving_node"},
    "neural_cluster_status": set[str](),
    "neural_node_deploy": {
        "node_start_failed",
        "node_died",
        "node_unavailable",
        "runtime_unavailable",
    },
    "neural_cluster_connect": {"no_workers", "round_failed"},
    "neural_train_distributed": {"no_workers", "training_running", "node_died", "node_unavailable"},
}


@dataclass
class Findings:
    """What happened, and what should not have.

    Attributes:
        wrong: What should not have happened, in words.
        seconds: Durations by tool.
        unproven: Predictions whose weights were gone before they could be read.
        asked: Predictions that were asked for.
        refused_beside: Those that were refused without the excuse of a dead zygote.
        outage_s: Longest time without an answer.
        resident_mb: Memory of the server's own process, at equal intervals.
    """

    wrong: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    unproven: int = 0
    asked: int = 0
    refused_beside: int = 0
    outage_s: float = 0.0
    resident_mb: list[float] = field(default_factory=list)

    def note_refusal(self, tool: str, text: str) -> None:
        """A tool refused with this text."""
        code = text.partition(":")[0]
        self.errors[f"{tool}: {code}"] += 1
        if code not in EXPECTED[tool] and CAME_BACK not in text:
            self.wrong.append(f"{tool} refused: {text}")

    def note_prediction(self, *, answered: bool, silent_s: float, excused: bool) -> None:
        """A prediction was asked for.

        Args:
            answered: Whether it was answered.
            silent_s: Since the answer before.
            excused: Whether all nodes died with the process that starts them not long ago.
        """
        self.asked += 1
        self.outage_s = max(self.outage_s, silent_s)
        self.done["predictions"] += answered
        self.refused_beside += not answered and not excused

    def begin(self) -> None:
        """What was done before was preparation: it is not judged."""
        self.done.clear()
        self.asked = self.refused_beside = 0
        self.outage_s = 0.0

    def judge(self) -> None:
        """Add what is wrong with the run as a whole: that it did no harm, or that little was answered."""
        answered = self.done["predictions"]
        if self.done["nodes killed"] + self.done["nodes frozen"] == 0:
            self.wrong.append("no node was harmed: nothing was tried")
        if answered == 0 or answered < MIN_ANSWERED * self.asked:
            self.wrong.append(f"{answered} of {self.asked} predictions were answered")
        if self.refused_beside > MAX_REFUSED_BESIDE * self.asked:
            self.wrong.append(
                f"{self.refused_beside} of {self.asked} predictions were refused although"
                " workers were spared"
            )
        if self.outage_s > BACK_S:
            self.wrong.append(f"no prediction was answered for {self.outage_s:.0f} s")
        growth = memory_growth(self.resident_mb)
        if growth is not None and growth > MAX_GROWTH:
            self.wrong.append(f"the server's memory grew by {growth:.1%}")
        if self.done["trainings completed"] == 0:
            self.wrong.append("no training was completed")

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        times = {
            tool: {
                "calls": len(values),
                "median_ms": round(float(np.median(values)) * 1e3, 1),
                "p99_ms": round(float(np.quantile(values, 0.99)) * 1e3, 1),
                "max_ms": round(max(values) * 1e3, 1),
            }
            for tool, values in self.seconds.items()
        }
        return {
            "done": dict(self.done),
            "errors": dict(self.errors),
            "unproven_predictions": self.unproven,
            "predictions_asked": self.asked,
            "refused_while_workers_were_spared": self.refused_beside,
            "memory_growth": memory_growth(self.resident_mb),
            "memory_mb": [
                round(value, 1)
                for value in self.resident_mb[:: max(1, len(self.resident_mb) // 20)]
            ],
            "longest_outage_s": round(self.outage_s, 1),
            "times": times,
            "wrong": self.wrong[:50],
            "wrong_total": len(self.wrong),
        }


def memory_growth(resident_mb: Sequence[float]) -> float | None:
    """By which share the median of the last fifth exceeds that of the second; None for too few readings."""
    length = len(resident_mb) // PARTS
    if length * PARTS < LEAST_WEIGHED:
        return None
    second, last = resident_mb[length : 2 * length], resident_mb[-length:]
    return float(np.median(last) / np.median(second) - 1.0)


def victims(nodes: Sequence[Reply], harmed: Set[int]) -> list[int]:
    """Processes that may be harmed so that the cluster can survive it.

    Args:
        nodes: As the status lists them just now.
        harmed: Processes that were frozen or killed before; they may be called healthy for some time.
    """
    sound = [node for node in nodes if node["healthy"] and node["pid"] not in harmed]
    workers = [node for node in sound if node["role"] == "worker"]
    spare = len(workers) <= SPARED_WORKERS
    return [node["pid"] for node in sound if not (spare and node["role"] == "worker")]
