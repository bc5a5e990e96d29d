"""The chain of decisions: whatever is changed in it is found and named."""

import json

import numpy as np

from flow_nexus_neural.coordination.autonomy.audit import sealed, verify_audit
from flow_nexus_neural.coordination.ledger import GENESIS


def chain(n=6, first=0):
    made, prev = [], GENESIS
    for number in range(first, first + n):
        made.append(sealed(prev, {"seq": number, "rule": "restart_node", "evidence": {"s": 1.5}}))
        prev = made[-1]["sha"]
    return made


def test_a_chain_verifies_and_so_does_its_newer_part():
    made = chain()
    assert verify_audit(made).ok
    assert verify_audit(made[2:]).ok
    assert verify_audit([]).ok


def test_any_byte_that_is_flipped_is_named():
    made = chain()
    draw = np.random.Generator(np.random.PCG64(1))
    for _ in range(200):
        number = int(draw.integers(len(made)))
        text = bytearray(json.dumps(made[number]).encode())
        place = int(draw.integers(len(text)))
        text[place] ^= 1 << int(draw.integers(7))
        try:
            changed = json.loads(text)
        except ValueError:
            continue  # no JSON any more, which whoever reads it finds
        if not isinstance(changed, dict) or changed == made[number]:
            continue
        altered = [*made[:number], changed, *made[number + 1 :]]
        found = verify_audit(altered)
        assert not found.ok, changed
        assert found.first_bad.seq in (number, changed.get("seq"))


def test_an_entry_that_is_missing_or_moved_is_found():
    made = chain()
    assert verify_audit([*made[:2], *made[3:]]).first_bad.seq == 2
    assert verify_audit([made[1], made[0], *made[2:]]).first_bad.seq == 2


def test_a_first_entry_follows_nothing():
    forged = sealed("ab" * 32, {"seq": 0})
    bad = verify_audit([forged]).first_bad
    assert (bad.seq, bad.field, bad.expected) == (0, "prev_sha", GENESIS)
