"""DP-FedAvg as a policy: bounded weights, one noise on the sum, nothing shared but parameters."""

import numpy as np
import pytest

from flow_nexus_neural.coordination.consensus.federated_methods import FEDAVGM
from flow_nexus_neural.coordination.consensus.private_averaging import (
    NEXT_CLIP_NORM,
    PrivateAveraging,
)
from flow_nexus_neural.coordination.consensus.registry import AVERAGING
from flow_nexus_neural.kernels.privacy.gaussian import gaussian_noise

D = 2000
KEY = bytes(32)


def policy(clip_norm=1.0, noise_multiplier=1.0, clients=4, *, adaptive=False, **more):
    values = {"inner": AVERAGING, "noise": gaussian_noise(KEY, 0, D + 1)} | more
    return PrivateAveraging(
        clip_norm=clip_norm,
        noise_multiplier=noise_multiplier,
        clients=clients,
        adaptive=adaptive,
        **values,
    )


def state(params, moments=0.0):
    own = np.asarray(params, "f4")
    return {"params": own, "buffers": np.zeros(0, "f4"), "m": np.full(D, moments, "f4")}


BASE = state(np.linspace(-1, 1, D))


def moved(made):
    return made.vectors["params"].astype("f8") - BASE["params"]


def test_the_noise_of_zero_updates_has_the_variance_that_was_asked_for():
    drawn = []
    for number in range(20):
        noise = gaussian_noise(KEY, number, D + 1)
        made = policy(0.5, 3.0, clients=4, noise=noise).combine(BASE, [BASE] * 3, [1, 1, 1])
        drawn.append(moved(made))
    values = np.concatenate(drawn)
    std = 3.0 * 0.5 / 4
    assert abs(values.mean()) < 5 * std / np.sqrt(values.size)
    assert values.std() == pytest.approx(std, rel=0.02)


def test_each_client_counts_once_whatever_its_rows_and_a_missing_one_counts_nothing():
    none = np.zeros(D + 1)
    change = np.zeros(D)
    change[0] = 0.5
    one = state(BASE["params"] + change)
    made = policy(noise=none).combine(BASE, [one, one], [1, 1000])
    assert moved(made)[0] == pytest.approx(2 * 0.5 / 4, abs=1e-6)
    assert made.weights == (0.25, 0.25)
    assert made.keeps_moments
    assert set(made.vectors) == {"params", "buffers"}  # moments of clients are not shared


def test_an_attacker_of_a_million_norms_counts_as_one_client():
    far = state(np.full(D, 1e6))
    without = policy().combine(BASE, [BASE], [1])
    with_it = policy().combine(BASE, [BASE, far], [1, 1])
    pulled = np.linalg.norm(moved(with_it) - moved(without))
    assert pulled == pytest.approx(1.0 / 4, rel=1e-4)
    plain = AVERAGING.combine(BASE, [BASE, far], [1, 1])
    assert np.linalg.norm(moved(plain)) > 1e6  # without privacy it goes where it wants


def test_a_sum_that_the_clients_clipped_gets_the_same_noise():
    short = state(BASE["params"] + np.full(D, 0.01, "f4"))
    whole = policy().combine(BASE, [short, BASE], [1, 1])
    total = short["params"].astype("f8") - BASE["params"]
    found = policy().go_on_from(BASE, total)
    assert np.array_equal(found.vectors["params"], whole.vectors["params"])
    assert found.evidence == whole.evidence


def test_a_servers_step_starts_from_the_noised_mean():
    made = policy(inner=FEDAVGM).combine(BASE, [BASE], [1])
    plain = policy().combine(BASE, [BASE], [1])
    assert moved(made) == pytest.approx(moved(plain), abs=1e-5)  # its first step is the mean
    assert made.vectors["server_m"].any()
    assert policy(inner=FEDAVGM).name == "fedavgm"


def test_the_adaptive_norm_follows_a_noised_count():
    short, far = BASE, state(BASE["params"] + 1)
    quiet = np.zeros(D + 1)
    none_cut = policy(adaptive=True, noise=quiet).combine(BASE, [short] * 4, [1] * 4)
    all_cut = policy(adaptive=True, noise=quiet).combine(BASE, [far] * 4, [1] * 4)
    assert none_cut.evidence["privacy"][NEXT_CLIP_NORM] == pytest.approx(np.exp(-0.1))
    assert all_cut.evidence["privacy"][NEXT_CLIP_NORM] == pytest.approx(np.exp(0.1))
    loud = np.zeros(D + 1)
    loud[D] = 2.0
    noised = policy(adaptive=True, noise=loud).combine(BASE, [short] * 4, [1] * 4)
    assert noised.evidence["privacy"][NEXT_CLIP_NORM] == pytest.approx(np.exp(-0.1 - 0.2 * 2 / 4))
    assert noised.evidence["privacy"]["noise_std_of_mean"] > 1.0 / 4  # the count costs some


def test_the_evidence_has_nothing_that_was_measured_without_noise():
    told = policy().combine(BASE, [BASE, state(np.full(D, 9.0))], [1, 1]).evidence
    assert told == {"privacy": {"clip_norm": 1.0, "noise_std_of_mean": 0.25, "clients": 4}}
