"""The privacy of a model's weights, composed over all trainings in them as another accountant does."""

import pytest
from dp_accounting import GaussianDpEvent, NeighboringRelation, SelfComposedDpEvent
from dp_accounting.dp_event import ComposedDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from flow_nexus_neural.coordination.privacy import accountant
from flow_nexus_neural.coordination.privacy.lineage import (
    FRESH,
    UNKNOWN,
    ModelPrivacy,
    composed,
    fault_of,
    of_training,
    with_training,
)
from flow_nexus_neural.coordination.privacy.settings import PrivacySettings
from flow_nexus_neural.coordination.privacy.spending import PrivacySpent
from flow_nexus_neural.errors import NotAvailable

HERE, THERE = ("sha256:aa", "file:/a.csv"), ("sha256:bb",)


def trained(name, sums=4, data=HERE, **changes):
    """A training of so many noised sums; without privacy where `sums` is None."""
    bare = PrivacySpent(data=data)
    if sums is None:
        return of_training(name, 3, None, bare, secure_aggregation=False)
    usual = {
        "mode": "central_dp",
        "clip_norm": 1.0,
        "noise_multiplier": 2.0,
        "target_epsilon": None,
        "delta": 1e-5,
        "adaptive": False,
        "max_epsilon": None,
    }
    settings = PrivacySettings(**usual | changes)
    spent = bare.charged({"worker-0": sums, "worker-1": 1}, settings, [])
    return of_training(name, 3, settings, spent, secure_aggregation=False)


def by_pld(*events):
    """Of dp-accounting's accountant by privacy loss distributions, which nothing here uses."""
    other = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, 1e-4)
    other.compose(ComposedDpEvent(list(events)))
    return other.get_epsilon(1e-5)


def test_trainings_on_one_data_set_cost_what_an_independent_accountant_says():
    made = with_training(with_training(FRESH, trained("a")), trained("b", 9, noise_multiplier=3.0))
    events = [
        SelfComposedDpEvent(GaussianDpEvent(2.0), 4),
        SelfComposedDpEvent(GaussianDpEvent(3.0), 9),
    ]
    assert made.mode == "central_dp"
    assert made.epsilon == pytest.approx(by_pld(*events), rel=2e-3)
    assert made.epsilon > max(one.epsilon for one in made.trainings)
    (data,) = made.data_sets
    assert (data.trainings, data.epsilon, data.delta) == (("a", "b"), made.epsilon, 1e-5)


def test_sampled_steps_on_one_data_set_compose_by_their_divergences():
    steps = {"mode": "record_dp", "sampling_rate": 0.05, "noise_multiplier": 1.1, "steps": 20}
    made = with_training(
        with_training(FRESH, trained("a", 200, **steps)), trained("b", 100, **steps)
    )
    event = SelfComposedDpEvent(PoissonSampledDpEvent(0.05, GaussianDpEvent(1.1)), 300)
    other = RdpAccountant(neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE)
    other.compose(event)
    assert made.epsilon == pytest.approx(other.get_epsilon(1e-5), rel=1e-2)
    assert made.mode == "record_dp"


def test_rows_of_clients_that_were_protected_count_as_single_rows_beside_steps():
    steps = {"mode": "record_dp", "noise_multiplier": 4.0}
    made = with_training(with_training(FRESH, trained("a")), trained("b", 5, **steps))
    halved = SelfComposedDpEvent(GaussianDpEvent(1.0), 4)
    assert made.epsilon == pytest.approx(
        by_pld(halved, SelfComposedDpEvent(GaussianDpEvent(4.0), 5)), rel=2e-3
    )


def test_workers_and_clients_of_the_data_are_told_apart_and_never_added_up():
    worker, client = trained("a"), trained("b", 9, of_data=True)
    assert (worker.protects, client.protects) == ("client", "client_of_data")
    assert client.spent.unit == "client_of_data"
    both = with_training(with_training(FRESH, worker), client)
    assert (both.mode, both.epsilon, both.delta) == ("mixed", None, None)
    (data,) = both.data_sets
    assert (data.mode, data.epsilon, data.protects) == ("mixed", None, None)
    assert [one.epsilon for one in both.trainings] == [worker.epsilon, client.epsilon]
    assert fault_of(both) is None
    # A row is in one vector of either kind, so that of rows both are counted.
    row = with_training(both, trained("c", 5, mode="record_dp", noise_multiplier=4.0))
    halved = SelfComposedDpEvent(GaussianDpEvent(1.0), 13)
    steps = SelfComposedDpEvent(GaussianDpEvent(4.0), 5)
    assert (row.mode, row.data_sets[0].protects) == ("record_dp", "record")
    assert row.epsilon == pytest.approx(by_pld(halved, steps), rel=2e-3)


