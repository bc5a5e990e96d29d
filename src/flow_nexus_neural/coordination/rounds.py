"""Chooses the clients of a round, and decides when the round is over."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.coordination.quorum import round_quorum

HISTORY = 20
"""Number of completion times that are used; older ones were measured under another load."""
MIN_HISTORY = 5
LATE = "late"
NOT_AWAITED = "not awaited: the round could not succeed any more"


@dataclass(frozen=True, slots=True)
class RoundPatience:
    """How long a round waits for the missing, in seconds.

    Attributes:
        least_s: No worker is late before this: on a busy machine an honest one is easily delayed by a second.
        first_slack_s: Without a history, what is added to the median of the first arrivals.
        without_quorum_s: While too few updates have come, the round does not fail before this.
        give_up_s: After this the round ends in any case, also when nobody ever answered.
    """

    least_s: float = 3.0
    first_slack_s: float = 5.0
    without_quorum_s: float = 30.0
    give_up_s: float = 3600.0


USUAL_PATIENCE = RoundPatience()


@dataclass(frozen=True, slots=True)
class Client:
    """A worker that may be selected for a round.

    Attributes:
        group: Name of its capability group, for example its symbol.
        last_round: Round for which it was last selected; None if never.
        times_asked: Number of rounds for which it was selected; decides where `last_round` is equal.
    """

    slot: str
    group: str
    last_round: int | None
    times_asked: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """The round continues; ask again at the next event, or at `until_s` on the clock of the events."""

    until_s: float


@dataclass(frozen=True, slots=True)
class Close:
    """The round is over; the updates of `contributors`, in slot order, are aggregated.

    `excluded` maps every other selected slot to the reason: `LATE`, or why it was lost.
    """

    contributors: tuple[str, ...]
    excluded: dict[str, str]


@dataclass(frozen=True, slots=True)
class Fail:
    """The round has failed; none of its updates is used.

    `excluded` maps every slot that delivered nothing to `LATE`, `NOT_AWAITED`, or why it was lost.
    """

    reason: str
    excluded: dict[str, str]


Decision = Wait | Close | Fail


def unfinished(decision: Close | Fail) -> list[str]:
    """Slots that were still computing when the round was over, in slot order."""
    return [slot for slot, why in decision.excluded.items() if why in (LATE, NOT_AWAITED)]


def sample_clients(eligible: Sequence[Client], n: int, seed: int) -> list[str]:
    """Choose the clients of one round: in proportion to the size of groups, and in turn within each group.

    Each group gets its largest-remainder share of n. Equal remainders go to the group that has waited
    longer, so that 3 + 3 workers asked for 5 alternate between 3/2 and 2/3. Inside a group those who were
    asked least recently come first, then those who were asked less often. What is still equal is decided by
    hashing the seed with the slot.

    Args:
        eligible: In any order; slots are distinct.
        n: Clients wanted, >= 1; all are taken when there are not more.
        seed: Of this round, from `seed64(run, round, "", 0, "sample")`.

    Returns:
        min(n, len(eligible)) slots, in slot order.
    """
    if n >= len(eligible):
        return sorted((client.slot for client in eligible), key=slot_order)
    queue = sorted(eligible, key=lambda client: (client.group, *_turn(client, seed)))
    groups = {name: list(members) for name, members in groupby(queue, lambda client: client.group)}
    chosen: list[str] = []
    for name, quota in _quotas(groups, n, seed).items():
        chosen += [client.slot for client in groups[name][:quota]]
    return sorted(chosen, key=slot_order)


def deadline_s(history: Sequence[float], least_s: float = USUAL_PATIENCE.least_s) -> float:
    """Seconds after its start at which a round may be closed without the missing.

    With the median and the median absolute deviation of the times that workers are expected to need:
    min(3 med, max(med + 4 * 1.4826 mad, 1.25 med, med + 1 s)), but never less than `least_s`.

    Args:
        history: Expected times in seconds, at least one.
        least_s: See `RoundPatience`.

    Source: the scaled MAD is a robust standard deviation (Rousseeuw and Croux, JASA 1993). The last bound
    is ours: where a round takes milliseconds, a busy machine delays an honest worker by far more than 3
    medians, and leaving it out would make the result depend on the machine's load.
    """
    middle = median(history)
    spread = 1.4826 * median(abs(time - middle) for time in history)
    limit = min(3 * middle, max(middle + 4 * spread, 1.25 * middle, middle + 1.0))
    return max(limit, least_s)


class Round:
    """The state machine of one round: its methods take events and return decisions.

    Every event carries the time at which it happened, on any monotonic clock, and returns the decision at
    that time. A decision `Close` or `Fail` is final: updates that arrive later are late. Of each selected
    slot only the first event counts.

    Args:
        selected: Slots that were asked.
        min_contributors: Least number of updates from which a version is made.
        started_s: Time at which the slots were asked.
        history: Expected completion times for this round's work in seconds, newest last; only the last 20
            are used, and fewer than 5 are none.
        wait_for_all: Wait for every live slot, so that time does not decide who contributes.
        patience: How long it waits for the missing.
    """

    def __init__(
        self,
        selected: Sequence[str],
        *,
        min_contributors: int,
        started_s: float,
        history: Sequence[float] = (),
        wait_for_all: bool = False,
        patience: RoundPatience = USUAL_PATIENCE,
    ) -> None:
        self.quorum = round_quorum(len(selected), min_contributors)
        self._started_s = started_s
        self._now_s = started_s
        self._wait_for_all = wait_for_all
        self._patience = patience
        self._history = list(history)[-HISTORY:] if len(history) >= MIN_HISTORY else []
        self._outstanding = set(selected)
        self._arrived: dict[str, float] = {}
        self._excluded: dict[str, str] = {}
        self._final: Close | Fail | None = None
        if len(self._outstanding) != len(selected):
            raise ValueError(f"slots repeat: {list(selected)}")

    @property
    def completions_s(self) -> dict[str, float]:
        """Seconds from the start to each update that came in time, in slot order."""
        return {slot: self._arrived[slot] for slot in sorted(self._arrived, key=slot_order)}

    def answered(self, slot: str, at_s: float) -> Decision:
        """Event: an admissible update of `slot` has arrived. Repeated, late and unasked ones are ignored."""
        self._advance(at_s)
        if self._final is None and slot in self._outstanding:
            self._outstanding.remove(slot)
            self._arrived[slot] = self._now_s - self._started_s
        return self._decide()

    def lost(self, slot: str, at_s: float, reason: str = "died") -> Decision:
        """Event: `slot` will not answer. An update that it has already delivered still counts."""
        self._advance(at_s)
        if self._final is None and slot in self._outstanding:
            self._outstanding.remove(slot)
            self._excluded[slot] = reason
        return self._decide()

    def tick(self, at_s: float) -> Decision:
        """Event: time has passed."""
        self._advance(at_s)
        return self._decide()

    def _advance(self, at_s: float) -> None:
        # An event that happened after a deadline comes after the deadline's own decision.
        self._now_s = max(self._now_s, at_s)
        self._decide()

    def _decide(self) -> Decision:
        if self._final is None:
            outcome = self._judge()
            if isinstance(outcome, Wait):
                return outcome
            self._final = outcome
        return self._final

    def _judge(self) -> Decision:
        arrived, possible = len(self._arrived), len(self._arrived) + len(self._outstanding)
        if not self._outstanding and arrived >= self.quorum:
            return self._close()
        if possible < self.quorum:
            return self._fail(
                f"{possible} of {self.quorum} needed updates are still possible", NOT_AWAITED
            )
        soft_s, hard_s = self._limits()
        # Compared as points in time: started + (due - started) need not be due in floating point.
        due_s = self._started_s + (soft_s if arrived >= self.quorum else hard_s)
        if self._now_s < due_s:
            return Wait(due_s)
        if arrived >= self.quorum:
            return self._close()
        return self._fail(
            f"{arrived} of {self.quorum} needed updates came within {hard_s:.1f} s", LATE
        )

    def _limits(self) -> tuple[float, float]:
        """Two deadlines in seconds from the start: to close with a quorum, and to fail without one."""
        if self._wait_for_all:
            return self._patience.give_up_s, self._patience.give_up_s
        times = self._history or list(self._arrived.values())
        if not times:
            return self._patience.give_up_s, self._patience.give_up_s
        middle = median(times)
        hard_s = min(max(10 * middle, self._patience.without_quorum_s), self._patience.give_up_s)
        # Without a history the first arrivals stand in for it; they are the fastest of all.
        soft_s = (
            deadline_s(times, self._patience.least_s)
            if self._history
            else max(2 * middle, middle + self._patience.first_slack_s)
        )
        return min(soft_s, hard_s), hard_s

    def _close(self) -> Close:
        late = dict.fromkeys(self._outstanding, LATE)
        return Close(tuple(self.completions_s), _in_slot_order({**self._excluded, **late}))

    def _fail(self, reason: str, why_unfinished: str) -> Fail:
        missing = dict.fromkeys(self._outstanding, why_unfinished)
        return Fail(reason, _in_slot_order({**self._excluded, **missing}))


def _in_slot_order(reasons: dict[str, str]) -> dict[str, str]:
    return {slot: reasons[slot] for slot in sorted(reasons, key=slot_order)}


def _turn(client: Client, seed: int) -> tuple[int, int, str]:
    return (
        _asked(client),
        client.times_asked,
        hashlib.sha256(f"{seed}:{client.slot}".encode()).hexdigest(),
    )


def _asked(client: Client) -> int:
    return -1 if client.last_round is None else client.last_round


def _quotas(groups: dict[str, list[Client]], n: int, seed: int) -> dict[str, int]:
    total = sum(len(members) for members in groups.values())
    quotas = {name: n * len(members) // total for name, members in groups.items()}

    def claim(name: str) -> tuple[int, list[int], str]:
        members = groups[name]
        waited = sorted(_asked(client) for client in members)
        draw = hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
        return -(n * len(members) % total), waited, draw

    for name in sorted(groups, key=claim)[: n - sum(quotas.values())]:
        quotas[name] += 1
    return quotas
