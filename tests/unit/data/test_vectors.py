import pytest

from flow_nexus_neural.data.vectors import step_of


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("lag[3]", ("lag", 3)),
        ("lag_12", ("lag", 12)),
        ("a_b_0", ("a_b", 0)),
        ("lag", None),
        ("lag[x]", None),
        ("[3]", None),
        ("lag_12345", None),
    ],
)
def test_a_step_of_a_vector_is_known_by_its_name(name, found):
    assert step_of(name) == found