def test_clients_of_the_data_compose_with_clients_of_the_data():
    made = with_training(
        with_training(FRESH, trained("a", of_data=True)), trained("b", 9, of_data=True)
    )
    assert made.epsilon == pytest.approx(
        by_pld(SelfComposedDpEvent(GaussianDpEvent(2.0), 13)), rel=2e-3
    )
    assert (made.mode, made.data_sets[0].protects) == ("central_dp", "client_of_data")


def test_a_model_of_two_data_sets_says_where_these_protect_others():
    made = with_training(with_training(FRESH, trained("a")), trained("b", 9, THERE, of_data=True))
    assert made.mode == "mixed"
    assert made.epsilon == made.trainings[1].epsilon
    assert [one.protects for one in made.data_sets] == ["client", "client_of_data"]


def test_of_other_data_the_dearest_set_counts_and_each_is_named():
    made = with_training(with_training(FRESH, trained("a", 2)), trained("b", 30, THERE))
    assert [one.data for one in made.data_sets] == [HERE, THERE]
    assert made.epsilon == made.trainings[1].epsilon > made.trainings[0].epsilon


def test_a_content_or_a_place_in_common_makes_data_the_same():
    chain = [trained("a", data=("sha256:1", "file:/x")), trained("b", data=("sha256:2",))]
    chain.append(trained("c", data=("sha256:2", "file:/x")))
    (data,) = composed(chain).data_sets
    assert data.trainings == ("a", "b", "c")
    assert set(data.data) == {"sha256:1", "sha256:2", "file:/x"}


def test_one_training_without_privacy_takes_the_epsilon_away():
    private = with_training(FRESH, trained("a"))
    made = with_training(private, trained("b", None))
    assert (made.mode, made.epsilon, made.delta) == ("none", None, None)
    other = with_training(private, trained("b", None, THERE))
    assert (other.mode, other.epsilon) == ("mixed", None)
    assert other.data_sets[0].epsilon == private.epsilon
    assert other.bare_on(THERE) == "b"
    assert other.bare_on(HERE) is None


def test_weights_of_unknown_origin_have_no_epsilon_whatever_follows():
    made = with_training(UNKNOWN, trained("a"))
    assert (made.mode, made.epsilon) == ("unknown", None)
    assert made.data_sets[0].epsilon == trained("a").epsilon
    assert with_training(made, trained("b")).mode == "unknown"


def test_the_same_training_further_on_replaces_what_it_had_cost():
    made = with_training(with_training(FRESH, trained("a", 2)), trained("a", 5))
    assert [one.sums for one in made.trainings] == [5]
    assert made.epsilon == trained("a", 5).epsilon


def test_what_is_known_of_other_data_is_not_composed_again(monkeypatch):
    known = with_training(with_training(FRESH, trained("a")), trained("b"))
    monkeypatch.setattr(
        accountant, "_library", lambda: (_ for _ in ()).throw(NotAvailable("x", hint="y"))
    )
    made = with_training(known, trained("c", None, THERE))
    assert made.data_sets[0] == known.data_sets[0]


def test_a_statement_from_elsewhere_is_held_against_its_sums():
    made = with_training(with_training(FRESH, trained("a")), trained("b", 9, noise_multiplier=3.0))
    assert fault_of(made) is None
    assert fault_of(UNKNOWN) is None

    def changed(**of_whole):
        return ModelPrivacy.model_validate(made.model_dump() | of_whole)

    def of_first(**of_one):
        first, second = made.model_dump()["trainings"]
        return changed(trainings=[first | of_one, second])

    for bad in (
        changed(epsilon=0.5),
        changed(epsilon=None),
        changed(mode="none"),
        changed(data_sets=[]),
        changed(data_sets=[{**made.data_sets[0].model_dump(), "epsilon": 0.1}]),
        of_first(sums=1),
        of_first(noise_multiplier=50.0),
        of_first(epsilon=0.01),
        of_first(mode="none"),
        of_first(sums=None),
        of_first(protects="record"),
        of_first(protects="client_of_data"),
    ):
        assert fault_of(bad) is not None
