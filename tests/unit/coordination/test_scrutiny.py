"""What a robust rule saw of the workers, summed over rounds."""

from dataclasses import asdict

from flow_nexus_neural.coordination.scrutiny import FAR, Scrutiny


def seen(*rounds, excluded=()):
    scrutiny = Scrutiny()
    for distances in rounds:
        evidence = {"c0": {"rule": "caf", "f": 1, "shortened": [0], "distance": distances}}
        scrutiny = scrutiny.after(evidence, excluded)
    return scrutiny


def test_under_the_mean_there_is_nothing_to_tell():
    assert Scrutiny().after({}, ()).report() is None
    assert Scrutiny().after({"c0": {"f": 1, "shortened": []}}, ()).report() is None


def test_who_is_far_off_in_most_rounds_is_suspected_the_farthest_first():
    far, farther = {"a": 1.0, "b": FAR, "c": 9.0}, {"a": FAR, "b": 4.0, "c": 9.0}
    found = seen(far, farther, {"a": 1.0, "b": 1.0, "c": 9.0}, excluded={"c"}).report()
    assert found == {
        "n": 3,
        "f": 1,
        "rule_last": "caf",
        "rule_histogram": {"caf": 3},
        "norm_clipped": 3,
        "suspected": [
            {
                "slot": "c",
                "clients": [],
                "score": 9.0,
                "updates": 3,
                "far": 3,
                "rounds_excluded": 3,
            },
            {
                "slot": "b",
                "clients": [],
                "score": 2.5,
                "updates": 3,
                "far": 2,
                "rounds_excluded": 0,
            },
        ],
    }


def test_the_clients_of_a_suspect_are_named():
    scrutiny = Scrutiny(clients={"a": ("ann", "bob")})
    evidence = {"c0": {"rule": "caf", "f": 1, "shortened": [], "distance": {"a": 9.0, "b": 1.0}}}
    (suspect,) = scrutiny.after(evidence, ()).report()["suspected"]
    assert (suspect["slot"], suspect["clients"]) == ("a", ["ann", "bob"])


def test_half_of_the_rounds_are_not_most():
    assert seen({"a": 9.0, "b": 1.0}, {"a": 1.0, "b": 1.0}).report()["suspected"] == []


def test_every_part_of_an_epoch_counts_and_every_network_group():
    part = {"rule": "median", "f": 1, "shortened": [], "distance": {"a": 3.0, "b": 1.0}}
    other = {"rule": "caf", "f": 2, "shortened": [1, 2], "distance": {"x": 1.0}}
    found = Scrutiny().after({"c0": {"parts": [part, part]}, "c1": other}, {"a"})
    assert (found.rules, found.rule, found.shortened) == ({"median": 2, "caf": 1}, "caf", 2)
    assert asdict(found.workers["a"]) == {"updates": 2, "far": 2, "excluded": 1, "distance": 6.0}
    assert found.workers["x"].updates == 1
