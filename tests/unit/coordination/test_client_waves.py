"""Who trains which client next."""

from flow_nexus_neural.coordination.client_waves import MOST_TRIES, dealt, hopeless


def test_clients_are_dealt_in_order_one_a_worker():
    assert dealt(["a", "b", "c"], ["w0", "w1"], {}) == {"a": "w0", "b": "w1"}


def test_nobody_gets_a_client_with_which_it_has_failed():
    assert dealt(["a", "b"], ["w0", "w1"], {"a": ["w0"]}) == {"a": "w1", "b": "w0"}
    assert dealt(["a"], ["w0"], {"a": ["w0"]}) == {}


def test_a_client_that_waits_does_not_hold_up_the_next():
    assert dealt(["a", "b"], ["w0"], {"a": ["w0"]}) == {"b": "w0"}


def test_a_client_is_given_up_where_nobody_is_left_or_enough_have_failed():
    assert hopeless("a", ["w0"], {"a": ["w0"]})
    assert not hopeless("a", ["w0", "w1"], {"a": ["w0"]})
    many = [f"w{k}" for k in range(MOST_TRIES + 3)]
    assert hopeless("a", many, {"a": many[:MOST_TRIES]})
