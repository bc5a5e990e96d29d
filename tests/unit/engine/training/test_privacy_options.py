"""What `privacy` excludes, what it becomes, and what others have spent on the same data."""

from types import SimpleNamespace

import pytest

from flow_nexus_neural.coordination.privacy.accountant import Sums, epsilon_of
from flow_nexus_neural.coordination.privacy.lineage import ModelPrivacy, TrainingPrivacy
from flow_nexus_neural.coordination.privacy.spending import PrivacySpent
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.storage.privacy_rows import StoredSpending
from flow_nexus_neural.engine.training.arguments import check_arguments
from flow_nexus_neural.engine.training.privacy_options import (
    Planned,
    check_lineage,
    check_privacy,
    effective_privacy,
    foreseen,
    identity_of,
    spent_before,
    steps_of_pass,
)
from flow_nexus_neural.errors import (
    InvalidArguments,
    PrivacyBudgetSpent,
    UnsupportedCombination,
)
from tests.unit.coordination.test_privacy import settings
from tests.unit.engine.building import network, training
from tests.unit.engine.training.test_strategies import config

LOUD = {"mode": "central_dp", "noise_multiplier": 2.0}
DATA = ("sha256:1", "file:/a.csv")


def request(**more):
    values = {"federated": True, "privacy": LOUD} | more
    return TrainRequest(cluster_id="c", dataset="d", **values)


def test_what_goes_on_from_a_mean_can_be_private():
    for method in (None, "fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad"):
        check_arguments(request(aggregation_method=method), "raft")
    check_arguments(request(), "proof-of-learning")


@pytest.mark.parametrize(
    ("consensus", "method"),
    [("raft", "krum"), ("raft", "scaffold"), ("raft", "fltrust"), ("byzantine", None)],
)
def test_rules_that_need_single_updates_are_refused(consensus, method):
    with pytest.raises(UnsupportedCombination, match="works on single ones") as caught:
        check_privacy(request(aggregation_method=method, optimizer="sgd"), consensus)
    assert "federated_averaging" in caught.value.hint


def test_gossip_is_refused():
    with pytest.raises(UnsupportedCombination, match="works on single ones"):
        check_privacy(request(), "gossip")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"federated": False}, "mode central_dp belongs to federated"),
        ({"refit": True}, "refit trains on the same rows once more"),
        ({"folds": 3}, "folds trains on the same rows once more"),
        ({"privacy": {}}, "mode field required"),
        ({"privacy": {"mode": "central_dp"}}, "either noise_multiplier or target_epsilon"),
    ],
)
def test_what_would_not_be_counted_is_refused(more, said):
    with pytest.raises(InvalidArguments, match=said):
        check_arguments(request(**more), "raft")
    check_arguments(request(refit=False), "raft")


def groups(n, *, symbols=1):
    return {f"worker-{k}": f"g{k % symbols}" for k in range(n)}


def planned(made, *, n, networks, rows=100):
    return Planned(made, dict.fromkeys(groups(n), rows), groups(n), networks, (1, 0))


@pytest.mark.parametrize(
    ("clients", "rounds", "most"), [(4, 9, 9), (9, 9, 9), (2, 9, 5), (1, 8, 2), (3, 8, 6)]
)
def test_in_turn_a_client_is_asked_in_its_share_of_the_rounds(clients, rounds, most):
    run_of = config(clients_per_round=clients, rounds=rounds)
    assert planned(run_of, n=4, networks={}).most_rounds() == most
    alone = run_of.model_copy(update={"federated": False})
    assert planned(alone, n=4, networks={}).most_rounds() == rounds


def of_linear(asked, clients=3, n=4, **more):
    networks = {"c0": network(slots=tuple(groups(n)))}
    made = config(clients_per_round=clients, rounds=6, **more)
    return effective_privacy(request(privacy=asked), planned(made, n=n, networks=networks))


def test_a_target_becomes_the_noise_of_the_rounds_in_which_one_client_is_asked():
    found = of_linear({"mode": "central_dp", "target_epsilon": 3.0})
    assert epsilon_of([Sums(found.noise_multiplier, 5)], 1e-5) == pytest.approx(3.0, rel=5e-4)
    assert of_linear(LOUD) == settings(noise_multiplier=2.0)


