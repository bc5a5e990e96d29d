"""Decides when a node with unusable predictions becomes suspect, and when it is killed.

Only failures that a correct node cannot have are counted: a reply of the wrong form, and a request without a
reply although a later one was answered. A slow node or a busy machine causes neither.
"""

from dataclasses import dataclass
from typing import Literal

Answer = Literal["right", "refused", "unanswered"]
Verdict = Literal["trusted", "suspect", "ended"]

MAX_IN_A_ROW = 3
MAX_OF_CALLERS = 5
"""Limit for failed requests of callers, for a node that answers the engine's own requests correctly."""


@dataclass(frozen=True, slots=True)
class Conduct:
    """Counts of failed predictions of one incarnation of a slot.

    Attributes:
        refused: All replies that could not be used.
        unanswered: All requests without a reply.
        in_a_row: Both kinds, since its last correct reply.
        of_callers: Both kinds, in requests of callers, since its last correct reply to one of these.
    """

    refused: int = 0
    unanswered: int = 0
    in_a_row: int = 0
    of_callers: int = 0


def after(conduct: Conduct, answer: Answer, *, from_caller: bool) -> Conduct:
    """Add the outcome of one request.

    Args:
        conduct: The counts so far.
        answer: Outcome of the latest request.
        from_caller: Whether it was a caller's request; else it was the engine's, to test a suspect node.
    """
    if answer == "right":
        of_callers = 0 if from_caller else conduct.of_callers
        return Conduct(conduct.refused, conduct.unanswered, 0, of_callers)
    return Conduct(
        refused=conduct.refused + (answer == "refused"),
        unanswered=conduct.unanswered + (answer == "unanswered"),
        in_a_row=conduct.in_a_row + 1,
        of_callers=conduct.of_callers + from_caller,
    )


def verdict(conduct: Conduct) -> Verdict:
    """`suspect`: gets no requests of callers until it answers the engine correctly; `ended`: is killed."""
    if conduct.in_a_row >= MAX_IN_A_ROW or conduct.of_callers >= MAX_OF_CALLERS:
        return "ended"
    return "suspect" if conduct.in_a_row else "trusted"


def told(conduct: Conduct) -> str:
    """The counts as text, for example `predictions: 3 refused, 1 not answered`."""
    counts = ((conduct.refused, "refused"), (conduct.unanswered, "not answered"))
    parts = [f"{n} {what}" for n, what in counts if n]
    return "predictions: " + (", ".join(parts) or "none refused")
