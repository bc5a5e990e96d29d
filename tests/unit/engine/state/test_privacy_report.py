"""What a private training has cost, in words and numbers."""

from flow_nexus_neural.coordination.privacy.settings import PrivacySettings
from flow_nexus_neural.coordination.privacy.spending import PrivacySpent
from flow_nexus_neural.engine.state.privacy_report import privacy_report

SETTINGS = PrivacySettings(
    mode="central_dp",
    clip_norm=1.0,
    noise_multiplier=2.0,
    target_epsilon=None,
    delta=1e-5,
    adaptive=True,
    max_epsilon=None,
)
SPENT = PrivacySpent(sums={"a": 3, "b": 1}, clip_norms={"c0": 0.5}, epsilon=1.5)


def test_a_training_without_privacy_has_none():
    assert privacy_report(None, SPENT, full=True) is None


def test_the_client_that_took_part_most_often_counts():
    told = privacy_report(SETTINGS, SPENT, full=False)
    assert (told.sums, told.epsilon, told.clip_norm) == (3, 1.5, 0.5)
    assert told.outside is None


def test_who_is_protected_is_said_as_it_is():
    workers = privacy_report(SETTINGS, SPENT, full=True)
    of_data = privacy_report(SETTINGS.model_copy(update={"of_data": True}), SPENT, full=True)
    assert "rows of one worker" in workers.unit
    assert "one client of the data" in of_data.unit
    assert any("every node that is lent" in line for line in of_data.outside)