def test_one_client_or_a_small_group_of_equal_networks_is_refused():
    with pytest.raises(InvalidArguments, match="at least 2 workers"):
        of_linear(LOUD, clients=1)
    networks = {"c0": network(slots=("worker-0", "worker-1")), "c1": network(slots=("worker-2",))}
    with pytest.raises(InvalidArguments, match="there is 1"):
        effective_privacy(request(), planned(config(), n=3, networks=networks))


RECORD = {"mode": "record_dp", "noise_multiplier": 1.5}


def of_rows(asked, *, sizes=(100, 40), **more):
    networks = {"c0": network(slots=tuple(groups(len(sizes))))}
    made = config(rounds=6, batch_size=16, local_epochs=2, **more)
    rows = {f"worker-{k}": size for k, size in enumerate(sizes)}
    plan = Planned(made, rows, groups(len(sizes)), networks, (1, 0))
    found = effective_privacy(request(privacy=asked), plan)
    return found, made.model_copy(update={"privacy": found}), plan


def test_single_rows_are_drawn_with_one_rate_and_so_many_steps_by_every_worker():
    found, made, _ = of_rows(RECORD)
    assert (found.sampling_rate, found.steps) == (0.16, 7)
    assert steps_of_pass(made) == 7
    few, _, _ = of_rows(RECORD, sizes=(9, 3))
    assert (few.sampling_rate, few.steps) == (1.0, 1)
    assert steps_of_pass(config()) is None


def test_a_target_for_rows_counts_every_step_and_gains_by_their_sampling():
    found, _, plan = of_rows(RECORD | {"noise_multiplier": None, "target_epsilon": 2.0})
    steps = 6 * 2 * 7
    spent = [Sums(found.noise_multiplier, steps, 0.16, "record")]
    assert 1.998 < epsilon_of(spent, 1e-5) <= 2.0
    assert epsilon_of([Sums(found.noise_multiplier, steps)], 1e-5) > 8
    limit = epsilon_of([Sums(found.noise_multiplier, 3 * 14, 0.16, "record")], 1e-5)
    limited = found.model_copy(update={"max_epsilon": limit})
    assert "allows 3 of 6 rounds;" in foreseen(limited, plan, [])[0]


def test_rows_may_be_protected_with_one_worker_any_rule_and_without_rounds_of_clients():
    of_rows(RECORD, sizes=(50,))
    for consensus, method in (("byzantine", None), ("raft", "krum"), ("gossip", None)):
        check_privacy(request(privacy=RECORD, aggregation_method=method), consensus)
    check_arguments(request(privacy=RECORD, federated=False), "raft")
    with pytest.raises(InvalidArguments, match="below 1/140, one over the number of training"):
        of_rows(RECORD | {"delta": 0.01})


def test_running_statistics_are_refused_with_what_to_use_instead():
    plan = SimpleNamespace(n_buffers=2)
    networks = {"c0": SimpleNamespace(plan=plan, slots=tuple(groups(3)))}
    with pytest.raises(UnsupportedCombination, match="batch_normalization") as caught:
        effective_privacy(request(), planned(config(), n=3, networks=networks))
    assert "layer_normalization" in caught.value.hint


def test_inline_data_are_known_by_their_content_only():
    def described(kind):
        return SimpleNamespace(kind=kind, sha256="1", source="/a.csv")

    assert identity_of(described("file")) == DATA
    assert identity_of(described("inline")) == ("sha256:1",)


def test_what_others_have_spent_on_the_data_is_where_a_training_begins():
    stored = [
        StoredSpending("trn_1", ("sha256:0", "file:/a.csv"), Sums(2.0, 3)),
        StoredSpending("trn_2", ("sha256:2",), Sums(1.0, 50)),
    ]
    found = spent_before(settings(), config(), DATA, stored)
    assert found.data == DATA
    assert found.epsilon == 0.0
    assert found.epsilon_of_data == epsilon_of([Sums(2.0, 3)], 1e-5)
    with pytest.raises(PrivacyBudgetSpent, match="max_epsilon 5"):
        spent_before(settings(max_epsilon=5.0), config(), DATA, stored)
    limited = settings(max_epsilon=5.0)
    assert spent_before(limited, config(), ("sha256:9",), stored).epsilon_of_data == 0.0


