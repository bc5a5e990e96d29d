"""A task holds what it says unless it is told anew: it is shared by those who ask, prove and charge."""

from dataclasses import FrozenInstanceError

import pytest

from flow_nexus_neural.engine.training.tasks import Base, Recipe, Task
from tests.unit.engine.building import slot
from tests.unit.engine.training.by_hand import group


def test_a_task_and_what_it_starts_from_cannot_be_changed():
    base = Base("base", None)
    one = Task(
        slot("worker-0"),
        group(["worker-0"], params=[0.1, 0.2, 0.3, 0.4]),
        base,
        True,
        0,
        (),
        1,
        1.0,
    )
    for made, name in ((one, "opt_step"), (base, "key"), (Recipe(0.1, 8, 0.0, ()), "batch_size")):
        with pytest.raises(FrozenInstanceError):
            setattr(made, name, 7)


def test_a_task_is_neither_proved_nor_private_unless_somebody_orders_it():
    network, base = group(["worker-0"], params=[0.1, 0.2, 0.3, 0.4]), Base("b", None)
    one = Task(slot("worker-0"), network, base, True, 0, (), 1, 1.0)
    assert (one.proof, one.private) == (None, None)
