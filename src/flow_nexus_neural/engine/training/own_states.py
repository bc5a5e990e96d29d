"""States that workers had of their own when their server ended, and that their new processes start from."""

from collections.abc import Mapping

from flow_nexus_neural.engine.state.network_groups import ModelState


class OwnStates:
    """What is given back to workers, in place of a common state, until a round is made of it."""

    def __init__(self) -> None:
        self._by_common: dict[int, tuple[ModelState, Mapping[str, ModelState]]] = {}

    def give_back(self, common: ModelState, own: Mapping[str, ModelState]) -> None:
        """Let workers start from states of their own.

        Args:
            common: What every other worker starts from.
            own: By slot, what each of these held when the state became common.
        """
        self._by_common[id(common)] = (common, own)

    def of(self, slot: str, common: ModelState | None) -> ModelState | None:
        """What a worker starts from in place of a common state; None where it was given nothing."""
        known, own = self._by_common.get(id(common), (None, {}))
        return own.get(slot) if known is common else None

    def forget(self) -> None:
        """A round was made since: what workers hold now counts."""
        self._by_common.clear()
