"""How a training was changed after it began, within what its caller allowed."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Steering:
    """What autonomy has changed of a training; nothing at first. Takes effect between two rounds.

    Attributes:
        learning_rate: In force in place of the configured one; None for that.
        rate_before: The one before the last change; None where that may not be taken back.
        adapted_at: Rounds that were done at the last change; None before the first.
        diverged: Changes that went back to the best round.
        clients_per_round: Clients asked in place of the configured number; None for that.
        stop_reason: Why it ends after the present round; None where it does not.
        rates: Rounds from which on another rate was in force, with that rate, in order.
        paused: Why it waits between two rounds; None where it does not.
    """

    learning_rate: float | None = None
    rate_before: float | None = None
    adapted_at: int | None = None
    diverged: int = 0
    clients_per_round: int | None = None
    stop_reason: str | None = None
    paused: str | None = None
    rates: tuple[tuple[int, float], ...] = ()

    def with_rate_from(self, number: int) -> "Steering":
        """The same, where a round is about to begin under the rate in force."""
        last = self.rates[-1][1] if self.rates else None
        if self.learning_rate == last or self.learning_rate is None:
            return self
        return replace(self, rates=(*self.rates, (number, self.learning_rate)))

    def rate_of(self, number: int) -> float | None:
        """The rate of a round; None for the configured one."""
        found = [rate for first, rate in self.rates if first <= number]
        return found[-1] if found else None
