"""Changes that wait for a boundary: in order, none twice, none lost."""

import pytest

from flow_nexus_neural.engine.training.boundary import Boundary
from tests.unit.engine.building import cluster_state, live

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def change(seen, name, failures=()):
    left = list(failures)

    async def make():
        if left:
            raise left.pop()
        seen.append(name)

    return make


async def test_changes_are_made_in_order_and_once():
    boundary, seen = Boundary(), []
    for name in "ab":
        boundary.queue(change(seen, name))
    await boundary.apply()
    await boundary.apply()
    assert (seen, len(boundary)) == (["a", "b"], 0)


async def test_one_that_fails_waits_for_the_end_and_keeps_no_other_from_being_made(caplog):
    made = live(cluster_state())
    made.context.incident = lambda: "beef"
    boundary, seen = Boundary(), []
    boundary.queue(change(seen, "a", [ValueError("then"), ValueError("again")]))
    boundary.queue(change(seen, "b"))
    with pytest.raises(ValueError, match="again"):
        await boundary.apply()
    assert (seen, len(boundary)) == ([], 2)
    await boundary.apply_late(made)
    assert (seen, len(boundary)) == (["b"], 0)
    assert "beef" in caplog.text
