"""Whether the level of a price is an input of a model that is to tell the price's own next move.

A price wanders: test rows and the future lie where no training row was, and a network answers there from what
it made of other levels. Where the rows hold a history of moves beside it, the level is left out.
"""

from collections.abc import Collection
from typing import Final

from flow_nexus_neural.data.column_names import PRICE_NAMES, first_named

LEVEL: Final = "level of the price whose move is predicted"


def wandering_level(
    features: Collection[str], vector: str | None, chosen: Collection[str], *, of_a_move: bool
) -> str | None:
    """The price among the inputs that is better left out; None if there is none.

    Args:
        features: Names of the usable inputs.
        vector: The vector column among them, taken as the history of moves; without one, such as in rows of
            a window, the level is all that is known and stays.
        chosen: Names that the caller wants as inputs, which stay whatever they are.
        of_a_move: Whether the label is what the price does next.
    """
    if not of_a_move or vector not in features:
        return None
    level = first_named([name for name in features if name != vector], PRICE_NAMES)
    return None if level is None or level.lower() in {name.lower() for name in chosen} else level


def left_out(level: str) -> str:
    """What the caller is told."""
    return (
        f"'{level}' is left out: its level says little about its next move, and later ones are unlike those"
        " learnt from; name it in features to use it"
    )
