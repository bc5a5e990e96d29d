"""Answers of a model's networks to its own training rows, by copies that were not trained on them.

Small data have no rows to spare for aggregators, validators and calibration. They get rows that the workers
are trained on, with answers out of fold, which are as far from the truth as those to rows that nobody saw.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.versions.served import Logits


@dataclass(frozen=True)
class OutOfFold:
    """Rows for purposes for which none are kept, with the answers to them.

    Attributes:
        parts: `meta`, `verify` and `calib` rows; together they are all training rows.
        logits: Of the networks that answer, by key and part.
        report: What it took.
        reason: Why there are none; None where there are.
    """

    parts: Mapping[str, Rows]
    logits: Mapping[str, Mapping[str, Logits]]
    report: Mapping[str, JsonValue]
    reason: str | None = None

    def __bool__(self) -> bool:
        return self.reason is None


def nothing_out_of_fold(reason: str) -> OutOfFold:
    """None were made."""
    return OutOfFold({}, {}, {}, reason)
