"""What a promise is, and short words to write many of them down."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["held", "not_built"]


@dataclass(frozen=True)
class Promise:
    """One thing that the user's document or the contract lets a client expect.

    Attributes:
        id: Stable and short. Its first part says who promised, `seed` or `contract`; the rest follows one of
            `<group>.<word>` (`topology.ring`), `<tool>.<argument>` (`init.reuse`),
            `<tool>.reply.<field>`, `<tool>.rule.<slug>`, or `<subject>.<slug>` for anything else.
        source: Where it was promised.
        text: The promise, in one plain sentence.
        tests: Node ids of the tests that fail when it is broken, without parameters.
        status: `held`; or `not_built`, and then `tests` show that the product says so.
        instead: For `not_built`: the words in which the README, a document or a reply says so.
    """

    id: str
    source: str
    text: str
    tests: tuple[str, ...]
    status: Status
    instead: str = ""


class Section:
    """Makes the promises of one part of a source."""

    def __init__(self, source: str) -> None:
        self._source = source

    def held(self, id_: str, text: str, *tests: str) -> Promise:
        """A promise that the tests hold."""
        return Promise(id_, self._source, text, tests, "held")

    def not_built(self, id_: str, text: str, instead: str, *tests: str) -> Promise:
        """A promise that this version does not keep, and the words that say so."""
        return Promise(id_, self._source, text, tests, "not_built", instead)
