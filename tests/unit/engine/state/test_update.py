"""An update is a value: nobody who holds one can change what another one sees."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest

from flow_nexus_neural.engine.state.update import Update
from tests.unit.engine.building import network, state


def update():
    of = network()
    made = state(of.plan)
    return Update(
        "worker-0", made, of.digest_of(made), rows=12, steps=3, opt_step=3, loss=0.5, cpu_s=0.1
    )


@pytest.mark.parametrize("name", [field.name for field in fields(Update)])
def test_no_part_of_an_update_can_be_replaced_after_it_was_admitted(name):
    made = update()
    with pytest.raises(FrozenInstanceError):
        setattr(made, name, None)


def test_two_parts_of_one_epoch_become_an_update_of_their_own():
    first = update()
    both = replace(first, steps=6)
    assert (first.steps, both.steps) == (3, 6)
    assert both.state is first.state


def test_its_digest_is_that_of_weights_and_not_of_moments():
    made, of = update(), network()
    other_moments = replace(made.state, moments={"m": made.state.params, "v": made.state.params})
    other_weights = replace(made.state, params=made.state.params + 1)
    assert of.digest_of(other_moments) == made.digest
    assert of.digest_of(other_weights) != made.digest
