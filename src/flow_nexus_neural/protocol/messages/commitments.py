"""What a worker commits to under proof-of-learning: the state after every segment of its steps."""

from typing import Annotated

from pydantic import Field

from flow_nexus_neural.protocol.arrays import Count
from flow_nexus_neural.protocol.messages.values import MAX_CPU_S, Digest
from flow_nexus_neural.protocol.plan import Frozen

MOST_STATES = 65
"""Of one commitment: 64 segments and the state before the first."""


class ProofOrder(Frozen):
    """Asks for a commitment.

    Attributes:
        steps: Optimiser steps of the assignment; the state after the last one is published, so not kept.
        segment_steps: Optimiser steps of a segment; the last one may be shorter.
        context: Digest of the assignment; the chain begins with it, so that no chain fits two assignments.
    """

    steps: Count
    segment_steps: Annotated[int, Field(ge=1, le=1 << 32)]
    context: Digest


class Commitment(Frozen):
    """Fixes a worker's course of training before anybody knows which part will be checked.

    Attributes:
        states: `protocol.digest.training_digest` of the base and of the state after each segment.
        head: Last link of the chain over them; see `coordination.consensus.proof_of_learning.chain`.
        cpu_s: CPU seconds of hashing and of keeping the states.
    """

    states: Annotated[tuple[Digest, ...], Field(min_length=1, max_length=MOST_STATES)]
    head: Digest
    cpu_s: Annotated[float, Field(ge=0, le=MAX_CPU_S)]