def test_weights_that_may_know_the_rows_are_no_start():
    def lineage(*trainings, continues=True, committed=None):
        state = SimpleNamespace(trainings=trainings)
        cluster = SimpleNamespace(state=state, committed=committed)
        return check_lineage(cluster, DATA, continues=continues)

    def bare(data):
        made = training(seconds=(1.0,))
        made.note_privacy(PrivacySpent(data=data))
        return made

    assert lineage() == []
    assert lineage(training()) == []  # nothing was committed
    assert lineage(bare(DATA), continues=False) == []
    assert "other data" in lineage(bare(("sha256:9",)))[0]
    for unsafe in (bare(DATA), bare(("sha256:1",)), bare(())):
        with pytest.raises(UnsupportedCombination, match="trn_1 made without privacy"):
            lineage(unsafe)

    def in_force(*makers):
        lines = [SimpleNamespace(digest=d, training_id=t) for d, t in makers]
        return SimpleNamespace(kept=lines, privacy=None)

    def numbered(made, number):
        made.training_id, made.ordinal = f"trn_{number}", number
        return made

    private = numbered(training(), 1)
    rolled_back = in_force(("a", "trn_1"), ("b", "trn_2"), ("a", "trn_1"))
    later, earlier = numbered(bare(DATA), 2), numbered(bare(DATA), 0)
    assert lineage(private, later, committed=rolled_back) == []
    for committed in (in_force(("a", "trn_1"), ("b", "trn_2")), in_force(("a", None))):
        with pytest.raises(UnsupportedCombination):
            lineage(private, later, committed=committed)
    with pytest.raises(UnsupportedCombination, match="trn_0"):
        lineage(earlier, private, later, committed=rolled_back)

    # What is recorded of the weights is believed first, also where no training of the cluster explains them.
    def recorded(*made, mode="central_dp"):
        return SimpleNamespace(kept=[], privacy=ModelPrivacy(mode=mode, trainings=made))

    def one(data, mode="none"):
        return TrainingPrivacy(training_id="trn_8", mode=mode, rounds=1, data=data)

    assert lineage(earlier, committed=recorded(one(DATA, "central_dp"))) == []
    assert "other data" in lineage(committed=recorded(one(("sha256:9",)), mode="mixed"))[0]
    for unsafe in (one(DATA), one(())):
        with pytest.raises(UnsupportedCombination, match="trn_8 made without privacy"):
            lineage(private, committed=recorded(unsafe, mode="unknown"))
    with pytest.raises(UnsupportedCombination, match="not recorded how it was trained"):
        lineage(committed=recorded(mode="unknown"))
    assert lineage(numbered(bare(("sha256:9",)), 3), committed=recorded(mode="unknown")) != []


def told(earlier=(), *, clients=4, n=4, rounds=9, n_params=9, **asked):
    networks = {
        "c0": SimpleNamespace(plan=SimpleNamespace(n_params=n_params), slots=tuple(groups(n)))
    }
    made = config(clients_per_round=clients, rounds=rounds)
    return foreseen(settings(**asked), planned(made, n=n, networks=networks), earlier)


def test_a_budget_that_ends_a_training_early_is_told_before_it_begins():
    limit = epsilon_of([Sums(1.0, 6)], 1e-5)
    assert told(max_epsilon=100.0) == told() == []
    assert "allows 6 of 9 rounds;" in told(max_epsilon=limit)[0]
    assert "allows 2 of 9 rounds;" in told([Sums(1.0, 4)], max_epsilon=limit)[0]
    in_turn = told(clients=2, n=9, rounds=40, max_epsilon=limit)[0]
    assert "allows 6 of 9 rounds in which one worker is asked" in in_turn


def test_noise_that_nothing_can_be_learnt_through_is_told_with_its_ratio():
    assert told(n_params=100, noise_multiplier=1.1) == []  # 1.1 x 10 / 3 / 4 = 0.92
    assert "2.5 times the largest change" in told(n_params=100, noise_multiplier=3.0)[0]
