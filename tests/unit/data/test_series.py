"""Rows in series, and the windows over them."""

import tracemalloc

import numpy as np

from flow_nexus_neural.data.series import Series, run_within, windows_in

MIB = 1 << 20


def series(of_row, time):
    of_row, time = np.array(of_row), np.array(time, dtype=float)
    return Series(of_row, np.lexsort((time, of_row)), time, ordered=True, warnings=[])


def test_a_window_holds_following_rows_of_one_series_and_windows_are_in_time_order():
    given = series([0, 1, 0, 1, 0, 1], [5, 1, 3, 2, 4, 0])
    windows = windows_in(np.arange(6), given, 2)
    x = np.arange(6, dtype=np.float32)[:, None] * 10
    assert windows.of(x)[:, :, 0].tolist() == [[50, 10], [10, 30], [20, 40], [40, 0]]
    assert windows.last.tolist() == [1, 3, 4, 0]


def test_there_is_no_window_over_fewer_rows_than_it_has():
    windows = windows_in(np.arange(3), series([0, 0, 0], [0, 1, 2]), 4)
    assert len(windows) == 0
    assert windows.of(np.zeros((3, 2), dtype=np.float32)).shape == (0, 4, 2)


def test_windows_take_no_memory_before_their_size_is_checked():
    n_rows, steps = 50_000, 512
    given = series(np.zeros(n_rows, dtype=int), np.arange(n_rows))
    tracemalloc.start()
    try:
        windows = windows_in(np.arange(n_rows), given, steps)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(windows) == n_rows - steps + 1
    assert peak < 16 * MIB  # written out they have 200 MiB


def test_windows_are_gathered_without_indices_of_their_size():
    n_rows, steps = 50_000, 200
    windows = windows_in(
        np.arange(n_rows), series(np.zeros(n_rows, dtype=int), np.arange(n_rows)), steps
    )
    x = np.arange(n_rows, dtype=np.float32)[:, None]
    tracemalloc.start()
    try:
        taken = windows.of(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (taken[:, 0, 0] == x[: len(windows), 0]).all()
    assert (taken[:, -1, 0] == x[steps - 1 :, 0]).all()
    assert peak < taken.nbytes + 16 * MIB


def test_a_part_that_leaves_nothing_out_is_a_run_of_the_whole():
    whole = np.array([4, 2, 0, 3, 1])
    assert run_within(np.array([2, 0, 3]), whole, 5) == slice(1, 4)
    assert run_within(np.array([2, 3]), whole, 5) is None
    assert run_within(np.array([0, 2]), whole, 5) is None
    assert run_within(np.array([2, 0]), whole[:2], 5) is None
    assert run_within(np.array([], dtype=int), whole, 5) is None


def test_windows_of_a_part_are_a_run_of_all_windows_unless_they_leap_over_rows():
    given = series([0] * 8, range(8))
    every = windows_in(np.arange(8), given, 3)
    assert run_within(windows_in(np.arange(2, 7), given, 3), every, 8) == slice(2, 5)
    assert run_within(windows_in(np.array([2, 3, 5]), given, 3), every, 8) is None
