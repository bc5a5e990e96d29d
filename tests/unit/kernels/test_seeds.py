import hashlib
from typing import get_args

import pytest

from flow_nexus_neural.kernels.seeds import Purpose, seed64, step_seed


def test_a_seed_is_the_masked_head_of_a_sha256_over_the_spelled_out_ids():
    digest = hashlib.sha256(b'fnn-rng-1[[7,2],3,"worker-1",4,"order"]').digest()
    expected = int.from_bytes(digest[:8], "little") % 2**63
    assert seed64((7, 2), 3, "worker-1", 4, "order") == expected


def test_a_seed_fits_a_signed_64_bit_integer_even_when_the_digest_has_its_top_bit_set():
    seeds = [seed64((0, 0), step, "worker-0", 0, "init") for step in range(64)]
    heads = [
        hashlib.sha256(f'fnn-rng-1[[0,0],{step},"worker-0",0,"init"]'.encode()).digest()[7]
        for step in range(64)
    ]
    assert any(head >= 128 for head in heads)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    "other",
    [
        ((8, 2), 3, "worker-1", 4, "order"),
        ((7, 3), 3, "worker-1", 4, "order"),
        ((7, 2), 4, "worker-1", 4, "order"),
        ((7, 2), 3, "worker-2", 4, "order"),
        ((7, 2), 3, "worker-1", 5, "order"),
        ((7, 2), 3, "worker-1", 4, "dropout"),
    ],
)
def test_every_one_of_the_ids_changes_the_seed(other):
    assert seed64(*other) != seed64((7, 2), 3, "worker-1", 4, "order")


def test_ids_that_read_alike_when_joined_give_different_seeds():
    assert seed64((1, 12), 3, "", 0, "order") != seed64((11, 2), 3, "", 0, "order")
    assert seed64((1, 1), 23, "", 0, "order") != seed64((1, 1), 2, "3", 0, "order")


def test_purposes_are_independent():
    seeds = {seed64((0, 0), 0, "", 0, purpose) for purpose in get_args(Purpose)}
    assert len(seeds) == len(get_args(Purpose))


def test_the_seed_of_a_step_is_the_masked_head_of_a_sha256_and_differs_from_step_to_step():
    digest = hashlib.sha256(b"fnn-step-1[13,4]").digest()
    assert step_seed(13, 4) == int.from_bytes(digest[:8], "little") % 2**63
    seeds = {step_seed(seed, step) for seed in range(20) for step in range(50)}
    assert len(seeds) == 1000
    # The generator of a node takes the low half of a seed.
    assert len({seed & 0xFFFFFFFF for seed in seeds}) == 1000
