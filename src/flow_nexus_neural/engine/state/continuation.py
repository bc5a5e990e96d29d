"""What the next round of a training rests on, besides the version in force: durable with every round.

A training whose server died goes on from these, and from nothing that only the server knew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from flow_nexus_neural.engine.reports import Resumed
from flow_nexus_neural.engine.state.network_groups import NetworkGroup


@dataclass(frozen=True)
class StateFiles:
    """The state of a network group after some round, as its checkpoint files hold it."""

    digest: str
    blob: str
    moments_blob: str | None
    server_blob: str | None
    opt_step: int

    @classmethod
    def of(cls, network: NetworkGroup) -> "StateFiles | None":
        """Of a group as it was committed; None for one that never was."""
        if network.digest is None or network.blob is None:
            return None
        return cls(
            network.digest,
            network.blob,
            network.moments_blob,
            network.server_blob,
            network.opt_step,
        )

    def put_into(self, network: NetworkGroup) -> NetworkGroup:
        """A group with this state, which is to be read from the files."""
        return replace(
            network,
            state=None,
            digest=self.digest,
            blob=self.blob,
            moments_blob=self.moments_blob,
            server_blob=self.server_blob,
            stored_step=self.opt_step,
        )

    @property
    def names(self) -> frozenset[str]:
        """Its files."""
        return frozenset(n for n in (self.blob, self.moments_blob, self.server_blob) if n)


@dataclass(frozen=True)
class Continuation:
    """What a training has to remember from one round to the next.

    Attributes:
        dealt: Workers among whom the rows are divided, in the order in which they were dealt.
        asked: Of each client, the last round in which it took part, and in how many it did.
        best: States after the best round; empty where that is the last one or is not known.
        mixing_steps: Of the next barrier, by network group; under gossip only.
        own_states: By network group, the file of what each worker holds; under gossip only.
        controls: By network group, the file of SCAFFOLD's control variates.
    """

    dealt: tuple[str, ...] = ()
    asked: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    best: Mapping[str, StateFiles] = field(default_factory=dict)
    mixing_steps: Mapping[str, int] = field(default_factory=dict)
    own_states: Mapping[str, str] = field(default_factory=dict)
    controls: Mapping[str, str] = field(default_factory=dict)

    def without_best(self) -> Self:
        """The same where the best round is the last one."""
        return replace(self, best={})

    @property
    def files(self) -> frozenset[str]:
        """Files that must stay as long as the training may go on from here."""
        best = [name for files in self.best.values() for name in files.names]
        return frozenset((*best, *self.own_states.values(), *self.controls.values()))


@dataclass(frozen=True)
class Resumptions:
    """How often a training went on after its server had ended or its disk had refused.

    Attributes:
        times: In all.
        after_round: The last committed round when it last went on; None if it never did.
        in_vain: How often since anything of it was last made durable: a training that takes its server with
            it each time must not do so for ever.
        counted: This server's try is counted in vain so far; not stored.
    """

    times: int = 0
    after_round: int | None = None
    in_vain: int = 0
    counted: bool = False

    def report(self) -> Resumed | None:
        """As status reports it; None if it never went on."""
        if self.after_round is None:
            return None
        return Resumed(times=self.times, after_round=self.after_round)

    def once_more(self, after_round: int) -> "Resumptions":
        """It goes on again, after this committed round."""
        return Resumptions(self.times + 1, after_round, self.in_vain + 1, counted=True)

    def in_vain_again(self) -> "Resumptions":
        """Another try of which nothing came, without a server that ended."""
        return replace(self, in_vain=self.in_vain + 1)

    def with_progress(self) -> "Resumptions":
        """Something of it became durable."""
        return replace(self, in_vain=0, counted=False)

    def suspended(self) -> "Resumptions":
        """Its server stops in order, for which the training is not to blame: that try does not count."""
        return replace(self, in_vain=self.in_vain - self.counted, counted=False)


def told_of_interruption(
    phase: str | None, rounds: tuple[int, int], serving: int | None, *, waits: bool
) -> str:
    """What to say of a training whose server ended while it ran.

    Args:
        phase: What followed the rounds when it was interrupted; None in the rounds.
        rounds: How many were committed, and planned.
        serving: Version that is in force; None for none.
        waits: It goes on when it may.
    """
    told = f"interrupted: the server ended after round {rounds[0]} of {rounds[1]}"
    if waits:
        return f"{told}; it goes on by itself when a server that is not read-only opens this state directory"
    if phase is not None and serving is not None:
        return (
            f"interrupted: the server ended in the {phase} after the rounds; version {serving} stays in"
            " force, as it was evaluated"
        )
    if serving is None:
        return f"{told}; no version was committed, so none can be asked. Call neural_train_distributed again"
    return f"{told}; version {serving} stays in force. Call neural_train_distributed to go on"
