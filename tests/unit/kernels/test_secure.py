"""Shares, agreed keys, fixed point and masks: what they give together, and what they hide apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flow_nexus_neural.kernels.secure import shamir
from flow_nexus_neural.kernels.secure.agreement import agreed_key, public_key, seal, unseal
from flow_nexus_neural.kernels.secure.masks import (
    RANGE,
    SCALE,
    Masks,
    clip_factor_of,
    decode,
    encode,
    mask,
    sum_without,
    write_masked,
)
from flow_nexus_neural.kernels.secure.purposes import about_shares, commitment_to, masking, sealing

secrets = st.binary(min_size=32, max_size=32)
elements = st.integers(0, shamir.PRIME - 1)


@given(secrets, st.integers(2, 9), st.data())
def test_any_threshold_shares_give_the_secret_and_one_less_gives_another(secret, threshold, data):
    holders = data.draw(st.integers(threshold, 12).map(lambda n: list(range(1, n + 1))))
    drawn = data.draw(st.lists(elements, min_size=threshold - 1, max_size=threshold - 1))
    shares = shamir.split(secret, holders, drawn[: len(holders) - 1])
    used = data.draw(st.permutations(holders))[:threshold]
    assert shamir.join({k: shares[k] for k in used}, threshold) == secret
    with pytest.raises(ValueError, match="are needed"):
        shamir.join({k: shares[k] for k in used[1:]}, threshold)


@given(secrets, elements, elements)
def test_fewer_shares_fit_every_secret(secret, coefficient, other):
    """Of threshold 2: for any other secret there is a polynomial with the same single share."""
    share = shamir.split(secret, [1, 2], [coefficient])[1]
    slope = (share - other) % shamir.PRIME
    assert (other + slope) % shamir.PRIME == share


def test_wrong_shares_and_arguments_are_refused():
    shares = shamir.split(bytes(32), [1, 2, 3], [5])
    assert shamir.join(shares, 2) == bytes(32)
    with pytest.raises(ValueError, match="one secret"):
        shamir.join({1: 2**256 + 5, 2: 2**256 + 5}, 2)
    assert shamir.join({**shares, 1: shares[1] + 1}, 2) != bytes(32)
    for wrong in ((b"short", [1, 2], [1]), (bytes(32), [1, 1], [1]), (bytes(32), [0, 1], [1])):
        with pytest.raises(ValueError, match="32 bytes"):
            shamir.split(*wrong)
    for coefficients in ([shamir.PRIME], [1, 2]):
        with pytest.raises(ValueError, match="coefficients"):
            shamir.split(bytes(32), [1, 2], coefficients)


def test_both_ends_agree_on_one_key_per_purpose():
    one, other = bytes(range(32)), bytes(range(32, 64))
    for purpose in ("mask", "seal"):
        here = agreed_key(one, public_key(other), purpose)
        assert here == agreed_key(other, public_key(one), purpose)
        assert len(here) == 32
    assert agreed_key(one, public_key(other), "mask") != agreed_key(one, public_key(other), "seal")
    third = public_key(bytes(range(64, 96)))
    assert agreed_key(one, third, "mask") != agreed_key(one, public_key(other), "mask")


def test_what_was_sealed_opens_only_unaltered_and_about_the_same():
    key = bytes(range(32))
    sealed = seal(key, b"content", "a for b")
    assert unseal(key, sealed, "a for b") == b"content"
    altered = bytes([sealed[0] ^ 1]) + sealed[1:]
    for wrong in (
        (key, altered, "a for b"),
        (key, sealed, "a for c"),
        (key[::-1], sealed, "a for b"),
    ):
        with pytest.raises(ValueError, match="not what was sent"):
            unseal(*wrong)


def test_no_key_serves_two_purposes():
    names = [
        masking("s", "a", "b"),
        masking("t", "a", "b"),
        masking("s", "a", "c"),
        sealing("s", "a", "b"),
        sealing("s", "b", "a"),
        about_shares("a", "b"),
    ]
    assert len(set(names)) == len(names)
    assert masking("s", "a", "b") == masking("s", "b", "a")
    assert commitment_to(bytes(32)) != commitment_to(bytes([1] * 32))
    assert len(commitment_to(bytes(32))) == 64


@settings(max_examples=50)
@given(
    hnp.arrays(np.float32, (5, 6), elements=st.floats(-7.5, 7.5, width=32)),
    hnp.arrays(np.int64, 5, elements=st.integers(1, 10_000)),
)
def test_the_sum_of_fixed_point_numbers_is_that_of_the_numbers(updates, rows):
    weights = rows / rows.sum()
    total = np.zeros(6, np.uint32)
    for update, weight in zip(updates, weights, strict=True):
        total += encode(update, float(weight))
    exact = (updates.astype("f8") * weights[:, None]).sum(axis=0)
    assert np.abs(decode(total) - exact).max() <= 5 * 0.5 / SCALE + 1e-12


@given(
    hnp.arrays(np.float32, 50, elements=st.floats(-7.5, 7.5, width=32)),
    st.floats(1e-3, 10),
    st.integers(2, 64),
)
def test_what_a_client_adds_is_within_the_clip_norm_also_after_rounding(update, norm, clients):
    weight = 1 / clients
    words = encode(update, weight, clip_factor_of(update, norm, weight))
    added = decode(words) * clients
    assert np.linalg.norm(added) <= norm * (1 + 1e-12)
    if np.linalg.norm(update.astype("f8")) < 0.999 * norm:
        assert np.abs(added - update).max() < clients / SCALE


def test_a_clip_norm_below_the_rounding_is_refused():
    with pytest.raises(ValueError, match="below the rounding"):
        clip_factor_of(np.ones(10_000, "f4"), 1e-7, 0.1)


@pytest.mark.parametrize("wrong", [RANGE + 0.01, -8.0, 1e9, np.nan, np.inf])
def test_what_could_wrap_around_is_refused_and_never_clipped_in_silence(wrong):
    with pytest.raises(ValueError, match="range"):
        encode(np.array([0.0, wrong], "f4"), 0.5)
    for weight in (0.0, 1.5):
        with pytest.raises(ValueError, match="range"):
            encode(np.zeros(2, "f4"), weight)


def test_a_mask_looks_random_and_repeats_with_its_seed_only():
    words = mask(bytes(32), 50_000)
    bits = np.unpackbits(words.view(np.uint8))
    assert abs(bits.mean() - 0.5) < 0.002
    assert np.array_equal(mask(bytes(32), 50_000), words)
    assert not np.array_equal(mask(bytes([1] * 32), 50_000), words)
    hidden = encode(np.full(50_000, 0.25, "f4"), 1.0) + words
    assert abs(np.unpackbits(hidden.view(np.uint8)).mean() - 0.5) < 0.002


ONE, OTHER = bytes(32), bytes([1] * 32)


@pytest.mark.parametrize("n", [1, 16_383, 16_384, 16_385, 50_000])
def test_masks_in_blocks_are_the_whole_masks_and_vanish_in_the_sum(n):
    update = np.random.default_rng(n).standard_normal(n).astype("f4")
    bare, into = encode(update, 0.5), np.zeros(n, np.uint32)
    write_masked(into, update, 0.5, 1.0, Masks(n, [ONE], [OTHER]))
    assert np.array_equal(into, bare + mask(ONE, n) - mask(OTHER, n))

    def read(start, some):
        some[:] = into[start : start + some.size]

    total = sum_without(n, [read, read], Masks(n, [OTHER, OTHER], [ONE, ONE]))
    assert np.array_equal(total, bare + bare)


def test_where_others_may_read_no_word_ever_stands_without_all_of_its_masks():
    class Watched(np.ndarray):
        def __setitem__(self, place, words):
            assert not (words == bare[place]).any()
            written.append(np.size(words))
            super().__setitem__(place, words)

    n, written = 40_000, []
    update = np.random.default_rng(3).standard_normal(n).astype("f4")
    bare, into = encode(update, 0.5), np.zeros(n, np.uint32).view(Watched)
    write_masked(into, update, 0.5, 1.0, Masks(n, [ONE], [OTHER]))
    assert sum(written) == n
    kept = into.copy()
    with pytest.raises(ValueError, match="range"):
        write_masked(into, 100 * update, 0.5, 1.0, Masks(n, [ONE], [OTHER]))
    assert np.array_equal(into, kept)


def test_a_shortened_update_is_encoded_as_if_it_had_been_shortened_first():
    update = np.random.default_rng(3).standard_normal(40_000).astype("f4")
    factor = clip_factor_of(update, 2.0, 0.125)
    whole = np.rint(update.astype("f8") * factor * (0.125 * SCALE)).astype("i4")
    assert np.array_equal(encode(update, 0.125, factor).view("i4"), whole)
    assert encode(np.full(2, 100.0, "f4"), 0.5, 0.01).size == 2
    with pytest.raises(ValueError, match="range"):
        encode(np.full(2, 100.0, "f4"), 0.5)
