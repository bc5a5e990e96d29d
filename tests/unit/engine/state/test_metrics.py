import pytest

from flow_nexus_neural.engine.state.metrics import Metrics, Window, percentile


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


class Handle:
    """A link of which only the counters matter."""

    def __init__(self, node_id):
        self.spec = type("Spec", (), {"node_id": node_id})
        self.bytes_sent = self.bytes_received = self.inter_host_bytes = 0


def test_an_empty_window_knows_nothing():
    window = Window(Clock())
    assert window.mean() is None
    assert window.values() == []
    assert Metrics(Clock()).latency().model_dump() == {
        "p50": None,
        "p95": None,
        "p99": None,
        "n": 0,
    }


def test_a_window_forgets_after_five_minutes():
    clock = Clock()
    window = Window(clock)
    window.add(10)
    clock.now_s += 200
    window.add(20)
    assert window.mean() == 15
    clock.now_s += 100.5
    assert window.values() == [20]
    clock.now_s += 300
    assert window.mean() is None


def test_a_window_holds_a_thousand_values():
    window = Window(Clock())
    for value in range(1500):
        window.add(value)
    assert window.values() == list(range(500, 1500))


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (0.001, 1), (1, 100)]
)
def test_percentiles_are_values_that_occurred(share, expected):
    assert percentile([float(v) for v in range(100, 0, -1)], share) == expected
    assert percentile([7.0], share) == 7
    assert percentile([], share) is None


def test_every_byte_of_a_link_is_counted_once_under_who_claims_it_first():
    metrics, one, other = Metrics(Clock()), Handle("n1"), Handle("n2")
    one.bytes_sent, one.bytes_received = 100, 50
    metrics.count_frames("train", one)
    one.bytes_sent += 7
    metrics.count_frames("predict", one)
    metrics.count_frames("predict", one)
    other.bytes_received = 3
    metrics.count_frames("sync", other)
    metrics.count_payload("train", 1000)
    found = metrics.communication()
    assert (found.train, found.predict, found.sync, found.consensus) == (1150, 7, 3, 0)
    assert metrics.communication_bytes == 1160


def test_bytes_between_machines_are_counted_once_and_beside_the_categories():
    metrics, one = Metrics(Clock()), Handle("n1")
    one.bytes_sent = one.inter_host_bytes = 100
    metrics.count_frames("train", one)
    one.bytes_sent, one.inter_host_bytes = 150, 1150  # a region went to its machine as well
    metrics.count_frames("predict", one)
    metrics.count_frames("predict", one)
    assert metrics.communication().inter_host_bytes == 1150
    assert metrics.communication_bytes == 150
    heir = Metrics(Clock())
    heir.restore(metrics.communication().model_dump(mode="json"))
    assert heir.communication() == metrics.communication()


def test_the_error_rate_is_the_share_of_failed_calls():
    metrics = Metrics(Clock())
    assert metrics.node_calls.mean() is None
    for failed in (0.0, 0.0, 1.0, 0.0):
        metrics.node_calls.add(failed)
    assert metrics.node_calls.mean() == 0.25


def test_predictions_are_remembered_with_their_time_and_what_their_nodes_agreed_on():
    clock = Clock()
    metrics = Metrics(clock)
    assert metrics.agreement.mean() is None
    for number in range(30):
        metrics.note_prediction(float(number), None if number == 29 else 0.5 + (number % 2) / 2)
        clock.now_s += 1
    assert metrics.latency().n == 30
    assert metrics.agreement.mean() == pytest.approx((15 * 0.5 + 14 * 1.0) / 29)
    recent = metrics.recent_predictions()
    assert [one.ms for one in recent] == [float(number) for number in range(6, 30)]
    assert recent[-1].model_dump() == {"age_s": 1.0, "ms": 29.0, "agreement": None}
    assert recent[0].age_s == 24.0
