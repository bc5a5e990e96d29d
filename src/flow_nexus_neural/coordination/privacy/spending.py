"""What a private training has spent: counted before each noised sum, so that no crash makes it less."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from flow_nexus_neural.coordination.privacy.accountant import Sums, epsilon_of, seen_by
from flow_nexus_neural.coordination.privacy.settings import PrivacySettings

TOLERANCE = 1e-9
"""Relative; a noise multiplier that was solved for spends its target to the last digit."""


@dataclass(frozen=True)
class PrivacySpent:
    """What the noised sums of one training have cost.

    Attributes:
        sums: In how many of them each client took part, or could have, by slot; of `record_dp` its steps.
        clip_norms: That of the next sum of each network, by key, where it is adapted.
        epsilon: Of this training, for the client that took part most often.
        epsilon_of_data: With all earlier private trainings on the same data set.
        data: What identifies the data set: its content, and the place of a file.
        exhausted: Whether the training ended since another round would have exceeded a limit.
    """

    sums: Mapping[str, int] = field(default_factory=dict)
    clip_norms: Mapping[str, float] = field(default_factory=dict)
    epsilon: float = 0.0
    epsilon_of_data: float = 0.0
    data: tuple[str, ...] = ()
    exhausted: bool = False

    @property
    def most(self) -> int:
        """Sums of the client that took part most often."""
        return max(self.sums.values(), default=0)

    def events(self, settings: PrivacySettings) -> list[Sums]:
        """For the accountant: those of the client that took part most often."""
        return [settings.sums(self.most)] if self.most else []

    def charged(
        self, more: Mapping[str, int], settings: PrivacySettings, earlier: Sequence[Sums]
    ) -> "PrivacySpent":
        """With so many more sums of these clients.

        Args:
            more: By slot that was asked, whether or not it delivered.
            settings: Of the training.
            earlier: What other trainings have spent on the same data set.

        Raises:
            UnsupportedCombination: What was spent earlier cannot be counted with these.
        """
        sums = {**self.sums, **{slot: self.sums.get(slot, 0) + n for slot, n in more.items()}}
        spent = replace(self, sums=sums)
        own = spent.events(settings)
        return replace(
            spent,
            epsilon=epsilon_of(own, settings.delta),
            epsilon_of_data=epsilon_of([*seen_by(settings.unit, earlier), *own], settings.delta),
        )

    def with_clip_norm(self, network: str, clip_norm: float) -> "PrivacySpent":
        """With another clipping norm for the next sum of a network."""
        return replace(self, clip_norms={**self.clip_norms, network: clip_norm})

    def exceeds(self, settings: PrivacySettings) -> str | None:
        """Which limit this is above; None if none."""
        for name, limit, spent in (
            ("target_epsilon", settings.target_epsilon, self.epsilon),
            ("max_epsilon", settings.max_epsilon, self.epsilon_of_data),
        ):
            if limit is not None and spent > limit * (1 + TOLERANCE):
                return f"{name} {limit:g}: another round would spend {spent:.6g}"
        return None


def same_data(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two data sets are one: the same content, or the same place, whatever it holds by now."""
    return not set(one).isdisjoint(other)
