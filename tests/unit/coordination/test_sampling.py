import itertools
from collections import Counter

from flow_nexus_neural.coordination.rounds import Client, sample_clients


def simulate(groups, n, rounds, seed=1):
    last: dict[str, int] = {}
    times: Counter[str] = Counter()
    history = []
    for number in range(rounds):
        clients = [
            Client(slot, group, last.get(slot), times[slot]) for slot, group in groups.items()
        ]
        chosen = sample_clients(clients, n, seed * 1000 + number)
        last.update(dict.fromkeys(chosen, number))
        times.update(chosen)
        history.append(chosen)
    return history


TWO_GROUPS = {f"worker-{i}": "BTC" if i < 3 else "ETH" for i in range(6)}


def test_exactly_the_wanted_number_is_asked_without_repetition():
    for chosen in simulate(TWO_GROUPS, 5, 60):
        assert len(chosen) == len(set(chosen)) == 5


def test_equal_groups_alternate_in_having_the_larger_share():
    shares = [
        sum(TWO_GROUPS[slot] == "BTC" for slot in chosen) for chosen in simulate(TWO_GROUPS, 5, 20)
    ]
    assert set(shares) == {2, 3}
    assert all(first != second for first, second in itertools.pairwise(shares))


def test_inside_a_group_everybody_gets_his_turn():
    for groups, n in [(TWO_GROUPS, 5), ({f"worker-{i}": "" for i in range(11)}, 4)]:
        counts = Counter(slot for chosen in simulate(groups, n, 60) for slot in chosen)
        for group in set(groups.values()):
            turns = [counts[slot] for slot in groups if groups[slot] == group]
            assert max(turns) - min(turns) <= 1


def test_groups_are_asked_in_proportion_to_their_size():
    groups = {f"worker-{i}": "A" if i < 6 else "B" for i in range(9)}
    for chosen in simulate(groups, 3, 10):
        assert sum(groups[slot] == "A" for slot in chosen) == 2


def test_a_group_too_small_for_a_seat_gets_one_in_turn():
    groups = {f"worker-{i}": "A" if i < 5 else "B" for i in range(6)}
    seats = [sum(groups[slot] == "B" for slot in chosen) for chosen in simulate(groups, 3, 20)]
    assert seats.count(1) == 10


def test_all_are_asked_when_there_are_not_more():
    clients = [Client(f"worker-{i}", "", None) for i in (10, 2, 0)]
    for n in (3, 5):
        assert sample_clients(clients, n, 0) == ["worker-0", "worker-2", "worker-10"]
    assert sample_clients([], 2, 0) == []


def test_the_choice_depends_on_the_seed_and_on_nothing_else():
    clients = [Client(f"worker-{i}", "", None) for i in range(8)]
    first = [sample_clients(clients, 3, seed) for seed in range(10)]
    assert first == [sample_clients(clients[::-1], 3, seed) for seed in range(10)]
    assert len({tuple(chosen) for chosen in first}) > 1
