"""The privacy that noised sums have cost, by Google's dp-accounting: the one place that imports it.

Sums of which nothing is sampled are Gaussian mechanisms, so all of them together are one Gaussian mechanism
with squared noise multipliers that add like parallel resistors, and its epsilon is exact. Nothing is gained
by sampling clients: they are asked in turn, and status names them. Rows are drawn for real and in secret
(Poisson sampling), which counts: such sums are composed by their Renyi divergences.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import ModuleType
from typing import Literal

from flow_nexus_neural.errors import NotAvailable, UnsupportedCombination

INSTALL = "pip install 'flow-nexus-neural[privacy]'"
Unit = Literal["client", "client_of_data", "record"]
"""All rows of a worker together, all rows of a client of the data that trains by itself, or one row."""
_DIGITS = 5
_NARROWER = 1e-5
"""Relative width at which the search for a noise multiplier ends."""
_ORDERS = (
    2.0,
    2.2,
    2.4,
    2.6,
    2.8,
    *(n / 4 for n in range(12, 44)),
    *range(11, 64),
    128,
    256,
    512,
    1024,
)
"""Of Renyi divergences. The series of a fractional order shrinks like a power of it: lower ones do not
converge in the library's thousand terms."""
_LEAST_FRACTION = 3
_MUCH_NOISE = 5.0
"""From here on the series of fractional orders below 3 do not always converge, and higher orders are best."""


@dataclass(frozen=True)
class Sums:
    """Noised sums into which a protected unit went, or may have gone.

    Attributes:
        noise_multiplier: Standard deviation of the noise over the clipping norm.
        count: How many.
        sampling_rate: Probability with which each row was part of a sum, drawn for each anew; 1 for always.
        unit: What was clipped: the update of a client, or the gradient of a row.
    """

    noise_multiplier: float
    count: int
    sampling_rate: float = 1.0
    unit: Unit = "client"


def seen_by(unit: Unit, spent: Sequence[Sums]) -> list[Sums]:
    """Sums as they concern another protected unit.

    A row that comes or goes turns the update of its client into another one, both of the clipping norm at
    most, so that the sum moves by twice the norm: for a row, a sum of clients has half its noise multiplier.
    What sums of rows tell of a whole client has no useful bound.

    Args:
        unit: That is to be protected.
        spent: Of whatever unit.

    Raises:
        UnsupportedCombination: Clients are to be protected, and there are sums of rows or of other clients.
    """
    if unit != "record" and any(one.unit == "record" and one.count for one in spent):
        raise UnsupportedCombination(
            "privacy: single rows of this data set were protected before (record_dp), and what that tells of"
            " all rows of a worker together has no useful bound, so central_dp cannot be counted after it",
            hint="use mode record_dp again, which counts both, or train on other rows",
        )
    if unit != "record" and any(one.unit != unit and one.count for one in spent):
        raise UnsupportedCombination(
            "privacy: the clients that were protected before on this data set are not those of this training:"
            " once all rows of a worker together, once those of each client of the data, and what one tells"
            " of the other is not counted",
            hint="use the partition of that training again, or mode record_dp, or train on other rows",
        )
    return [
        one
        if one.unit == unit
        else replace(one, noise_multiplier=one.noise_multiplier / 2, unit=unit)
        for one in spent
    ]


def epsilon_of(spent: Sequence[Sums], delta: float) -> float:
    """The epsilon of all these sums together at this delta.

    A unit is added to, or removed from, the data: what it gave is its own vector or nothing.

    Args:
        spent: All of one unit, each with its own noise; 0 for none.
        delta: In (0, 1).

    Raises:
        NotAvailable: The extra `privacy` is not installed.

    Source: Dong, Roth, Su, "Gaussian Differential Privacy", JRSS B 2022, corollary 3.3 for the composition;
    Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018, for epsilon. With
    sampling: Mironov, Talwar, Zhang, "Renyi Differential Privacy of the Sampled Gaussian Mechanism", 2019,
    and the conversion of Canonne, Kamath, Steinke, NeurIPS 2020, proposition 12. That is a bound which can be
    above what the same sums cost without sampling, of which sampling never costs more: then that counts.
    """
    counted = tuple(one for one in spent if one.count)
    precision = math.fsum(one.count / one.noise_multiplier**2 for one in counted)
    dp_accounting = _library()
    if not precision:
        return 0.0
    exact = float(dp_accounting.get_epsilon_gaussian(precision**-0.5, delta))
    if any(one.sampling_rate < 1 for one in counted):
        return min(exact, _renyi_epsilon(counted, delta))
    return exact


def noise_multiplier_for(
    target_epsilon: float, delta: float, count: int, sampling_rate: float = 1.0
) -> float:
    """The smallest noise multiplier with which so many sums stay within an epsilon, to five digits.

    Args:
        target_epsilon: > 0.
        delta: In (0, 1).
        count: Sums into which a unit goes, >= 1.
        sampling_rate: Of each sum.

    Raises:
        NotAvailable: The extra `privacy` is not installed.
    """
    exact = float(_library().get_sigma_gaussian(target_epsilon, delta)) * math.sqrt(count)
    if sampling_rate < 1:
        exact = _smallest(
            lambda noise: epsilon_of([Sums(noise, count, sampling_rate)], delta) <= target_epsilon,
            start=exact,
        )
    unit = 10.0 ** (math.floor(math.log10(exact)) - _DIGITS + 1)
    return float(f"{math.ceil(exact / unit) * unit:.{_DIGITS}g}")


def _smallest(enough: Callable[[float], bool], start: float) -> float:
    """The smallest value that is enough, of all below and above a start, by bisection."""
    high = start
    while not enough(high):
        high *= 2
    low = high / 2
    while enough(low):
        high, low = low, low / 2
    while high / low > 1 + _NARROWER:
        middle = math.sqrt(high * low)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _renyi_epsilon(spent: Sequence[Sums], delta: float) -> float:
    """Epsilon by the Renyi divergences of all sums, which add up at each order."""
    _library()
    from dp_accounting import rdp

    total = [0.0] * len(_ORDERS)
    for one in spent:
        of_one = _renyi_divergences(one.noise_multiplier, one.sampling_rate)
        total = [held + one.count * more for held, more in zip(total, of_one, strict=True)]
    return float(rdp.compute_epsilon(_ORDERS, total, delta)[0])


@lru_cache(maxsize=256)
def _renyi_divergences(noise_multiplier: float, sampling_rate: float) -> tuple[float, ...]:
    """The divergence of one sum at each of `_ORDERS`; infinite where it is not computed."""
    dp_accounting = _library()
    from dp_accounting import rdp

    event = dp_accounting.GaussianDpEvent(noise_multiplier)
    computed = _ORDERS
    if sampling_rate < 1:
        event = dp_accounting.PoissonSampledDpEvent(sampling_rate, event)
        if noise_multiplier >= _MUCH_NOISE:
            computed = tuple(n for n in _ORDERS if n == 2 or n >= _LEAST_FRACTION)
    accountant = rdp.RdpAccountant(
        orders=computed, neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    )
    accountant.compose(event)
    found = dict(zip(computed, map(float, accountant.rdp), strict=True))
    return tuple(found.get(order, math.inf) for order in _ORDERS)


def _library() -> ModuleType:
    try:
        import dp_accounting
    except ImportError as missing:
        raise NotAvailable(
            f"privacy needs a library that is not installed ({missing})",
            hint=f"install it with {INSTALL} and start the server again, or leave privacy out",
        ) from missing
    found: ModuleType = dp_accounting
    return found
