"""FLTrust: updates weighed by their direction against one that was made from trusted rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.errors import QuorumLost
from flow_nexus_neural.kernels.gram import guarded, weighted_sum
from flow_nexus_neural.kernels.probabilities import Float64s
from flow_nexus_neural.kernels.robust import Aggregate


def trust_weighted(vectors: Sequence[NDArray[Any]], trusted: NDArray[Any]) -> Aggregate:
    """Mean of the vectors, each scaled to the trusted one's norm and weighed by max(0, cosine with it).

    The trusted vector itself where no vector points its way. Any number of vectors may have arbitrary values;
    the norm of the result is at most that of the trusted one.

    Args:
        vectors: n arrays [d] float32. Not modified.
        trusted: [d] float32.

    Raises:
        QuorumLost: If the trusted vector is not finite.

    Source: Cao et al., "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping", NDSS 2021,
    algorithm 2. Departure: the paper divides by a sum that is 0 where nothing points its way.
    """
    rows = guarded([*vectors, trusted], limit_norms=False)
    last = len(vectors)
    if last not in rows.kept:
        raise QuorumLost("the update from trusted rows is not finite", hint="lower learning_rate")
    cosines, norms = _cosines(rows.vectors), rows.norms
    trust = np.maximum(cosines[:-1], 0.0)
    weights = np.zeros(len(vectors))
    shares = np.zeros(rows.n)
    if trust.sum() > 0:
        weights[list(rows.kept[:-1])] = trust / trust.sum()
        shares[:-1] = trust / trust.sum() * norms[-1] / np.maximum(norms[:-1], np.finfo(float).tiny)
    else:
        shares[-1] = 1.0
    return Aggregate(weighted_sum(rows, shares), weights, rows.dropped, ())


def _cosines(vectors: Sequence[NDArray[Any]]) -> Float64s:
    """[n] cosine of each vector with the last one; 0 where one of the two has no length."""
    reference = vectors[-1].astype(np.float64)
    length = float(np.linalg.norm(reference))
    found = np.zeros(len(vectors))
    for k, vector in enumerate(vectors):
        wide = vector.astype(np.float64)
        product = float(np.linalg.norm(wide)) * length
        found[k] = float(wide @ reference) / product if product > 0 else 0.0
    return found
