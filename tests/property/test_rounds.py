from hypothesis import given, settings
from hypothesis import strategies as st

from flow_nexus_neural.coordination.membership import TRANSITIONS, advance, count, slot_order
from flow_nexus_neural.coordination.rounds import (
    LATE,
    NOT_AWAITED,
    Client,
    Close,
    Round,
    RoundPatience,
    Wait,
    deadline_s,
    sample_clients,
)
from flow_nexus_neural.errors import InvalidState

lean = settings(max_examples=300, derandomize=True, deadline=None)

seconds = st.floats(0, 100)


@st.composite
def rounds(draw):
    n = draw(st.integers(1, 7))
    slots = [f"worker-{i}" for i in draw(st.permutations(range(n)))]
    history = draw(st.lists(st.floats(0.001, 100), max_size=25))
    round_ = Round(
        slots,
        min_contributors=draw(st.integers(1, n)),
        started_s=draw(st.floats(-1e6, 1e6)),
        history=history,
        wait_for_all=draw(st.booleans()),
        patience=RoundPatience(give_up_s=draw(st.floats(0.5, 2000))),
    )
    kinds = st.sampled_from(["answered", "lost", "tick"])
    targets = st.sampled_from([*slots, "worker-99"])
    events = draw(st.lists(st.tuples(kinds, targets, seconds), max_size=30))
    return slots, round_, round_._started_s, events


def feed(round_, kind, slot, at_s):
    return round_.tick(at_s) if kind == "tick" else getattr(round_, kind)(slot, at_s)


def to_the_end(round_, decision):
    """Sleep exactly as long as the round says; every wake-up must bring it forward."""
    for _ in range(5):
        if not isinstance(decision, Wait):
            return decision
        decision = round_.tick(decision.until_s)
    raise AssertionError("the round does not end")


@lean
@given(rounds())
def test_every_round_ends_and_counts_each_slot_once(case):
    slots, round_, started_s, events = case
    now_s, answered, lost, decision = started_s, set(), set(), None
    for kind, slot, delay_s in events:
        now_s += delay_s
        before = decision
        decision = feed(round_, kind, slot, now_s)
        if not isinstance(before, Wait) and before is not None:
            assert decision is before
        elif kind == "answered" and slot not in lost:
            answered.add(slot)
        elif kind == "lost":
            lost.add(slot)
        if isinstance(decision, Wait):
            assert decision.until_s > now_s
    final = to_the_end(round_, decision or round_.tick(now_s))
    contributors = set(final.contributors) if isinstance(final, Close) else set()
    assert contributors.isdisjoint(final.excluded)
    assert contributors <= answered & set(slots)
    if isinstance(final, Close):
        assert contributors | set(final.excluded) == set(slots)
        assert len(contributors) >= round_.quorum
        assert list(final.contributors) == sorted(contributors, key=slot_order)
        assert set(round_.completions_s) == contributors
    assert all(reason in {LATE, NOT_AWAITED, "died"} for reason in final.excluded.values())


@lean
@given(rounds(), st.randoms(use_true_random=False))
def test_before_any_deadline_the_order_of_arrival_does_not_matter(case, shuffler):
    slots, _, started_s, _ = case
    outcomes = []
    for _ in range(2):
        order = list(slots)
        shuffler.shuffle(order)
        round_ = Round(slots, min_contributors=1, started_s=started_s)
        for slot in order:
            decision = round_.answered(slot, started_s)
        outcomes.append(decision)
    assert outcomes[0] == outcomes[1] == Close(tuple(sorted(slots, key=slot_order)), {})


@lean
@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=20))
def test_a_deadline_never_cuts_off_the_typical_worker(history):
    limit_s = deadline_s(history)
    typical = sorted(history)[len(history) // 2]
    assert limit_s >= 3.0
    assert limit_s >= min(typical, sorted(history)[(len(history) - 1) // 2])


@lean
@given(
    st.lists(
        st.tuples(st.sampled_from("ABC"), st.none() | st.integers(0, 9), st.integers(0, 9)),
        max_size=12,
    ),
    st.integers(1, 14),
    st.integers(0, 2**63 - 1),
)
def test_a_sample_is_exact_distinct_ordered_and_proportional(members, n, seed):
    clients = [Client(f"worker-{i}", *fields) for i, fields in enumerate(members)]
    chosen = sample_clients(clients, n, seed)
    assert len(chosen) == len(set(chosen)) == min(n, len(clients))
    assert chosen == sorted(chosen, key=slot_order)
    for group in {client.group for client in clients}:
        size = sum(client.group == group for client in clients)
        share = min(n, len(clients)) * size / len(clients)
        got = sum(clients[int(slot[7:])].group == group for slot in chosen)
        assert int(share) <= got <= int(share) + 1


@lean
@given(st.lists(st.sampled_from(list(TRANSITIONS)), max_size=40))
def test_any_walk_of_states_keeps_the_counts_right(wishes):
    state = "declared"
    for wish in wishes:
        try:
            state = advance("worker-0", state, wish)
        except InvalidState:
            assert wish not in TRANSITIONS[state]
        counts = count([state])
        assert counts.active + counts.failed <= counts.total <= 1
        assert (counts.total == 0) == (state == "retired")
        assert (counts.active == 1) == (state == "healthy")
