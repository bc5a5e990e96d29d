"""Which versions stay: the last ones, and the best however old it is."""

from types import SimpleNamespace

from flow_nexus_neural.engine.versions.kept import is_best, with_line
from tests.unit.engine.building import bundle, cluster_state, committed, live, network


def cluster(keep=3):
    made = live(cluster_state(), at="noon")
    made.context.settings = SimpleNamespace(checkpoint_keep=keep)
    return made


def entry(**more):
    return {"kind": "version", "rule": "mean", "round": 2, "training_id": "trn_1", **more}


def version(number, best="b1", **more):
    group = network(blob=f"b{number}", digest=f"d{number}", moments_blob="m")
    of = bundle({"worker-0": 1.0}, version=number)
    return committed([group], of, version=number, best={"c0": best} if best else {}, **more)


def grown(of, numbers, **more):
    for number in numbers:
        of.state.committed = with_line(of, version(number, **more), [entry(round=number)])
    return [line.version for line in of.state.committed.kept]


def test_the_last_versions_stay_and_the_best_beside_them():
    assert grown(cluster(), range(1, 7)) == [1, 4, 5, 6]
    assert grown(cluster(), range(1, 7), best="b5") == [4, 5, 6]
    assert grown(cluster(), range(1, 7), best=None) == [4, 5, 6]
    assert grown(cluster(keep=1), range(1, 4)) == [1, 3]


def test_a_line_has_what_the_ledger_says_and_what_was_measured():
    of = cluster()
    grown(of, [1])
    (line,) = of.state.committed.kept
    assert (line.rule, line.round, line.training_id) == ("mean", 1, "trn_1")
    assert (line.at, line.digest, line.restored_from) == ("noon", "d1", None)
    assert (line.accuracy, line.loss, line.blobs) == (0.75, 0.5, frozenset({"b1"}))
    assert is_best(of.state.committed, line)
    rolled = {"kind": "control", "event": "rollback", "restored": 1}
    made = with_line(of, version(2), [rolled, entry(rule="rollback")])
    assert (made.kept[-1].restored_from, made.kept[-1].rule) == (1, "rollback")


def test_a_new_bundle_of_the_same_version_replaces_its_numbers_alone():
    of = cluster()
    grown(of, [1, 2])
    made = with_line(of, version(2, accuracy=0.9), [])
    assert [line.version for line in made.kept] == [1, 2]
    assert (made.kept[-1].accuracy, made.kept[-1].round) == (0.9, 2)


def test_weights_stay_that_were_evaluated_before_a_refit():
    of = cluster()
    evaluated = {"c0": network(blob="before", digest="e")}
    made = with_line(of, version(4, evaluated=evaluated), [entry()])
    assert made.kept[-1].blobs == {"b4", "before"}
    assert made.blobs >= {"b4", "before", "m", "b1"}
