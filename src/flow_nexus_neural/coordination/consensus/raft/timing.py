"""When a voter does something by itself: times that passed, as they are told to it."""

from dataclasses import dataclass

from flow_nexus_neural.kernels.seeds import seed64

HEARTBEAT_MS = 100
ELECTION_MS = 500
"""The shortest election timeout; each one is drawn from here to twice as long."""


@dataclass(slots=True)
class Timers:
    """Milliseconds since a voter last did or heard something.

    Attributes:
        me: Its name, which together with the seed decides how long its election timeouts are.
        heard_ms: Since it heard from a leader, granted a vote, or began an election.
        sent_ms: Since it, as a leader, wrote to everybody.
        quorum_ms: Since it, as a leader, last counted who answers.
        timeout_ms: How long it waits for a leader this time.
    """

    me: str
    seed: int
    heard_ms: int = 0
    sent_ms: int = 0
    quorum_ms: int = 0
    timeout_ms: int = 2 * ELECTION_MS
    drawn: int = 0

    def pass_(self, elapsed_ms: int) -> None:
        """Time has passed."""
        self.heard_ms += elapsed_ms
        self.sent_ms += elapsed_ms
        self.quorum_ms += elapsed_ms

    def heard(self, *, waits_longer: bool) -> None:
        """Begin to wait for a leader anew.

        Args:
            waits_longer: A voter that others are preferred to waits one election timeout more.
        """
        self.drawn += 1
        jitter = seed64((self.seed, 0), 0, self.me, self.drawn, "election") % ELECTION_MS
        self.timeout_ms = ELECTION_MS + jitter + (ELECTION_MS if waits_longer else 0)
        self.heard_ms = 0

    @property
    def is_leased(self) -> bool:
        """Whether a leader was heard so lately that nobody else should be elected."""
        return self.heard_ms < ELECTION_MS
