"""When a node whose predictions cannot be used is doubted, and when it is ended.

Only what an honest node never does may be counted: an answer of the wrong form, and a question left open
although a later one was answered. That a node is slow, or that its machine is busy, is neither.
"""

from dataclasses import dataclass
from typing import Literal

Answer = Literal["right", "refused", "unanswered"]
Verdict = Literal["trusted", "suspect", "ended"]

MAX_IN_A_ROW = 3
MAX_OF_CALLERS = 5
"""A node that answers the engine's own questions and fails those of callers gets so many of them."""


@dataclass(frozen=True, slots=True)
class Conduct:
    """How one incarnation of a slot has answered predictions.

    Attributes:
        refused: Answers that could not be used, ever.
        unanswered: Questions that it left open, ever.
        in_a_row: Of both, since its last right answer.
        of_callers: Of both, in questions of callers, since the last one that it answered right.
    """

    refused: int = 0
    unanswered: int = 0
    in_a_row: int = 0
    of_callers: int = 0


def after(conduct: Conduct, answer: Answer, *, from_caller: bool) -> Conduct:
    """The conduct with one more answer.

    Args:
        conduct: Until now.
        answer: To the latest question.
        from_caller: Whether a caller asked it; else the engine did, to learn more about a doubted node.
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
    """`suspect` is not asked by callers until it has answered the engine right; `ended` is killed."""
    if conduct.in_a_row >= MAX_IN_A_ROW or conduct.of_callers >= MAX_OF_CALLERS:
        return "ended"
    return "suspect" if conduct.in_a_row else "trusted"


def told(conduct: Conduct) -> str:
    """The counts, for a text: `3 predictions refused, 1 not answered`."""
    counts = ((conduct.refused, "refused"), (conduct.unanswered, "not answered"))
    parts = [f"{n} {what}" for n, what in counts if n]
    return "predictions: " + (", ".join(parts) or "none refused")
