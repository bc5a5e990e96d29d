"""Whether what a role's network learnt is used: only where rows that it was not fitted on say so."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

ERRORS: Final = 1.0
"""Standard errors of the paired difference by which a learned combination must be better."""
ORDERED_ERRORS: Final = 2.0
"""The same of rows in time order, whose losses depend on each other, so that the error looks too small."""
STUDENT_POINTS: Final = 0.02
"""Accuracy by which a student may be below its teacher."""
STUDENT_VARIANCE: Final = 0.02
"""Share of the target's variance by which a student's squared error may be above its teacher's."""
LEAST_ROWS: Final = 50
"""Fewer rows show nothing."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A comparison on rows that neither side was fitted on, and what follows from it.

    Attributes:
        used: Whether the role's network is used.
        reason: Why it is not; None where it is.
        own: Mean loss of the role's network; for a student its accuracy, or squared error of regression.
        rival: The same of what is used without it.
        standard_error: Of the mean difference of the two; None where it does not count.
        rows: Compared.
    """

    used: bool
    reason: str | None
    own: float | None = None
    rival: float | None = None
    standard_error: float | None = None
    rows: int = 0


def closed(reason: str) -> Gate:
    """Not used, without a comparison."""
    return Gate(used=False, reason=reason)


def better(own: NDArray[np.float64], rival: NDArray[np.float64], errors: float = ERRORS) -> Gate:
    """Used if the mean loss is lower by more than `errors` standard errors of the paired difference.

    Args:
        own: [n] losses of rows with the role's network.
        rival: [n] losses of the same rows without it.
        errors: 0 for any gain.
    """
    if len(own) < LEAST_ROWS:
        return Gate(used=False, reason=f"{len(own)} rows are too few to compare on", rows=len(own))
    gain = rival - own
    error = float(gain.std(ddof=1)) / math.sqrt(len(gain))
    used = float(gain.mean()) > errors * error
    few = f"{errors:g} standard error" + "s" * (errors != 1)
    why = f"not better by more than {few}" if errors else "not better"
    return Gate(
        used=used,
        reason=None if used else why,
        own=float(own.mean()),
        rival=float(rival.mean()),
        standard_error=error,
        rows=len(own),
    )


def near(own: float, rival: float, rows: int, *, higher_is_better: bool) -> Gate:
    """Used if a student is near enough to its teacher.

    Args:
        own: Accuracy of the student, or its squared error in variances of the target.
        rival: The same of the teacher.
        rows: On which both were measured.
        higher_is_better: True for accuracies.
    """
    if rows < LEAST_ROWS:
        return Gate(used=False, reason=f"{rows} rows are too few to compare on", rows=rows)
    behind = rival - own if higher_is_better else own - rival
    limit = STUDENT_POINTS if higher_is_better else STUDENT_VARIANCE
    used = behind <= limit
    why = None if used else f"{behind:.3g} behind its teacher; at most {limit:g} is allowed"
    return Gate(used=used, reason=why, own=own, rival=rival, rows=rows)
