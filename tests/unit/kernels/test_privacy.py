"""Clipping bounds what one client adds, and noise is Gaussian, secret and never the same twice."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flow_nexus_neural.kernels.privacy.clipping import (
    LEAST_CLIP_NORM,
    MOST_CLIP_NORM,
    clip_factor,
    clipped_sum,
    next_clip_norm,
    noise_of_sum,
    usual_noise_of_count,
)
from flow_nexus_neural.kernels.privacy.gaussian import gaussian_noise
from flow_nexus_neural.kernels.privacy.keystream import keystream

KEY = bytes(range(32))
finite = st.floats(-(2.0**99), 2.0**99, width=32)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, (3, 7), elements=finite),
    hnp.arrays(np.float32, (7,), elements=st.floats(-10, 10, width=32)),
    st.floats(1e-3, 1e3),
)
def test_no_client_moves_the_sum_by_more_than_the_clip_norm(vectors, base, clip_norm):
    together, within = clipped_sum(base, list(vectors), clip_norm)
    without, _ = clipped_sum(base, list(vectors[1:]), clip_norm)
    limit = clip_norm * (1 + 1e-9)
    assert np.linalg.norm(together - without) <= limit
    assert np.linalg.norm(together) <= 3 * limit
    assert 0 <= within <= 3


def test_an_attacker_of_a_million_norms_moves_the_sum_by_one():
    base = np.zeros(100, "f4")
    honest = np.full(100, 0.01, "f4")  # norm 0.1
    attack = np.full(100, 1e5, "f4")  # norm 1e6
    plain = attack + honest
    total, within = clipped_sum(base, [honest, attack], 1.0)
    assert np.linalg.norm(plain) > 9e5  # it bites where nothing is clipped
    assert np.linalg.norm(total - honest) == pytest.approx(1.0)
    assert within == 1


def test_a_zero_update_stays_zero_and_a_short_one_as_it_is():
    assert clip_factor(0.0, 1.0) == 1.0
    base = np.ones(4, "f4")
    total, within = clipped_sum(base, [base, base], 1e-9)
    assert not total.any()
    assert within == 2
    short, _ = clipped_sum(np.zeros(4, "f4"), [np.full(4, 0.25, "f4")], 1.0)
    assert short.tolist() == [0.25] * 4


def test_vectors_that_do_not_fit_are_refused():
    for vectors in ([], [np.zeros(3, "f4")]):
        with pytest.raises(ValueError, match="shape"):
            clipped_sum(np.zeros(4, "f4"), vectors, 1.0)


@given(st.floats(0.1, 50), st.integers(2, 200))
def test_sum_and_count_together_cost_what_was_asked(multiplier, clients):
    of_count = usual_noise_of_count(multiplier, clients)
    of_sum = noise_of_sum(multiplier, of_count)
    # Two Gaussian mechanisms, sensitivities 1 and 1/2: squared ratios add (theorem 1 of the paper).
    assert of_sum**-2 + (0.5 / of_count) ** 2 == pytest.approx(multiplier**-2)
    assert multiplier <= of_sum <= 1.16 * multiplier


def test_too_little_noise_of_the_count_leaves_nothing_to_the_sum():
    with pytest.raises(ValueError, match="too little noise"):
        noise_of_sum(1.0, 0.5)


def test_the_adaptive_norm_finds_the_median_from_both_sides():
    norms = np.array([0.5, 1.0, 2.0, 4.0, 8.0])
    for start in (0.01, 100.0):
        clip = start
        for _ in range(200):
            clip = next_clip_norm(clip, float(np.mean(norms <= clip)))
        assert 1.7 <= clip <= 2.3
    assert next_clip_norm(LEAST_CLIP_NORM, 1e6) == LEAST_CLIP_NORM
    assert next_clip_norm(MOST_CLIP_NORM, -1.0) == MOST_CLIP_NORM


def test_a_key_stream_is_that_of_aes_in_counter_mode():
    # NIST SP 800-38A, F.5.5, has another first block; this is AES-256 of the counter block itself.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    encryptor = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor()
    blocks = [(7).to_bytes(8, "big") + n.to_bytes(8, "big") for n in range(3)]
    assert keystream(KEY, 7, 40).tobytes() == b"".join(map(encryptor.update, blocks))[:40]
    for wrong in ((b"short", 0, 1), (KEY, -1, 1), (KEY, 1 << 64, 1), (KEY, 0, 1 << 36)):
        with pytest.raises(ValueError, match="key stream"):
            keystream(*wrong)


def test_noise_is_standard_normal_and_repeats_with_key_and_number_only():
    noise = gaussian_noise(KEY, 3, 200_001)
    assert noise.shape == (200_001,)
    assert abs(noise.mean()) < 4 / math.sqrt(noise.size)
    assert noise.var() == pytest.approx(1, abs=4 * math.sqrt(2 / noise.size))
    beyond = [float(np.mean(np.abs(noise) > z)) for z in (1, 2, 3)]
    assert beyond == pytest.approx([0.3173, 0.0455, 0.0027], abs=0.004)
    cosines, sines = noise[:100_000], noise[100_001:]
    assert abs(np.corrcoef(cosines, sines)[0, 1]) < 0.02
    assert np.array_equal(gaussian_noise(KEY, 3, 200_001), noise)
    for other in (gaussian_noise(KEY, 4, 1000), gaussian_noise(KEY[::-1], 3, 1000)):
        assert abs(np.corrcoef(other, noise[:1000])[0, 1]) < 0.15
