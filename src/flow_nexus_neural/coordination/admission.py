"""Whether a model that learnt from outcomes may answer: only if it is better than the present one."""

import math
from dataclasses import dataclass

import numpy as np

from flow_nexus_neural.kernels.probabilities import Floats

STANDARD_ERRORS = 1.0
"""By how many standard errors of the difference the new model has to be better."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The comparison of two models on the same rows.

    Attributes:
        before: Mean loss of the present model; `after` of the new one.
        standard_error: Of the mean difference.
        admitted: Whether the new one is better by more than that.
    """

    before: float
    after: float
    standard_error: float
    admitted: bool

    @property
    def reason(self) -> str:
        """In words."""
        verdict = "admitted" if self.admitted else "refused"
        return (
            f"{verdict}: loss {self.after:.4g} of the new model against {self.before:.4g} of the former, the"
            f" standard error of the difference is {self.standard_error:.2g}"
        )


def compare_losses(before: Floats, after: Floats) -> Admission:
    """Compare two models by their losses on the same rows, which neither was trained on.

    Args:
        before: [n] losses of the present model, n >= 2.
        after: [n] of the new one.

    Raises:
        ValueError: The rows are not the same number, or fewer than 2.
    """
    old, new = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if old.shape != new.shape or old.ndim != 1 or old.size < 2:
        raise ValueError(f"losses {old.shape} and {new.shape} cannot be compared")
    gain = old - new
    error = float(gain.std(ddof=1)) / math.sqrt(gain.size)
    admitted = float(gain.mean()) > STANDARD_ERRORS * error
    return Admission(float(old.mean()), float(new.mean()), error, admitted)
