"""A training goes on by itself after its server was killed, and comes to the same weights to the byte."""

from dataclasses import replace

import pytest

from flow_nexus_neural.engine.training import resume
from flow_nexus_neural.engine.training.continuing import read_standpoint
from tests.doubles.tables import cells
from tests.sim.gossiping import LINKED
from tests.sim.killed import POINTS, gone_on, undisturbed
from tests.sim.test_each_client import of_clients
from tests.sim.test_learning_from_outcomes import learnt, records, told, told_of

ROUNDS = 4
WIDE = ({"type": "dense", "units": 9, "activation": "relu"}, {"type": "dense", "units": 1})
FEDERATED = {"epochs": ROUNDS, "patience": ROUNDS}
ROLES = ("aggregator", "validator", "parameter_server")
ALONE = {**FEDERATED, "federated": False}


def series(n=160):
    """Rows in time order, so that there are folds and a refit."""
    return [
        {
            "date": f"2024-{1 + k // 28:02d}-{1 + k % 28:02d}",
            "a": k % 7,
            "b": k % 5,
            "y": (k % 7) * 2 + k % 3,
        }
        for k in range(n)
    ]


async def trained(
    w, *, workers=3, topology="star", consensus="proof-of-learning", roles=(), also=(), **train
):
    init = {} if consensus is None else {"consensus": consensus}
    cluster = await w.cluster(workers, topology=topology, **init)
    for layers in also:
        await w.deploy(cluster, layers=layers)
    for role in roles:
        await w.deploy(cluster, role, layers=None)
    await w.start(cluster, **{**FEDERATED, **train})
    w.kills.armed = True
    status = await w.done(cluster)
    assert status.training_status in ("completed", "early_stopped"), status.training_error
    w.kills.armed = False
    return cluster, status, await w.versions(cluster)


def at(*kills):
    return lambda point, nth: (point, nth) in kills


SOME = at(("after_commit", 2), ("renamed", 7))
MODES = {
    "averaging": {},
    "sampled": {"workers": 4, "clients_per_round": 2, "partition": "dirichlet:0.5"},
    "alone": ALONE,
    "two networks": {"workers": 2, "also": (WIDE,), "clients_per_round": 3},
    "summed over links": {"topology": "ring", "modes": LINKED},
    "fedavgm": {"aggregation_method": "fedavgm"},
    "fedadam": {"aggregation_method": "fedadam"},
    "scaffold": {"aggregation_method": "scaffold", "optimizer": "sgd", "clients_per_round": 2},
    "byzantine": {"consensus": "byzantine", "workers": 4},
    "validated": {"consensus": "byzantine", "workers": 4, "roles": ("validator",)},
    "raft": {"consensus": "raft"},
    "clients in turns": {
        "data": of_clients(),
        "partition": "each_client",
        "clients_per_round": 9,
        "batch_size": 4,
    },
    "gossip": {"consensus": "gossip", "topology": "ring", "workers": 4, "modes": LINKED},
    "gossip alone": {**ALONE, "consensus": "gossip", "topology": "mesh", "modes": LINKED},
    "push-sum": {
        "consensus": "gossip",
        "topology": "ring",
        "aggregation_method": "push_sum",
        "modes": LINKED,
    },
    "best round": {"learning_rate": 0.9, "epochs": 9, "patience": 2, "validation_size": 0.3},
    "folds and refit": {
        **ALONE,
        "data": series(),
        "target": "y",
        "time_column": "date",
        "folds": 2,
    },
    "roles": {"roles": ROLES},
    # Few rows, so that roles learn from answers out of fold.
    "roles out of fold": {
        "workers": 2,
        "roles": ("aggregator",),
        "batch_size": 128,
        "data": [{**row, "y": row["a"] > 3} for row in series(170)],
        "target": "y",
        "time_column": "date",
        "refit": False,
    },
}


def digests(versions):
    return [(entry["cohort"], entry["weights_digest"], entry["rule"]) for entry in versions]


def what(status, versions):
    """All that has to be equal."""
    return {
        "digests": digests(versions),
        "status": status.training_status,
        "error": status.training_error,
        "evaluation": status.evaluation,
        "best": (status.training.best_round, status.training.served_round),
        "folds": status.training.folds,
        "refit": status.training.refit,
        "steps": status.training.evidence.steps,
        "version": status.model_version,
        "learnt": status.learnt,
        "losses": [(p.round, p.train_loss, p.val_loss) for p in status.history],
    }


