"""What the server's start hands to the engine."""

from flow_nexus_neural.cli.serve import FirstZygote


def test_the_first_zygote_is_given_once_because_an_engine_ends_it():
    zygote = object()
    give = FirstZygote(zygote)
    assert give() is zygote
    assert give() is None
    assert FirstZygote(None)() is None
