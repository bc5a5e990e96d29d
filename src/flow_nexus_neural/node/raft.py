"""A raft voter inside a node: the pure state machine, fed by the engine's requests.

The node keeps nothing durable. What it says has changed is written by the engine, which gives it back to the
node's successor.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.consensus.raft.voter import Appended as Place
from flow_nexus_neural.coordination.consensus.raft.voter import RaftVoter
from flow_nexus_neural.protocol.digest import weights_digest
from flow_nexus_neural.protocol.messages import (
    RaftHeld,
    RaftHold,
    RaftStep,
    RaftStepped,
)
from flow_nexus_neural.protocol.messages.raft import Appended
from flow_nexus_neural.vocabulary import RaftRefusal


class RaftSeat:
    """The voter of a node, if it is one, and the weights that it holds by region."""

    def __init__(self) -> None:
        self._voter: RaftVoter | None = None
        self._held: dict[str, str] = {}

    def hold(self, request: RaftHold, state: Mapping[str, NDArray[Any]]) -> RaftHeld:
        """Hold the weights of a granted region, under the digest that was computed from them here."""
        params, buffers = (np.asarray(state[name], np.float32) for name in ("params", "buffers"))
        digest = weights_digest(request.plan, params, buffers)
        self._held[request.region] = digest
        return RaftHeld(digest=digest)

    def forget(self, regions: Sequence[str]) -> None:
        """These regions are gone, and the weights in them."""
        for region in regions:
            self._held.pop(region, None)

    def step(self, request: RaftStep) -> RaftStepped:
        """Do one step.

        Raises:
            LookupError: There is no voter yet, and the request has no records to begin from.
        """
        voter = self._voter
        if request.restore is not None:
            voter = self._voter = RaftVoter(
                request.voter, request.restore, request.seed, request.preferred
            )
        if voter is None:
            raise LookupError(f"there is no voter {request.voter!r} here: its records are needed")
        voter.hold(self._held.values())
        voter.prefer(request.preferred)
        for message in request.inbox:
            voter.receive(message)
        if request.compact is not None:
            voter.compact(request.compact.index, request.compact.state)
        answer: Place | RaftRefusal | None = None
        if request.propose is not None:
            answer = voter.propose(request.propose.body, request.propose.needs)
        elif request.change is not None:
            answer = voter.change(request.change)
        voter.tick(request.elapsed_ms)
        return _stepped(voter, answer)


def _stepped(voter: RaftVoter, answer: Place | RaftRefusal | None) -> RaftStepped:
    output = voter.take_output()
    place = answer if isinstance(answer, Place) else None
    return RaftStepped(
        hard=output.hard,
        snapshot=output.snapshot,
        log=output.log,
        outbox=output.outbox,
        term=voter.term,
        role=voter.role,
        leader=voter.leader,
        commit=voter.commit,
        last=voter.log.last_index,
        matched=dict(voter.matched),
        appended=None if place is None else Appended(index=place.index, term=place.term),
        refused=None if isinstance(answer, Place) else answer,
    )
