import pytest

from flow_nexus_neural.data.class_names import class_index


@pytest.mark.parametrize(
    ("classes", "written", "index"),
    [
        ([0, 1], 1, 1),
        ([0, 1], "1", 1),
        ([0, 1], "1.0", 1),
        ([0, 1], True, 1),
        ([0, 1], "False", 0),
        ([1, 2], True, 0),
        ([0.5, 1.5], "1.50", 1),
        (["no", "yes"], "yes", 1),
        (["no", "yes"], " YES ", 1),
        (["Yes", "yes"], "yes", 1),
        (["a", "true"], True, 1),
        (["1", "x"], 1, 0),
        ([0, 1], 2, None),
        ([0, 1], "yes", None),
        ([0, 1], "nan", None),
        (["Yes", "yES"], "yes", None),
        (["a", "b"], "", None),
    ],
)
def test_a_class_is_found_as_people_write_it(classes, written, index):
    assert class_index(classes, written) == index
