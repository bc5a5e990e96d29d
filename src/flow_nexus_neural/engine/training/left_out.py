"""Workers that failed in the present round: not asked again in it, and named in what it commits."""

from collections.abc import Collection

from flow_nexus_neural.engine.state.slots import Slot


class LeftOut:
    """Who failed in the tries of one round, by process: a slot that came back with a new one may be asked.

    A round ends, whatever its workers do: each try that lost somebody leaves fewer to ask, and one that lost
    nobody is a failure that counts.
    """

    def __init__(self) -> None:
        self._failed: dict[str, tuple[str, str]] = {}
        self.n_failures = 0

    def begin_round(self) -> None:
        """Another round: everybody is asked again."""
        self._failed, self.n_failures = {}, 0

    def forgive(self) -> None:
        """Too few were left: whoever failed gets another try in this round."""
        self._failed = {}

    def add(self, slot: Slot, reason: str) -> None:
        """A worker failed, for this reason; its status shows it too."""
        self._failed[slot.name] = (slot.node_id, reason)
        self.n_failures += 1
        if slot.healthy:  # of one that is being ended, its end says more
            slot.note_error(reason)

    def refuse(self, slot: Slot, reason: str) -> None:
        """What a worker made is refused, for this reason: it counts as a failure of the worker."""
        self.add(slot, reason)

    def holds(self, slot: Slot) -> bool:
        """Whether the slot's present process has failed in this round."""
        node_id, _ = self._failed.get(slot.name, (None, ""))
        return node_id == slot.node_id

    def reasons(self, contributors: Collection[str]) -> dict[str, str]:
        """Why slots were left out, without those that contributed after all."""
        return {
            name: reason for name, (_, reason) in self._failed.items() if name not in contributors
        }
