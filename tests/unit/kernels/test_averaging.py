import numpy as np
import pytest

from flow_nexus_neural.kernels.averaging import RunningAverage, averaged_step, federated_average
from flow_nexus_neural.kernels.folding import BLOCK


def f4(*values):
    return np.array(values, dtype=np.float32)


def test_workers_count_by_their_rows():
    average = federated_average([f4(1, 10), f4(5, -10)], [3, 1])
    assert average.tolist() == [2.0, 5.0]
    assert average.dtype == np.float32


def test_a_worker_without_rows_changes_nothing():
    assert federated_average([f4(1), f4(100)], [4, 0]).tolist() == [1.0]


def test_one_worker_is_returned_bit_for_bit():
    vector = np.random.default_rng(1).normal(size=1000).astype(np.float32) * np.float32(1e-3)
    assert np.array_equal(federated_average([vector], [12_345]), vector)


def test_equal_vectors_average_to_themselves_whatever_their_rows():
    vector = np.random.default_rng(2).normal(size=500).astype(np.float32)
    assert np.array_equal(federated_average([vector] * 7, [3, 1, 4, 1, 5, 9, 2]), vector)


def test_the_sum_is_kept_in_float64():
    # In float32, 1e8 + 1 is 1e8 and the average of the three would be 0.
    average = federated_average([f4(1e8), f4(1), f4(-1e8)], [1, 1, 1])
    assert average[0] == pytest.approx(1 / 3, rel=1e-6)


def test_blocks_give_what_one_pass_gives():
    rng = np.random.default_rng(3)
    vectors = [rng.normal(size=2 * BLOCK + 17).astype(np.float32) for _ in range(3)]
    rows = [10, 20, 33]
    whole = sum(v.astype(np.float64) * n for v, n in zip(vectors, rows, strict=True)) / 63
    assert np.array_equal(federated_average(vectors, rows), whole.astype(np.float32))


def test_the_inputs_stay_as_they_were():
    vectors = [f4(1, 2), f4(3, 4)]
    federated_average(vectors, [1, 1])
    assert [v.tolist() for v in vectors] == [[1, 2], [3, 4]]


def test_an_empty_vector_averages_to_an_empty_vector():
    assert federated_average([f4(), f4()], [1, 2]).shape == (0,)


@pytest.mark.parametrize(
    ("vectors", "rows"),
    [
        ([], []),
        ([f4(1)], []),
        ([f4(1), f4(1, 2)], [1, 1]),
        ([f4(1)], [0]),
        ([f4(1), f4(2)], [2, -1]),
        ([np.zeros((2, 2), dtype=np.float32)], [1]),
    ],
)
def test_what_cannot_be_averaged_is_refused(vectors, rows):
    with pytest.raises(ValueError, match=r"rows?|shape|counts"):
        federated_average(vectors, rows)


def test_equal_step_counters_stay_what_they_are():
    assert averaged_step([41, 41, 41], [1, 100, 7]) == 41


def test_step_counters_are_weighted_by_rows_and_halves_go_up():
    assert averaged_step([10, 20], [3, 1]) == 13  # 12.5
    assert averaged_step([10, 20], [301, 100]) == 12  # 12.49
    assert averaged_step([0, 0, 1], [1, 1, 1]) == 0


def test_a_negative_step_counter_is_refused():
    with pytest.raises(ValueError, match="negative"):
        averaged_step([3, -1], [1, 1])


def test_a_running_average_is_that_of_all_vectors_bit_for_bit():
    draw = np.random.Generator(np.random.PCG64(6))
    vectors = [(draw.standard_normal(40_000) * 10.0**k).astype("f4") for k in range(-3, 4)]
    rows = [3, 0, 17, 1, 250, 4, 9]
    running = RunningAverage()
    for vector, count in zip(vectors, rows, strict=True):
        running.add(vector, count)
    assert running.rows == sum(rows)
    assert running.average().tobytes() == federated_average(vectors, rows).tobytes()


def test_a_running_average_refuses_what_does_not_fit():
    running = RunningAverage()
    with pytest.raises(ValueError, match="nothing"):
        running.average()
    running.add(np.zeros(3, "f4"), 0)
    with pytest.raises(ValueError, match="nothing"):
        running.average()
    with pytest.raises(ValueError, match="does not fit"):
        running.add(np.zeros(4, "f4"), 1)
    with pytest.raises(ValueError, match="does not fit"):
        running.add(np.zeros(3, "f4"), -1)
