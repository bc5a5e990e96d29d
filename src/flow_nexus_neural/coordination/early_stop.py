"""Decides when a training that does not improve any more has come to its end."""

from collections.abc import Sequence

MIN_GAIN = 1e-3
"""Share of the validation loss by which a round must lower it to count as an improvement."""


def rounds_without_gain(losses: Sequence[float | None]) -> int:
    """Rounds since the validation loss was last lowered by more than `MIN_GAIN` of the best before it.

    Gains smaller than that add up: the loss is held against the last one that counted. Without any loss
    nothing can be said, and the answer is 0.

    Args:
        losses: On validation rows, one per committed round, oldest first; None if not measured.

    Source: Prechelt, "Early Stopping - But When?", 1998: the criterion of no progress for so many strips.
    """
    best, since = None, 0
    for loss in losses:
        if loss is not None and (best is None or loss < best * (1 - MIN_GAIN)):
            best, since = loss, 0
        else:
            since += 1
    return 0 if best is None else since
