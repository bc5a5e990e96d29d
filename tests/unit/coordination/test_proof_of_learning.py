"""The rules of proof-of-learning, on a toy training whose states are digests of their own history."""

import hashlib
from itertools import combinations
from math import comb

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flow_nexus_neural.coordination.consensus.proof_of_learning import (
    COST_SHARE,
    MOST_SEGMENTS,
    MOST_UNAVAILABLE,
    SNAPSHOT_BYTES,
    VALID,
    Assignment,
    Cost,
    Repeated,
    Standing,
    Verdict,
    chain,
    challenge,
    challenges_per_update,
    check_commitment,
    check_delivered,
    check_repeated,
    detection_probability,
    is_to_be_quarantined,
    least_contributors,
    majority,
    prescribed_steps,
    proofs_root,
    segment_steps,
)
from flow_nexus_neural.protocol.messages import Commitment, Pass

CONTEXT, OTHER_CONTEXT = "0" * 64, "1" * 64
S = 10


def sha(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def execute(state, segment):
    """The toy training: what a segment makes of a state."""
    return sha("segment", segment, state)


BASE = sha("base")
ASKED = Assignment(context=CONTEXT, base=BASE, n_steps=40, segment_steps=4)


def course(faked=(), start=BASE):
    """States of a training in which these segments were not executed."""
    states = [start]
    for segment in range(S):
        honest = execute(states[-1], segment)
        states.append(sha("invented", honest) if segment in faked else honest)
    return states


def committed(states, context=CONTEXT):
    return Commitment(states=tuple(states), head=chain(context, states), cpu_s=0.0)


def verdict_of(commitment, beacon, k, *, steps=40, delivered=None, reveal=None):
    """The checks in the order of the engine; `reveal` is what the worker shows as a state."""
    wrong = check_commitment(commitment, steps, ASKED)
    for segment in () if wrong else challenge(beacon, commitment.head, S, k):
        state = (reveal or commitment.states.__getitem__)(segment)
        wrong = wrong or check_repeated(
            commitment, Repeated(segment, state, execute(state, segment))
        )
    return wrong or check_delivered(commitment, delivered or commitment.states[-1])


def beacons(n, of="beacon"):
    return [sha(of, number) for number in range(n)]


def binomial_interval(n, p, confidence=0.999):
    """The counts that a binomial variable takes with this probability, tails cut equally."""
    chances = [comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    tail, low, high = (1 - confidence) / 2, 0, n
    while sum(chances[: low + 1]) <= tail:
        low += 1
    while sum(chances[high:]) <= tail:
        high -= 1
    return low, high


def test_an_honest_proof_is_never_rejected():
    honest = committed(course())
    assert [verdict_of(honest, beacon, k) for k in (1, 3, S) for beacon in beacons(200)] == (
        [None] * 600
    )


@pytest.mark.parametrize(("n_faked", "k"), [(1, 1), (1, 3), (2, 1), (3, 2), (5, 3)])
def test_faked_segments_are_found_as_often_as_the_formula_says(n_faked, k):
    n, faked = 400, range(2, 2 + n_faked)
    p = detection_probability(S, n_faked, k)
    cheat = committed(course(faked))
    found = sum(verdict_of(cheat, beacon, k) is not None for beacon in beacons(n, str(k)))
    low, high = binomial_interval(n, p)
    assert low <= found <= high
    assert 0 < low < high < n or p in (0, 1)  # the interval says something


def test_two_hundred_rounds_with_one_faked_segment_and_one_challenge_match_the_formula():
    found = sum(
        verdict_of(committed(course([3]), CONTEXT), beacon, 1) is not None
        for beacon in beacons(200, "rounds")
    )
    low, high = binomial_interval(200, 0.1)
    assert (low, high) == (8, 35)
    assert low <= found <= high


def test_a_worker_that_faked_everything_is_always_found():
    assert all(verdict_of(committed(course(range(S))), beacon, 1) for beacon in beacons(100))


def test_whoever_knows_the_challenge_before_committing_is_never_found():
    """The control: this is why the beacon is drawn after the commitments."""
    for beacon in beacons(100):
        # It tries chains, each with one honest segment, until the draw falls on that one.
        caught = []
        for number in range(400):
            honest = number % S
            states = course([k for k in range(S) if k != honest], start=BASE)
            states[-1] = sha("salt", number) if honest < S - 1 else states[-1]
            known = committed(states)
            if challenge(beacon, known.head, S, 1) == (honest,):
                caught.append(verdict_of(known, beacon, 1))
                break
        assert caught == [None]
        after = sha("drawn after", beacon)
        assert verdict_of(known, after, S) is not None


def test_an_edited_chain_does_not_follow_from_its_states():
    honest = committed(course())
    edited = honest.model_copy(update={"states": (*honest.states[:-1], sha("better"))})
    assert "does not follow" in verdict_of(edited, sha(0), 1)


def test_a_chain_of_another_assignment_is_no_proof_of_this_one():
    assert "this assignment" in verdict_of(committed(course(), OTHER_CONTEXT), sha(0), 1)


def test_a_chain_must_begin_with_the_committed_base():
    other = committed(course(start=sha("other base")))
    assert "committed base" in verdict_of(other, sha(0), 1)


def test_the_number_of_steps_and_segments_is_the_prescribed_one():
    assert "prescribed are 40 in 10" in verdict_of(committed(course()), sha(0), 1, steps=36)
    assert "prescribed are 40 in 10" in verdict_of(committed(course()[:-1]), sha(0), 1)


def test_a_revealed_state_must_be_the_committed_one():
    honest = committed(course())
    wrong = verdict_of(honest, sha(0), 1, reveal=lambda segment: sha("another", segment))
    assert "revealed state" in wrong


def test_what_is_folded_must_be_the_last_state():
    assert "delivered" in verdict_of(committed(course()), sha(0), 1, delivered=sha("another"))


def test_the_chain_binds_every_state_and_their_order():
    states = course()
    heads = {chain(CONTEXT, states), chain(OTHER_CONTEXT, states), chain(CONTEXT, states[:-1])}
    for one, other in combinations(range(len(states)), 2):
        swapped = list(states)
        swapped[one], swapped[other] = swapped[other], swapped[one]
        heads.add(chain(CONTEXT, swapped))
    assert len(heads) == 3 + comb(len(states), 2)


@given(
    beacon=st.text("0123456789abcdef", min_size=1, max_size=64),
    head=st.integers(0, 1 << 64).map(lambda n: sha("head", n)),
    n=st.integers(1, 64),
    k=st.integers(0, 70),
)
def test_a_challenge_is_distinct_segments_in_order_and_repeatable(beacon, head, n, k):
    drawn = challenge(beacon, head, n, k)
    assert len(drawn) == min(n, k)
    assert list(drawn) == sorted(set(drawn))
    assert all(0 <= segment < n for segment in drawn)
    assert drawn == challenge(beacon, head, n, k)


def test_every_segment_is_drawn_equally_often_and_by_every_worker_differently():
    n = 900
    counts = [0] * 7
    for beacon in beacons(n):
        for segment in challenge(beacon, BASE, 7, 2):
            counts[segment] += 1
    low, high = binomial_interval(n, 2 / 7)
    assert all(low <= count <= high for count in counts)
    same = sum(challenge(b, sha(1), S, 1) == challenge(b, sha(2), S, 1) for b in beacons(n))
    low, high = binomial_interval(n, 1 / S)
    assert low <= same <= high


@given(n=st.integers(1, 12), data=st.data())
def test_the_formula_counts_the_draws_that_miss(n, data):
    faked = data.draw(st.integers(0, n))
    k = data.draw(st.integers(0, n))
    draws = list(combinations(range(n), k))
    hits = sum(any(segment < faked for segment in draw) for draw in draws)
    assert detection_probability(n, faked, k) == pytest.approx(hits / len(draws))


@given(
    passes=st.lists(
        st.tuples(st.integers(0, 6), st.none() | st.integers(0, 6)), min_size=1, max_size=4
    ),
    n_rows=st.integers(1, 40),
    batch=st.integers(1, 9),
    smallest=st.sampled_from([1, 2]),
)
def test_prescribed_steps_are_those_that_a_node_makes(passes, n_rows, batch, smallest):
    assume(batch >= smallest)  # a node refuses any other
    lengths = [min(batch, n_rows - start) for start in range(0, n_rows, batch)]
    asked = [(start, len(lengths) if stop is None else stop) for start, stop in passes]
    made = sum(length >= smallest for start, stop in asked for length in lengths[start:stop])
    told = tuple(Pass(order_seed=1, start=start, stop=stop) for start, stop in passes)
    assert prescribed_steps(told, n_rows, batch, smallest) == made


@given(n_steps=st.integers(1, 5000), state_bytes=st.integers(1, 1 << 30))
def test_segments_are_few_and_their_states_fit_the_memory(n_steps, state_bytes):
    steps = segment_steps(n_steps, state_bytes, Cost())
    n = Assignment(CONTEXT, BASE, n_steps, steps).n_segments
    assert 1 <= n <= MOST_SEGMENTS
    assert (n - 1) * state_bytes <= SNAPSHOT_BYTES
    assert steps >= 4


def test_a_short_training_is_one_segment():
    assert [Assignment(CONTEXT, BASE, n, 4).n_segments for n in (0, 1, 3, 4, 5)] == [1, 1, 1, 1, 2]
    cheap = Cost(training_s=1.0, committing_s=1e-9, steps=10, states=10)
    assert segment_steps(3, 100, cheap) == 4


def test_segments_are_longer_where_a_digest_costs_much_and_shorter_where_it_does_not():
    def cost(of_step, of_digest):
        return Cost(training_s=of_step * 100, committing_s=of_digest * 30, steps=100, states=30)

    assert segment_steps(100, 8, cost(1.0, 0.01)) == 7
    assert segment_steps(16, 8, cost(1.0, 0.01)) == 1
    assert segment_steps(16, 8, cost(1.0, 1.0)) == 4
    assert segment_steps(16, 8, cost(1.0, 100.0)) == 16


def test_more_segments_are_challenged_while_the_budget_lasts_and_never_none():
    def k(training_s, repeating_s=1.0, committing_s=1.0):
        cost = Cost(training_s, committing_s, repeating_s, challenged=10, updates=10)
        return challenges_per_update(S, cost)

    assert k(training_s=2 / COST_SHARE) == 1
    assert k(training_s=3.01 / COST_SHARE) == 2
    assert k(training_s=5.01 / COST_SHARE) == 4
    assert k(training_s=1e6) == S
    assert k(training_s=0.1) == 1
    assert challenges_per_update(S, Cost()) == 1


def test_the_share_is_of_the_training_and_unknown_before_it():
    assert Cost().share is None
    total = Cost(10.0, 0.5, 1.0, 3, 3, 30, 9) + Cost(10.0, 0.5, 1.0, 3, 3, 30, 9)
    assert total == Cost(20.0, 1.0, 2.0, 6, 6, 60, 18)
    assert total.share == pytest.approx(0.15)


def test_one_invalid_proof_or_three_missing_ones_in_a_row_are_too_many():
    away, wrong = Verdict("unavailable", "it died"), Verdict("invalid", "it lied")
    standing = Standing()
    for number in range(1, MOST_UNAVAILABLE):
        standing = standing.after(away, S, 1, 0)
        assert standing.strikes == number
        assert not is_to_be_quarantined(away, standing)
    forgiven = standing.after(VALID, S, 1, 1)
    assert (forgiven.strikes, forgiven.unavailable) == (0, 2)
    assert is_to_be_quarantined(away, standing.after(away, S, 1, 0))
    assert is_to_be_quarantined(wrong, Standing().after(wrong, S, 1, 0))
    assert not is_to_be_quarantined(VALID, Standing().after(VALID, S, 1, 1))
    last = forgiven.after(wrong, S, 2, 1)
    assert (last.segments, last.challenged, last.verified) == (40, 5, 2)
    assert (last.failed, last.last_reason) == (1, "it lied")


def test_a_majority_of_verifiers_decides():
    wrong = Verdict("invalid", "it lied")
    assert majority([wrong], 1) == wrong
    assert majority([wrong], 2) is None
    assert majority([wrong, VALID], 2) is None
    assert majority([wrong, wrong], 3) == wrong
    assert majority([wrong, VALID, VALID], 3) == VALID


def test_a_third_of_the_workers_asked_is_needed():
    assert [least_contributors(n) for n in (1, 3, 4, 6, 7, 11)] == [1, 1, 2, 2, 3, 4]


def test_the_root_changes_with_every_commitment_and_not_with_their_order():
    heads = {"worker-0": sha(0), "worker-1": sha(1)}
    assert proofs_root(heads) == proofs_root(dict(reversed(heads.items())))
    assert len({proofs_root(heads), proofs_root({"worker-0": sha(0)}), proofs_root({})}) == 3
