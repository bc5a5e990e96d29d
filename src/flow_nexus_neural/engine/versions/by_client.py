"""A model's score by the data's clients, of which a minority may hold rows with wrong labels.

Validation rows come from the same clients as training rows. Were they scored together, a client that lies
about its labels, or floods the others with rows, would choose the round that is kept.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.versions.evaluation import Score, measure, score
from flow_nexus_neural.kernels.ensemble import Fused

LEAST_CLIENTS = 3
"""Of two, none is the middle one."""


def median_score(schema: DataSchema, answers: Fused, rows: Rows) -> Score | None:
    """The median over clients of loss and of accuracy; None for rows of fewer than 3 clients.

    Args:
        schema: Of the data.
        answers: To all of the rows.
        rows: With the client of each.
    """
    clients = np.unique(rows.clients[rows.clients >= 0])
    if len(clients) < LEAST_CLIENTS:
        return None
    found = []
    for client in clients:
        own = np.flatnonzero(rows.clients == client)
        found.append(score(measure(schema, _of(answers, own), rows.at(own))))
    return Score(_median([one.loss for one in found]), _median([one.accuracy for one in found]))


def _of(answers: Fused, rows: NDArray[np.int64]) -> Fused:
    """The answers to some of the rows, as far as they are measured."""
    p, decisions = answers.probabilities, answers.decisions
    return replace(
        answers,
        values=answers.values[rows],
        probabilities=None if p is None else p[rows],
        decisions=None if decisions is None else decisions[rows],
    )


def _median(numbers: list[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return float(np.median(known)) if known else None
