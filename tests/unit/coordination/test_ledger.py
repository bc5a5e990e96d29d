import hashlib
import json
import math

import pytest

from flow_nexus_neural.coordination.ledger import (
    GENESIS,
    check_commit,
    head,
    make_entry,
    verify_chain,
)
from flow_nexus_neural.errors import UpdateRejected


def chain(n, network="a"):
    entries, prev = [], GENESIS
    for seq in range(n):
        fields = {
            "seq": seq,
            "kind": "version",
            "cohort": network,
            "parent": seq,
            "version": seq + 1,
        }
        entries.append(make_entry(prev, {**fields, "metrics": {"loss": 0.5 / (seq + 1)}}))
        prev = entries[-1]["entry_sha"]
    return entries


def test_the_seal_is_a_sha256_over_tag_link_and_canonical_json():
    entry = make_entry("ab" * 32, {"seq": 1, "kind": "topology", "b": 0.1, "a": "é"})
    body = f'{{"a":"é","b":0.1,"kind":"topology","prev_sha":"{"ab" * 32}","seq":1}}'.encode()
    expected = hashlib.sha256(b"fnn-ledger-1\0" + b"\xab" * 32 + body).hexdigest()
    assert entry["entry_sha"] == expected


def test_an_entry_equals_what_is_read_back():
    entry = make_entry(GENESIS, {"seq": 0, "kind": "control", "loss": math.nan, "x": (1, 2)})
    assert json.loads(json.dumps(entry)) == entry
    assert entry["loss"] is None


@pytest.mark.parametrize("name", ["prev_sha", "entry_sha"])
def test_a_seal_is_never_given(name):
    with pytest.raises(ValueError, match="computed"):
        make_entry(GENESIS, {"seq": 0, "kind": "control", name: GENESIS})


@pytest.mark.parametrize("prev_sha", ["", "xyz", "ab" * 31])
def test_a_link_that_is_no_sha256_is_refused(prev_sha):
    with pytest.raises(ValueError, match=r"sha256|hex"):
        make_entry(prev_sha, {"seq": 0, "kind": "control"})


def test_an_honest_chain_verifies():
    verdict = verify_chain(chain(20))
    assert verdict.ok
    assert verdict.entries == 20
    assert verdict.first_bad is None
    assert verify_chain([]).ok


def test_every_changed_byte_of_every_entry_is_named():
    entries = chain(4)
    found = 0
    for seq, entry in enumerate(entries):
        text = json.dumps(entry)
        for position in range(0, len(text), 3):
            flipped = text[:position] + chr(ord(text[position]) ^ 1) + text[position + 1 :]
            try:
                damaged = json.loads(flipped)
            except ValueError:
                continue  # the journal refuses what is not JSON
            verdict = verify_chain([*entries[:seq], damaged, *entries[seq + 1 :]])
            assert not verdict.ok
            assert verdict.first_bad.seq == seq
            assert verdict.entries == seq
            found += 1
    assert found > 200


def test_a_changed_number_is_reported_as_a_changed_seal():
    entries = chain(3)
    entries[1] = {**entries[1], "metrics": {"loss": 0.0}}
    bad = verify_chain(entries).first_bad
    assert (bad.seq, bad.field, bad.found) == (1, "entry_sha", entries[1]["entry_sha"])


def test_entries_that_are_swapped_dropped_or_repeated_are_found():
    entries = chain(4)
    assert verify_chain([entries[1], entries[0], *entries[2:]]).first_bad.seq == 0
    assert verify_chain([*entries[:1], *entries[2:]]).first_bad.seq == 1
    assert verify_chain([*entries[:2], *entries[1:]]).first_bad.seq == 2


def test_a_forged_entry_with_a_fresh_seal_breaks_the_next_link():
    entries = chain(4)
    fields = {k: v for k, v in entries[1].items() if k not in {"prev_sha", "entry_sha"}}
    entries[1] = make_entry(entries[0]["entry_sha"], {**fields, "metrics": {"loss": 0.0}})
    bad = verify_chain(entries).first_bad
    assert (bad.seq, bad.field) == (2, "prev_sha")


@pytest.mark.parametrize("seq", [True, 1.0, "0", None])
def test_numbering_is_by_integers(seq):
    bad = verify_chain([make_entry(GENESIS, {"seq": seq, "kind": "control"})]).first_bad
    assert bad.field == "seq"


def test_a_version_that_skips_or_repeats_is_found_although_it_is_sealed():
    first = chain(1)[0]
    fields = {"seq": 1, "kind": "version", "cohort": "a"}
    skipped = make_entry(first["entry_sha"], {**fields, "parent": 1, "version": 3})
    assert verify_chain([first, skipped]).first_bad.field == "version"
    stale = make_entry(first["entry_sha"], {**fields, "parent": 0, "version": 1})
    assert verify_chain([first, stale]).first_bad.field == "parent"


def test_networks_count_their_versions_apart():
    first = chain(1)[0]
    other = {"seq": 1, "kind": "version", "cohort": "b", "parent": 0, "version": 1}
    entries = [first, make_entry(first["entry_sha"], other)]
    assert verify_chain(entries).ok
    assert head(entries).versions == {"a": 1, "b": 1}


def test_the_head_says_what_the_next_entry_continues():
    entries = chain(3)
    at = head(entries)
    assert (at.prev_sha, at.next_seq, at.version("a")) == (entries[-1]["entry_sha"], 3, 3)
    assert head([]).prev_sha == GENESIS
    assert head([]).version("a") == 0


def test_a_commit_on_a_stale_parent_is_refused():
    at = head(chain(3))
    assert check_commit(at, "a", 3) == 4
    assert check_commit(at, "new", 0) == 1
    for parent in (2, 4):
        with pytest.raises(UpdateRejected) as refusal:
            check_commit(at, "a", parent)
        assert refusal.value.details == {"cohort": "a", "parent": parent, "current": 3}
