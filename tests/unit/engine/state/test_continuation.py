"""What a training goes on from names all of its files, and leads back to the state that they hold."""

from flow_nexus_neural.engine.state.continuation import Continuation, StateFiles
from tests.unit.engine.building import network as group


def committed():
    return group(digest="d" * 64, blob="b" * 64, moments_blob="m" * 64, stored_step=7)


def test_the_files_of_a_state_lead_back_to_it():
    files = StateFiles.of(committed())
    assert files == StateFiles("d" * 64, "b" * 64, "m" * 64, None, 7)
    assert files.names == {"b" * 64, "m" * 64}
    other = group(digest="e" * 64, blob="c" * 64, server_blob="s" * 64)
    found = files.put_into(other)
    assert StateFiles.of(found) == files
    assert (found.key, found.state) == (other.key, None)


def test_a_group_that_was_never_committed_has_no_files():
    assert StateFiles.of(group(digest=None)) is None


def test_every_file_that_the_next_round_rests_on_is_named():
    files = StateFiles.of(committed())
    made = Continuation(
        dealt=("worker-0",),
        best={"c0": files},
        own_states={"c0": "o" * 64},
        controls={"c0": "k" * 64},
    )
    assert made.files == {"b" * 64, "m" * 64, "o" * 64, "k" * 64}
    assert made.without_best().files == {"o" * 64, "k" * 64}
