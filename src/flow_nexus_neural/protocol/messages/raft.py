"""A step of the raft voter inside a node, and the weights that it is given to hold.

The engine is the network between voters, their clock and their disk: it brings messages and elapsed time,
makes what a step changed durable, and only then carries the messages of that step on.

What a node answers is bounded and has the right form; whether it is true cannot be told. Raft tolerates
voters that crash, not voters that lie.
"""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import override

from flow_nexus_neural.protocol.arrays import Count
from flow_nexus_neural.protocol.contract import AnsweredBy
from flow_nexus_neural.protocol.messages.values import Digest, Seed
from flow_nexus_neural.protocol.plan import Frozen, Name, NetworkPlan
from flow_nexus_neural.protocol.raft_records import (
    MAX_VOTERS,
    Body,
    HardState,
    LogChange,
    Message,
    Needs,
    Records,
    Snapshot,
    Voters,
)
from flow_nexus_neural.vocabulary import RaftRefusal, RaftRole

MAX_STEP_MS = 60_000
MAX_MESSAGES = 64
"""Most messages that a step brings, or that it leaves behind."""

Messages = Annotated[tuple[Message, ...], Field(max_length=MAX_MESSAGES)]


class Proposed(Frozen):
    """A record to append, and the digests of the weights that a voter must hold to acknowledge it."""

    body: Body
    needs: Needs = ()


class Compacted(Frozen):
    """A snapshot to put in the place of the log up to `index`, with the state that its records led to."""

    index: Count
    state: Body


class Appended(Frozen):
    """Where a leader put what it was asked to append."""

    index: Count
    term: Count


class RaftStepped(Frozen):
    """What a step of a voter changed, and what it says.

    Attributes:
        hard, snapshot, log: What changed of its records; durable before `outbox` is carried on.
        outbox: Messages to other voters.
        commit: Last entry that it knows to be committed.
        last: Last entry of its log.
        matched: As the leader: the last entry that each other voter acknowledged.
        appended: Where it put what it was asked to append; None if it was asked nothing or refused.
        refused: Why it did not append, or did not hand over.
    """

    kind: Literal["raft_stepped"] = "raft_stepped"
    hard: HardState | None
    snapshot: Snapshot | None
    log: LogChange | None
    outbox: Messages
    term: Count
    role: RaftRole
    leader: Name | None
    commit: Count
    last: Count
    matched: Annotated[dict[Name, Count], Field(max_length=2 * MAX_VOTERS)]
    appended: Appended | None
    refused: RaftRefusal | None


class RaftStep(AnsweredBy[RaftStepped]):
    """Do one step as a voter: take messages, then what is asked, then the time that has passed.

    Attributes:
        voter: The voter's name, which is that of its slot.
        seed: Decides election timeouts.
        restore: Begin from these records, whatever was before; None goes on.
        preferred: Voters that should rather lead than others.
        propose, change, compact: What to append, the voters to have, what to compact.
    """

    kind: Literal["raft_step"] = "raft_step"
    voter: Name
    seed: Seed
    elapsed_ms: Annotated[int, Field(ge=0, le=MAX_STEP_MS)]
    inbox: Messages = ()
    preferred: Voters = ()
    restore: Records | None = None
    propose: Proposed | None = None
    change: Voters | None = None
    compact: Compacted | None = None

    @override
    def fault_of(self, reply: RaftStepped) -> str | None:
        foreign = {message.sender for message in reply.outbox} - {self.voter}
        if foreign:
            return f"it speaks for {sorted(foreign)} as {self.voter}"
        if reply.appended is not None and self.propose is None and self.change is None:
            return "it appended something that it was not asked to"
        return None


class RaftHeld(Frozen):
    """The digest of the weights in the region, as the node computed it."""

    kind: Literal["raft_held"] = "raft_held"
    digest: Digest


class RaftHold(AnsweredBy[RaftHeld]):
    """Compute the digest of a granted region's weights, and count as their holder until it is revoked."""

    kind: Literal["raft_hold"] = "raft_hold"
    region: Name
    plan: NetworkPlan
