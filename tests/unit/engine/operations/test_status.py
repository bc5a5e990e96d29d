import itertools

import pytest

from flow_nexus_neural.engine.operations.status import poll_after_ms, thinned
from flow_nexus_neural.engine.reports import FinalMetrics
from tests.unit.engine.building import cluster_state, point, training


@pytest.mark.parametrize("n", [0, 1, 19, 20, 21, 39, 40, 1000])
def test_a_history_is_thinned_evenly_and_keeps_both_ends(n):
    history = [point(number) for number in range(1, n + 1)]
    found = [p.round for p in thinned(history)]
    assert len(found) == min(n, 20)
    assert found == sorted(set(found))
    if n:
        assert (found[0], found[-1]) == (1, n)
    gaps = {after - before for before, after in itertools.pairwise(found)}
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [((), 1000), ((2.0,), 2000), ((0.01,), 500), ((60.0,), 10_000), ((1.0, 9.0, 2.0), 2000)],
)
def test_it_is_worth_asking_again_after_about_a_round(seconds, expected):
    assert poll_after_ms(training(seconds=seconds)) == expected
    assert poll_after_ms(None) == 1000


def test_uptime_stands_still_once_a_cluster_is_terminated():
    now = [0.0]
    cluster = cluster_state(lambda: now[0])
    now[0] = 10.0
    assert cluster.uptime_s() == 10.0
    cluster.record_final(
        FinalMetrics(
            rounds=None,
            global_accuracy=None,
            global_loss=None,
            communication_bytes=None,
            uptime_seconds=10,
        )
    )
    now[0] = 500.0
    assert cluster.uptime_s() == 10.0