def whole(tmp_path, mode, wanted):
    """An undisturbed training; what servers killed in it would have left; how their nodes are joined."""
    given = dict(MODES[mode])
    more = {"modes": given.pop("modes")} if "modes" in given else {}
    made, left = undisturbed(tmp_path, lambda w: trained(w, **given), wanted, **more)
    return made, left, more


# The others rest on the same files as one of these, and `averaging` is killed at every point below.
TELLING = (
    "clients in turns",
    "sampled",
    "alone",
    "two networks",
    "scaffold",
    "validated",
    "raft",
    "gossip",
    "best round",
    "folds and refit",
    "roles out of fold",
)


@pytest.mark.parametrize("mode", cells(MODES, telling=TELLING))
def test_a_killed_server_s_training_comes_to_the_same_in_every_mode(tmp_path, mode):
    (cluster, status, versions), left, more = whole(tmp_path, mode, SOME)
    assert len(left) == 2
    for one in left:
        again, found = gone_on(one, cluster, **more)
        assert again.training.resumed is not None, one
        assert what(again, found) == what(status, versions), one


def test_at_every_point_of_a_durable_write(tmp_path):
    (cluster, status, versions), left, _ = whole(tmp_path, "averaging", lambda _, nth: nth == 3)
    assert {one.point for one in left} == set(POINTS)
    for one in left:
        again, found = gone_on(one, cluster)
        assert again.training.resumed is not None, one
        assert what(again, found) == what(status, versions), one


@pytest.mark.parametrize("phase", ["best round", "folds and refit"])
def test_after_the_rounds_too(tmp_path, phase):
    last = at(*(("before_commit", n) for n in range(5, 15)))
    (cluster, status, versions), left, more = whole(tmp_path, phase, last)
    rules = [entry["rule"] for entry in versions]
    assert {"best round": "best_round", "folds and refit": "refit"}[phase] in rules
    for one in left[-4:]:
        again, found = gone_on(one, cluster, **more)
        assert what(again, found) == what(status, versions), one


FORGOTTEN = {
    "best round": (3, lambda known: replace(known, best={})),
    "scaffold": (2, lambda known: replace(known, controls={})),
    "gossip": (2, lambda known: replace(known, own_states={})),
    "sampled": (2, lambda known: replace(known, asked={})),
}
"""By mode, after which commit the server is killed, and what is then taken from the training."""


@pytest.mark.parametrize("what_it_lacks", FORGOTTEN)
def test_without_what_a_round_rests_on_it_would_come_to_something_else(
    tmp_path, what_it_lacks, monkeypatch
):
    n, without = FORGOTTEN[what_it_lacks]
    (cluster, _, versions), left, more = whole(tmp_path, what_it_lacks, at(("after_commit", n)))

    async def forgetful(of, training):
        known = without(training.advance.continuation)
        training.advance = replace(training.advance, continuation=known)
        return await read_standpoint(of, training)

    monkeypatch.setattr(resume, "read_standpoint", forgetful)
    _, found = gone_on(left[0], cluster, **more)
    assert digests(found)[:n] == digests(versions)[:n]
    assert found[-1]["weights_digest"] != versions[-1]["weights_digest"]


def test_a_model_that_was_refused_is_not_trained_again(tmp_path):
    async def scenario(w):
        cluster = await told_of(w, 2)
        await w.train(cluster, epochs=6, learning_rate=0.1)
        await told(w, cluster, records(120, 1))
        w.kills.armed = True
        status = await learnt(w, cluster, epochs=3, learning_rate=1e-5)
        w.kills.armed = False
        return cluster, status

    # The second commit is the refusal; the third would record the end.
    (cluster, status), left = undisturbed(tmp_path, scenario, at(("after_commit", 2)))
    again, _ = gone_on(left[0], cluster)
    assert again.training.resumed is not None
    assert again.training.learning.admitted is status.training.learning.admitted is False
    assert again.training.evidence.steps == status.training.evidence.steps
    assert [p.round for p in again.history] == [p.round for p in status.history] == [1, 2, 3]
