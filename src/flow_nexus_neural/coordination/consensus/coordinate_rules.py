"""Rules that work on each coordinate separately; `coordinate_median` has a file of its own.

Formulas and sources are with the kernels, `kernels.robust` and `kernels.bulyan`.
"""

from functools import partial

from flow_nexus_neural.coordination.consensus.robust_rule import Changes, RobustRule
from flow_nexus_neural.kernels.bulyan import bulyan
from flow_nexus_neural.kernels.robust import (
    Aggregate,
    CoordinateRule,
    aggregate,
    nearest_neighbour_means,
)


def _kernel(changes: Changes, f: int, *, mix: bool, rule: CoordinateRule) -> Aggregate:
    return aggregate(changes, rule, f, mix=mix)


def _bulyan(changes: Changes, f: int, *, mix: bool) -> Aggregate:
    if mix:
        return bulyan(nearest_neighbour_means(changes, f), f).of_means()
    return bulyan(changes, f)


TRIMMED_MEAN = RobustRule(
    "trimmed_mean", ("trmean", "coordinate_trimmed_mean"), partial(_kernel, rule="trimmed_mean")
)
MEAN_AROUND_MEDIAN = RobustRule("meamed", ("mean_around_median",), partial(_kernel, rule="meamed"))
BULYAN = RobustRule("bulyan", (), _bulyan, per_f=4, plus=3)
