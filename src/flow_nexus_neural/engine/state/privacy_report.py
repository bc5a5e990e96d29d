"""What a private training has cost, as status reports it."""

from flow_nexus_neural.coordination.privacy.settings import PrivacySettings
from flow_nexus_neural.coordination.privacy.spending import PrivacySpent
from flow_nexus_neural.coordination.privacy.statement import statement_of
from flow_nexus_neural.engine.reports import PrivacyReport


def privacy_report(
    settings: PrivacySettings | None, spent: PrivacySpent, *, full: bool
) -> PrivacyReport | None:
    """The cost with the words for it; None without privacy. What is outside of it only in full."""
    if settings is None:
        return None
    said = statement_of(settings)
    return PrivacyReport(
        mode=settings.mode,
        epsilon=spent.epsilon,
        delta=settings.delta,
        epsilon_of_data=spent.epsilon_of_data,
        noise_multiplier=settings.noise_multiplier,
        clip_norm=min(spent.clip_norms.values(), default=settings.clip_norm),
        sums=spent.most,
        exhausted=spent.exhausted,
        accountant=said.accountant,
        relation=said.relation,
        sampling=said.sampling,
        conversion=said.conversion,
        unit=said.unit,
        outside=list(said.outside) if full else None,
    )
