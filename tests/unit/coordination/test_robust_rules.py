"""The robust rules as aggregation policies: by name, by reference vectors, by condition, against liars."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.auto import Auto
from flow_nexus_neural.coordination.consensus.coordinate_rules import BULYAN, TRIMMED_MEAN
from flow_nexus_neural.coordination.consensus.gossip import GOSSIP
from flow_nexus_neural.coordination.consensus.registry import (
    AUTO,
    AVERAGING,
    POLICIES,
    find_policy,
    policy_for,
    policy_in_force,
    spellings,
)
from flow_nexus_neural.coordination.consensus.robust_rule import RobustRule
from flow_nexus_neural.coordination.consensus.tolerance import RobustPolicy, Tolerance, usual_f
from flow_nexus_neural.coordination.consensus.trusted_update import TrustedUpdate
from flow_nexus_neural.coordination.consensus.weighing_rules import KRUM, LEAST_DIAMETER
from flow_nexus_neural.errors import QuorumLost
from flow_nexus_neural.kernels.bucketing import buckets
from tests.unit.kernels.test_robust import GOLDEN, HONEST

VECTORS = GOLDEN["vectors"]
N, D = VECTORS.shape
ROWS = [1] * N
RULES = [policy for policy in POLICIES if isinstance(policy, RobustRule)]
ROBUST = [policy for policy in POLICIES if isinstance(policy, RobustPolicy)]
TWO = Tolerance(2, exact=True)


def combined(policy, vectors=VECTORS, *, base=None, tolerance=TWO, name="params"):
    start = np.zeros(vectors.shape[1], "f4") if base is None else base
    if isinstance(policy, TrustedUpdate):
        policy = policy.trusting({name: np.median(vectors, axis=0).astype("f4")})
    return policy.tolerating(tolerance).combine(
        {name: start}, [{name: vector} for vector in vectors], [1] * len(vectors)
    )


@pytest.mark.parametrize(
    ("name", "golden", "tolerance"),
    [
        ("trimmed_mean", "TrMean", 2e-6),
        ("meamed", "Meamed", 2e-6),
        ("geometric_median", "GeometricMedian_T100", 2e-6),
        ("krum", "Krum", 2e-6),
        ("multi_krum", "MultiKrum", 2e-6),
        ("mda", "MDA", 2e-6),
        ("smea", "SMEA_seed0", 2e-6),
        ("caf", "CAF_seed0", 1e-3),
        ("auto", "CAF_seed0", 1e-3),
    ],
)
def test_the_rule_of_a_name_gives_the_published_vector(name, golden, tolerance):
    found = combined(find_policy(name)).vectors["params"]
    expected = GOLDEN[f"agg_{golden}"]
    assert np.linalg.norm(found - expected) < max(tolerance, 1e-5) * np.linalg.norm(expected)


@pytest.mark.parametrize("policy", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize("front", ["nnm", "arc", "arc+nnm", "bucketing", "arc+bucketing+nnm"])
def test_mixing_bucketing_and_clipping_are_put_before_every_rule_by_name(policy, front):
    found = find_policy(f" {front}+{policy.name} ")
    assert found.name == f"{front}+{policy.name}"
    changed = combined(found, tolerance=Tolerance(found.usual_f(N), exact=True))
    assert changed.evidence["rule"] == found.name
    assert np.isfinite(changed.vectors["params"]).all()
    if policy.name in ("trimmed_mean", "meamed", "geometric_median", "caf", "bulyan"):
        assert not np.allclose(changed.vectors["params"], combined(policy).vectors["params"])


def test_the_mixed_and_the_clipped_vectors_are_the_published_ones():
    mixed = combined(find_policy("nnm+trimmed_mean"), tolerance=TWO).vectors["params"]
    by_hand = np.sort(GOLDEN["pre_NNM"], axis=0)[2:-2].mean(axis=0)
    assert np.allclose(mixed, by_hand, rtol=1e-4, atol=1e-5)
    clipped = combined(find_policy("arc+trimmed_mean")).vectors["params"]
    by_hand = np.sort(GOLDEN["pre_ARC"], axis=0)[2:-2].mean(axis=0)
    assert np.allclose(clipped, by_hand, rtol=1e-4, atol=1e-5)


def test_buckets_of_two_are_combined_by_the_rule_and_share_its_weights():
    rule = replace(find_policy("bucketing+caf"), seed=9)
    made = combined(rule)
    members = buckets(N, 9)
    means = [VECTORS[bucket].mean(axis=0) for bucket in members]
    plain = combined(find_policy("caf"), np.array(means, "f4"))
    assert np.allclose(made.vectors["params"], plain.vectors["params"], atol=1e-6)
    for bucket, weight in zip(members, plain.weights, strict=True):
        assert [made.weights[k] for k in bucket] == pytest.approx(
            [weight / len(bucket)] * len(bucket)
        )
    other = combined(replace(rule, seed=10)).vectors["params"]
    assert not np.array_equal(other, made.vectors["params"])
    bulyan = combined(find_policy("bucketing+bulyan"), tolerance=Tolerance(0, exact=True))
    assert bulyan.excluded == {}


def test_a_bucket_is_spoilt_by_one_liar_so_that_twice_as_many_updates_are_needed():
    rule = find_policy("bucketing+caf")
    assert rule.refusal(9, 2) is None
    assert rule.refusal(8, 2) == (
        "8 updates are 4 buckets, each of which one lying worker spoils: 4 updates cannot outvote 2 lying"
        " ones, 5 can (n >= 2f+1)"
    )
    assert [rule.usual_f(n) for n in (3, 4, 5, 8, 9, 11)] == [0, 0, 1, 1, 2, 2]
    assert find_policy("bucketing+bulyan").usual_f(11) == 0


@pytest.mark.parametrize(
    "name",
    [
        "nnm+federated_averaging",
        "nnm+median",
        "nnm+nnm+krum",
        "nnm+arc+krum",
        "nnm+bucketing+krum",
        "bucketing+validated",
        "nnm+fltrust",
        "cut+krum",
        "nnm+",
    ],
)
def test_what_cannot_stand_in_front_is_not_found(name):
    assert find_policy(name) is None


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("exact CAF", "caf"),
        ("Multi-Krum", "multi_krum"),
        ("RFA", "geometric_median"),
        ("centred clipping", "centered_clipping"),
        ("mean around median", "meamed"),
        ("trmean", "trimmed_mean"),
        ("byzantine", "auto"),
    ],
)
def test_the_words_of_the_field_find_the_rule(alias, name):
    assert find_policy(alias).name == name
    assert repr(name) in spellings("proof-of-learning")


@pytest.mark.parametrize("policy", ROBUST, ids=lambda rule: rule.name)
@pytest.mark.parametrize("size", [1e3, 1e9, 1e30])
def test_two_liars_of_any_size_among_eleven_move_no_rule_further_than_the_honest_spread(
    policy, size
):
    liars = np.stack([np.full(D, size, "f4"), np.full(D, -size, "f4")])
    found = combined(policy, np.concatenate([liars, HONEST.astype("f4")]))
    middle = HONEST.mean(axis=0)
    spread = np.linalg.norm(HONEST - middle, axis=1).max()
    assert np.linalg.norm(found.vectors["params"] - middle) <= spread
    assert not set(found.excluded) - {0, 1} or policy.name in ("krum", "bulyan", "auto", "caf")
    if policy.name != "coordinate_median":
        distances = found.by_update["distance"]
        assert min(distances[:2]) > 10 > max(distances[2:])


@pytest.mark.parametrize("policy", ROBUST, ids=lambda rule: rule.name)
def test_equal_updates_come_out_as_they_went_in_and_nothing_is_said_against_them(policy):
    found = combined(policy, np.stack([HONEST[0].astype("f4")] * 11))
    assert np.allclose(found.vectors["params"], HONEST[0], rtol=1e-5, atol=1e-6)
    assert set(found.by_update.get("distance", [0.0])) == {0.0}


@pytest.mark.parametrize("policy", ROBUST, ids=lambda rule: rule.name)
@pytest.mark.parametrize("lie", [np.finfo("f4").max, -np.finfo("f4").max])
def test_no_result_is_infinite(policy, lie):
    base = np.full(3, lie, "f4")
    found = combined(policy, np.full((11, 3), -lie, "f4"), base=base)
    assert np.isfinite(found.vectors["params"]).all()


def test_arrays_are_combined_apart_so_that_good_weights_carry_no_garbage_with_them():
    base = {"params": np.zeros(2, "f4"), "buffers": np.zeros(0, "f4"), "v": np.ones(2, "f4")}
    updates = [
        {
            "params": np.full(2, k / 10, "f4"),
            "buffers": np.zeros(0, "f4"),
            "v": np.full(2, 2 + k / 10, "f4"),
        }
        for k in range(7)
    ]
    updates[3]["v"] = np.full(2, 1e9, "f4")  # its parameters are the very middle
    for policy in RULES:
        made = policy.combine(base, updates, [1] * 7).vectors
        assert made["v"].max() < 20, policy.name
        assert made["v"].min() >= 0
        assert made["buffers"].size == 0
    assert base["v"].tolist() == [1, 1]


def test_an_update_without_weight_is_excluded_with_the_rule_and_f():
    made = combined(KRUM)
    (chosen,) = set(range(N)) - set(made.excluded)
    assert made.weights[chosen] == 1
    assert made.excluded[0 if chosen else 1] == "krum gave its update no weight (f = 2)"
    assert made.evidence == {"rule": "krum", "f": 2, "shortened": []}
    assert combined(TRIMMED_MEAN).excluded == {}
    assert combined(TRIMMED_MEAN).weights is None
    assert len(combined(BULYAN).excluded) == 4


def test_rows_do_not_weigh():
    updates = [{"params": vector} for vector in VECTORS]
    base = {"params": np.zeros(D, "f4")}
    for policy in RULES:
        few = policy.combine(base, updates, ROWS).vectors["params"]
        many = policy.combine(base, updates, [1] * 10 + [10_000]).vectors["params"]
        assert np.array_equal(few, many)


@pytest.mark.parametrize(
    ("policy", "n", "f", "needed"),
    [(KRUM, 4, 2, 5), (TRIMMED_MEAN, 2, 1, 3), (BULYAN, 10, 2, 11), (Auto(), 6, 3, 7)],
)
def test_a_condition_says_how_many_are_needed(policy, n, f, needed):
    assert f"{n} updates cannot outvote {f} lying ones, {needed} can" in policy.refusal(n, f)
    assert policy.refusal(needed, f) is None
    assert policy.refusal(1, 0) is None


def test_a_search_over_too_many_subsets_is_refused_with_their_number():
    assert "346104 subsets" in LEAST_DIAMETER.refusal(24, 7)
    assert LEAST_DIAMETER.refusal(11, 3) is None


def test_without_a_number_less_than_a_third_are_assumed_to_lie():
    assert [usual_f(n) for n in (1, 2, 3, 4, 5, 7, 10, 11)] == [0, 0, 1, 1, 1, 2, 3, 3]
    assert [BULYAN.usual_f(n) for n in (1, 3, 6, 7, 10, 11)] == [0, 0, 0, 1, 1, 2]
    assert [AUTO.usual_f(n) for n in (2, 3, 11)] == [0, 1, 3]


def test_a_round_that_cannot_keep_what_was_promised_fails_by_name():
    promised = Tolerance(3)
    assert combined(AUTO, VECTORS, tolerance=promised).evidence["f"] == 3
    assert combined(AUTO, VECTORS[:7], tolerance=promised).evidence["f"] == 3
    with pytest.raises(QuorumLost, match="auto: 6 updates cannot outvote 3") as caught:
        combined(AUTO, VECTORS[:6], tolerance=promised)
    assert caught.value.details == {"updates": 6, "f": 3}
    with pytest.raises(QuorumLost, match="coordinate_median: 2 updates"):
        combined(find_policy("median"), VECTORS[:2], tolerance=Tolerance(1))


def test_more_workers_than_at_the_start_tolerate_more_unless_the_number_was_given():
    assert combined(AUTO, tolerance=Tolerance(1)).evidence["f"] == 3
    assert combined(AUTO, tolerance=Tolerance(1, exact=True)).evidence["f"] == 1


@pytest.mark.parametrize(
    ("n", "rule", "f"),
    [(1, "mean", 0), (2, "mean", 0), (3, "median", 1), (4, "trimmed_mean", 1), (5, "caf", 1)],
)
def test_the_default_takes_the_rule_that_the_number_of_updates_allows_and_says_which(n, rule, f):
    made = combined(AUTO, VECTORS[:n], tolerance=Tolerance())
    assert (made.evidence["rule"], made.evidence["f"]) == (rule, f)


def test_the_consensus_of_the_cluster_decides_where_no_rule_is_named():
    assert policy_for(None, "byzantine") is AUTO
    for other in ("proof-of-learning", "raft"):
        assert policy_for(None, other) is AVERAGING
    assert policy_for(None, "gossip") is policy_for("fedavg", "gossip") is GOSSIP
    assert policy_for("fedavg", "byzantine") is AVERAGING
    assert policy_for("nonsense", "byzantine") is None


def test_a_begun_training_goes_on_with_its_number_and_without_a_known_name_with_the_mean():
    assert policy_in_force("krum", 2, exact=True).tolerance == TWO
    assert policy_in_force("federated_averaging", 0, exact=False) is AVERAGING
    assert policy_in_force("of a later version", 2, exact=True) is AVERAGING


def test_no_update_is_refused():
    for policy in ROBUST:
        with pytest.raises(ValueError, match="no update"):
            policy.combine({"params": np.zeros(1, "f4")}, [], [])
