"""Committing a version."""

from flow_nexus_neural.engine.versions.commit import recent_files
from tests.unit.engine.building import bundle, committed, network


def test_the_last_files_are_kept_in_order_without_repeats():
    former = committed([network()], bundle({}), recent={"c0": ("a", "b", "c")})
    for blob, keep, expected in (
        ("d", 3, ("b", "c", "d")),
        ("c", 3, ("a", "b", "c")),
        ("d", 9, ("a", "b", "c", "d")),
    ):
        assert recent_files(former, {"c0": network(blob=blob)}, keep) == {"c0": expected}
    assert recent_files(former, {"c1": network("c1", blob="x")}, 3) == {"c1": ("x",)}
