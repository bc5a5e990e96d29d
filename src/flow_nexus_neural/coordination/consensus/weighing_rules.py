"""Rules that give each update one weight, from the distances between all of them.

Formulas and sources are with the kernels, `kernels.geometry_rules` and `kernels.robust`.
"""

from functools import partial
from math import comb

import numpy as np

from flow_nexus_neural.coordination.consensus.robust_rule import Changes, RobustRule
from flow_nexus_neural.kernels.geometry_rules import MAX_SUBSETS
from flow_nexus_neural.kernels.gram import NORM_LIMIT
from flow_nexus_neural.kernels.robust import (
    Aggregate,
    GeometryRule,
    aggregate,
    centred_clipping,
    nearest_neighbour_means,
    nearest_to_trusted,
)


def _kernel(changes: Changes, f: int, *, mix: bool, rule: GeometryRule) -> Aggregate:
    return aggregate(changes, rule, f, mix=mix)


def _near_krum(changes: Changes, f: int, *, mix: bool) -> Aggregate:
    """Mean of the n - f changes nearest to the one that Krum selects.

    Departure from MoNNA (Farhadkhani et al., ICML 2023): there each node trusts its own update. The engine
    has none and trusts no worker, so Krum's choice takes that place.
    """
    if mix:
        return _near_krum(nearest_neighbour_means(changes, f), f, mix=False).of_means()
    selected = aggregate(changes, "krum", f).weights
    return nearest_to_trusted(changes, f, int(np.argmax(selected)) if selected is not None else 0)


def _clipped(changes: Changes, f: int, *, mix: bool) -> Aggregate:
    """Three steps of centred clipping, whose radius is the median norm of the changes.

    Departure from Karimireddy et al., ICML 2021, where the radius is a constant: this one has the scale of
    the training's changes, and no minority chooses it.
    """
    if mix:
        changes = nearest_neighbour_means(changes, f)
    norms = [float(np.linalg.norm(change.astype(np.float64))) for change in changes]
    radius = float(np.median(norms))
    shortened = tuple(k for k, norm in enumerate(norms) if norm > NORM_LIMIT * radius > 0)
    vector = centred_clipping(changes, radius) if radius > 0 else np.zeros_like(changes[0])
    return Aggregate(vector, None, (), shortened)


def _too_many_subsets(n: int, f: int) -> str | None:
    subsets = comb(n, f)
    if subsets <= MAX_SUBSETS:
        return None
    return f"it would compare {subsets} subsets of {n} updates, and its limit is {MAX_SUBSETS}"


KRUM = RobustRule("krum", (), partial(_kernel, rule="krum"))
MULTI_KRUM = RobustRule("multi_krum", ("multikrum",), partial(_kernel, rule="multi_krum"))
GEOMETRIC_MEDIAN = RobustRule(
    "geometric_median", ("rfa", "gm"), partial(_kernel, rule="geometric_median")
)
LEAST_DIAMETER = RobustRule(
    "mda",
    ("minimum_diameter_averaging",),
    partial(_kernel, rule="mda"),
    limit=_too_many_subsets,
)
LEAST_VARIANCE = RobustRule(
    "smea",
    ("exact_smea", "smallest_maximum_eigenvalue_averaging"),
    partial(_kernel, rule="smea"),
    limit=_too_many_subsets,
)
COVARIANCE_FILTER = RobustRule(
    "caf", ("exact_caf", "covariance_filter"), partial(_kernel, rule="caf")
)
NEAR_KRUM = RobustRule("monna", (), _near_krum)
CENTRED_CLIPPING = RobustRule("centered_clipping", ("centred_clipping", "cclip"), _clipped)
