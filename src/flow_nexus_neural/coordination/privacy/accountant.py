"""The privacy that noised sums have cost, by Google's dp-accounting: the one place that imports it.

Every sum is a Gaussian mechanism of which nothing is sampled, so all of them together are one Gaussian
mechanism with squared noise multipliers that add like parallel resistors, and its epsilon is exact. Nothing
is gained by sampling: clients are asked in turn, and status names them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from flow_nexus_neural.errors import NotAvailable

INSTALL = "pip install 'flow-nexus-neural[privacy]'"
ACCOUNTANT = "dp-accounting: get_epsilon_gaussian over all noised sums as one Gaussian mechanism"
CONVERSION = "exact for Gaussian noise (Balle and Wang, ICML 2018)"
RELATION = "add_or_remove_one"
SAMPLING = "none: clients are asked in turn, so nothing is gained by sampling"
_DIGITS = 5


@dataclass(frozen=True)
class Sums:
    """Noised sums into which the rows of one client went.

    Attributes:
        noise_multiplier: Standard deviation of the noise over the clipping norm.
        count: How many.
    """

    noise_multiplier: float
    count: int


def epsilon_of(spent: Sequence[Sums], delta: float) -> float:
    """The epsilon of all these sums together at this delta.

    A client's rows are added to, or removed from, the data: what it sent is its own update or nothing.

    Args:
        spent: Each with its own noise; 0 for none.
        delta: In (0, 1).

    Raises:
        NotAvailable: The extra `privacy` is not installed.

    Source: Dong, Roth, Su, "Gaussian Differential Privacy", JRSS B 2022, corollary 3.3 for the composition;
    Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018, for epsilon.
    """
    dp_accounting = _library()
    precision = math.fsum(one.count / one.noise_multiplier**2 for one in spent)
    return float(dp_accounting.get_epsilon_gaussian(precision**-0.5, delta)) if precision else 0.0


def noise_multiplier_for(target_epsilon: float, delta: float, count: int) -> float:
    """The smallest noise multiplier with which so many sums stay within an epsilon, to five digits.

    Args:
        target_epsilon: > 0.
        delta: In (0, 1).
        count: Sums into which the rows of one client go, >= 1.

    Raises:
        NotAvailable: The extra `privacy` is not installed.
    """
    exact = float(_library().get_sigma_gaussian(target_epsilon, delta)) * math.sqrt(count)
    unit = 10.0 ** (math.floor(math.log10(exact)) - _DIGITS + 1)
    return float(f"{math.ceil(exact / unit) * unit:.{_DIGITS}g}")


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
