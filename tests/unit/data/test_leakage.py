import numpy as np

from flow_nexus_neural.data.leakage import repeated_rows, suspicious_values

rng = np.random.Generator(np.random.PCG64(2))


def correlated(label, correlation):
    """A column whose correlation with a standardised label is exactly this."""
    noise = rng.standard_normal(len(label))
    noise -= noise.mean() + label * (noise @ label) / len(label)
    noise /= np.sqrt((noise**2).mean())
    return correlation * label + np.sqrt(1 - correlation**2) * noise


def standardised(count):
    label = rng.standard_normal(count)
    return (label - label.mean()) / label.std()


def test_only_a_correlation_above_the_limit_is_suspicious_in_either_direction():
    label = standardised(500)
    x = np.stack([correlated(label, c) for c in (0.9995, 0.9985, -0.9995, -0.9985)], axis=1)
    found = suspicious_values(x.astype(np.float32), 3 * label + 7, None)
    assert found.tolist() == [True, False, True, False]


def test_a_column_that_does_not_vary_is_never_suspicious():
    x = np.full((50, 1), 3.0, dtype=np.float32)
    assert suspicious_values(x, np.arange(50.0), None).tolist() == [False]


def test_of_several_classes_each_is_tried_against_the_others():
    labels = np.arange(60) % 3.0
    x = np.stack([labels == 1, labels], axis=1).astype(np.float32)
    assert suspicious_values(x, labels, 3).tolist() == [True, True]
    assert suspicious_values(x, labels, None).tolist() == [False, True]


def test_correlations_are_those_of_all_rows_and_not_of_a_block():
    labels = np.arange(70_000) % 2.0
    x = labels.astype(np.float32)[:, None].copy()
    assert suspicious_values(x, labels, 2).tolist() == [True]
    x[65_536:] = 1 - x[65_536:]
    assert suspicious_values(x, labels, 2).tolist() == [False]


def test_test_rows_that_occur_in_train_are_counted_once_each():
    x = np.array([[1, 2], [3, 4], [1, 2], [1, 2], [2, 1], [3, 4.0000005]], dtype=np.float32)
    assert repeated_rows(x, np.array([0, 1]), np.array([2, 3, 4, 5])) == 2
    assert repeated_rows(x, np.array([0, 2]), np.array([4, 5])) == 0


def test_rows_that_differ_in_one_value_of_many_are_different():
    x = np.zeros((2, 300), dtype=np.float32)
    x[1, 299] = 1e-30
    assert repeated_rows(x, np.array([0]), np.array([1])) == 0
    assert repeated_rows(x, np.array([0]), np.array([0])) == 1
