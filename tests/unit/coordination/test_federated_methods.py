"""Federated methods as policies, against formulas that are written here in float64."""

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.federated_methods import (
    FEDPROX,
    METHODS,
    OPTIONS,
    SCAFFOLD,
    FederatedMethod,
)
from flow_nexus_neural.coordination.consensus.registry import (
    find_policy,
    policy_in_force,
    spellings,
)
from flow_nexus_neural.coordination.consensus.tolerance import RobustPolicy

D, ROUNDS, ROWS = 50, 6, (10, 30, 5, 55)
KEEPING = ("fedavgm", "fedadam", "fedyogi", "fedadagrad")


def clients(seed=4):
    """A base, and how far each of the clients goes in each round."""
    draw = np.random.default_rng(seed)
    scale = 10.0 ** draw.integers(-5, 1, D)
    return draw.normal(size=D), draw.normal(size=(ROUNDS, len(ROWS), D)) * scale


def by_formula(name, rounds, *, eta, beta, equal=False):
    """The parameters after each of these (base, updates), in float64, by the formulas of the papers."""
    m, v = np.zeros(D), np.full(D, 1e-6)
    p = np.full(len(ROWS), 1 / len(ROWS)) if equal else np.array(ROWS) / sum(ROWS)
    path = []
    for base, updates in rounds:
        w = base["params"].astype("f8")
        d = sum(share * (one["params"] - w) for share, one in zip(p, updates, strict=True))
        if name == "fedavgm":
            m = beta * m + d
            step = eta * m
        elif name in ("fedprox", "scaffold"):
            step = eta * d
        else:
            m = beta * m + (1 - beta) * d
            v = {
                "fedadam": 0.99 * v + 0.01 * d * d,
                "fedyogi": v - 0.01 * d * d * np.sign(v - d * d),
                "fedadagrad": v + d * d,
            }[name]
            step = eta * m / (np.sqrt(v) + 1e-3)
        path.append(w + step)
    return path


def run(policy, rounds=ROUNDS, rows=ROWS):
    """What each round of the policy starts from, (base, updates), and the arrays after it."""
    start, moves = clients()
    base = {"params": start.astype("f4"), "buffers": np.ones(2, "f4")}
    asked, path = [], []
    for deltas in moves[:rounds]:
        updates = [
            {
                "params": (base["params"] + delta).astype("f4"),
                "buffers": np.full(2, k + 1.0, "f4"),
            }
            for k, delta in enumerate(deltas)
        ]
        asked.append((base, updates))
        made = policy.combine(base, updates, rows)
        base = {**base, **made.vectors}
        path.append(base)
    return asked, path


@pytest.mark.parametrize("options", [{}, {"server_learning_rate": 0.3, "server_momentum": 0.5}])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_parameters_go_where_the_formula_of_the_paper_says(method, options):
    usual = {"fedavgm": (1.0, 0.9), "fedprox": (1.0, 0.0), "scaffold": (1.0, 0.0)}
    eta, beta = usual.get(method.name, (1e-2, 0.9))
    own = {name: value for name, value in options.items() if name in method.options}
    eta = own.get("server_learning_rate", eta)
    beta = own.get("server_momentum", beta)
    asked, found = run(method.with_options(own))
    expected = by_formula(method.name, asked, eta=eta, beta=beta, equal=method is SCAFFOLD)
    for made, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(made["params"], wanted, rtol=1e-6, atol=1e-7)
        assert made["params"].dtype == np.float32


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_everything_else_is_averaged(method):
    made = run(method, rounds=1)[1][0]
    shares = [1] * len(ROWS) if method is SCAFFOLD else ROWS
    mean = np.average(np.arange(1, len(ROWS) + 1), weights=shares)
    np.testing.assert_allclose(made["buffers"], mean, rtol=1e-6)


@pytest.mark.parametrize("name", KEEPING)
def test_what_is_kept_goes_on_where_it_was(name):
    """Two rounds, and two more from their state, are four; without the state they are not."""
    method = find_policy(name)
    _, whole = run(method)
    moves = clients()[1]

    def third(base):
        updates = [
            {"params": (whole[1]["params"] + d).astype("f4"), "buffers": base["buffers"]}
            for d in moves[2]
        ]
        return method.combine(base, updates, ROWS).vectors["params"]

    assert np.array_equal(third(whole[1]), whole[2]["params"])
    without = {name: whole[1][name] for name in ("params", "buffers")}
    assert not np.array_equal(third(without), whole[2]["params"])


def test_the_first_step_of_fedadam_is_not_corrected_for_bias():
    """With D = 1: m = .1 and v = .99e-6 + .01, so w moves by eta .1 / (.1 + .001), not by .742 eta."""
    method = find_policy("fedadam")
    base = {"params": np.zeros(1, "f4")}
    made = method.combine(base, [{"params": np.ones(1, "f4")}], [1])
    assert made.vectors["params"][0] == pytest.approx(
        1e-2 * 0.1 / (np.sqrt(0.99e-6 + 0.01) + 1e-3), rel=1e-6
    )


def test_fedprox_combines_as_the_average_does():
    start, moves = clients()
    base = {"params": start.astype("f4")}
    updates = [{"params": (start + d).astype("f4")} for d in moves[0]]
    prox, mean = (p.combine(base, updates, ROWS) for p in (FEDPROX, FederatedAveraging()))
    assert np.array_equal(prox.vectors["params"], mean.vectors["params"])
    assert prox.weights == mean.weights


def test_scaffold_counts_each_client_once():
    (_, (unequal,)), (_, (equal,)) = (run(SCAFFOLD, 1, rows) for rows in (ROWS, (1, 1, 1, 1)))
    assert np.array_equal(unequal["params"], equal["params"])
    update = {"params": np.ones(1, "f4")}
    assert SCAFFOLD.combine(update, [update] * 4, ROWS).weights == (0.25,) * 4


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_each_is_found_by_name_with_options_that_a_training_can_give(method):
    assert find_policy(method.name.upper()) is method
    assert method.name in spellings("proof-of-learning")
    assert isinstance(method, FederatedMethod)
    assert not isinstance(method, RobustPolicy)
    assert set(method.options) <= set(OPTIONS)
    other = dict.fromkeys(method.options, 0.5)
    assert policy_in_force(method.name, 0, exact=False, options=other).options == other
    assert method.options != other
    assert find_policy(f"nnm+{method.name}") is None
    with pytest.raises(ValueError, match=r"no update|row counts"):
        method.combine({"params": np.zeros(1, "f4")}, [], [])


def test_only_scaffold_binds_the_optimiser_of_its_clients():
    assert {m.name: m.client_optimizer for m in METHODS if m.client_optimizer} == {
        "scaffold": "sgd"
    }
