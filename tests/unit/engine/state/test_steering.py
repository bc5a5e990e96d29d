"""How a training is steered: nothing at first, and what is set takes the place of what was configured."""

from dataclasses import replace

from flow_nexus_neural.engine.state.steering import Steering
from tests.unit.engine.building import training


def test_a_training_goes_its_configured_way_until_it_is_steered():
    made = training()
    assert made.steering == Steering()
    assert made.learning_rate == made.config.learning_rate == 0.1
    made.steer(learning_rate=0.05, rate_before=0.1, adapted_at=7)
    assert (made.learning_rate, made.config.learning_rate) == (0.05, 0.1)
    made.steer(rate_before=None)
    assert (made.steering.learning_rate, made.steering.rate_before) == (0.05, None)


def test_a_training_that_is_told_to_stops_early_whatever_its_patience():
    made = training(rounds=3, seconds=(1.0,))
    assert not made.stops_early
    made.steer(stop_reason="gain 0 in 10 rounds")
    assert made.stops_early
    done = training(rounds=1, seconds=(1.0,))
    done.steer(stop_reason="too late")
    assert not done.stops_early, "it has done all its rounds"


def test_the_rate_of_every_round_is_known_afterwards():
    made = Steering().with_rate_from(1)
    assert made.rates == ()
    made = replace(made, learning_rate=0.05).with_rate_from(4).with_rate_from(5)
    made = replace(made, learning_rate=0.1).with_rate_from(9)
    assert made.rates == ((4, 0.05), (9, 0.1))
    assert [made.rate_of(number) for number in (1, 3, 4, 8, 9, 20)] == [
        None,
        None,
        0.05,
        0.05,
        0.1,
        0.1,
    ]
