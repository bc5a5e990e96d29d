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
