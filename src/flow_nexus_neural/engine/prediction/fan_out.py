"""One question to all serving nodes at once, for as long as its caller waits."""

from collections.abc import Sequence
from typing import Final

import anyio
import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.backend_choice import Backend
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.prediction.conduct import hold_to_account
from flow_nexus_neural.engine.prediction.question import Asking, Question, by_wasm, tell_apart
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.runtime.base import NodeHandle

TOO_LATE: Final = "no answer before the deadline"


class FanOut:
    """Asks nodes and collects their answers until its caller leaves.

    Of what is still open then, one question a node is kept open without anybody waiting for it: it shows
    whether the node is slow or withholds answers. The others are given up.

    Attributes:
        logits: [rows, n_outputs] float64 by slot.
        heard: Slots that answered; one may have been removed since.
        latency_ms: Of each answer.
        backends: What computed each answer.
        excluded: Slots that did not answer, with reasons.
        asked: How many were asked.
        limit_s: How long all of them were waited for.
    """

    def __init__(self, cluster: LiveCluster, question: Question) -> None:
        self.logits: dict[str, NDArray[np.float64]] = {}
        self.heard: dict[str, Slot] = {}
        self.latency_ms: dict[str, float] = {}
        self.backends: dict[str, Backend] = {}
        self.excluded: dict[str, str] = {}
        self.asked, self.limit_s = 0, 0.0
        self._cluster = cluster
        self._question = question
        self._began_s = cluster.clock()
        self._open: dict[str, tuple[Slot, NodeHandle, anyio.CancelScope]] = {}
        self._answered = anyio.Event()
        self._done = anyio.Event()
        self._watching: set[str] = set()
        self._needed = 1
        self._left = False
        self._watcher = anyio.CancelScope()

    async def ask(
        self, slots: Sequence[Slot], limit_s: float, patience_s: float | None, needed: int = 1
    ) -> None:
        """Return when all have answered, or at the limit, or then within patience.

        Args:
            slots: Who is asked.
            limit_s: How long all are waited for.
            patience_s: How long fewer than `needed` answers are waited for after that.
            needed: Fewest answers of use.
        """
        self._needed = needed
        self.asked, self.limit_s = len(slots), limit_s
        for slot in slots:
            if slot.handle is not None and not self._answered_here(slot):
                self._open[slot.name] = slot, slot.handle, anyio.CancelScope()
        if not self._open:
            return
        questions = []
        for slot, handle, scope in list(self._open.values()):
            asking = Asking(self._cluster, slot, self._question)
            questions.append(asking)
            self._cluster.context.spawn(self._ask_one, slot, handle, scope, asking)
        self._cluster.context.spawn(self._watch, questions)
        try:
            with anyio.move_on_after(limit_s):
                await self._done.wait()
            if patience_s is not None and not self._done.is_set():
                with anyio.move_on_after(patience_s):
                    await self._answered.wait()
        finally:
            self._leave()

    def _answered_here(self, slot: Slot) -> bool:
        """Answer for a node that was just heard to live, where WebAssembly computes its answers."""
        outcome = by_wasm(self._cluster, slot, self._question)
        if outcome is None or outcome.logits is None:
            return False
        self._note(slot, outcome.logits, outcome.backend)
        return True

    def _note(self, slot: Slot, logits: NDArray[np.float64], backend: Backend) -> None:
        self.logits[slot.name], self.backends[slot.name] = logits, backend
        self.heard[slot.name] = slot
        self.latency_ms[slot.name] = (self._cluster.clock() - self._began_s) * 1e3

    async def _watch(self, questions: Sequence[Asking]) -> None:
        with self._watcher:
            await tell_apart(self._cluster, questions)

    async def _ask_one(
        self, slot: Slot, handle: NodeHandle, scope: anyio.CancelScope, asking: Asking
    ) -> None:
        try:
            with scope:
                outcome = await asking.outcome()
                if not self._left and outcome.logits is not None:
                    self._note(slot, outcome.logits, outcome.backend)
                    if len(self.logits) >= self._needed:
                        self._answered.set()
                elif not self._left:
                    self.excluded[slot.name] = outcome.reason
                self._finish(slot)
                await hold_to_account(self._cluster, slot, handle, self._question, outcome)
        finally:
            self._finish(slot)
            if slot.name in self._watching:
                slot.end_watch(handle)

    def _finish(self, slot: Slot) -> None:
        self._open.pop(slot.name, None)
        if not self._open:
            self._done.set()
            self._answered.set()
            self._watcher.cancel()

    def _leave(self) -> None:
        self._left = True
        for slot, handle, scope in self._open.values():
            self.excluded[slot.name] = TOO_LATE
            if slot.begin_watch(handle):
                self._watching.add(slot.name)
            else:
                scope.cancel()
