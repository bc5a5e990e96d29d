"""Who is needed for a sum of masked updates."""

from typing import Final

LEAST_CLIENTS: Final = 3
"""Of two, each could subtract its own update from the sum."""


def threshold_of(n: int) -> int:
    """How many of n workers can take masks off, and are needed for it: more than a half.

    So no two groups can each do it, and fewer than a half may be lost. Source: Bonawitz et al., CCS 2017,
    section 4, for parties that follow the protocol.
    """
    return n // 2 + 1


def least_delivered(threshold: int) -> int:
    """How many updates must be in a sum before its masks may come off, whoever was lost on the way."""
    return max(threshold, LEAST_CLIENTS)
