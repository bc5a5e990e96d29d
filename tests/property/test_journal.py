import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from flow_nexus_neural.coordination.ledger import head, make_entry
from flow_nexus_neural.engine.storage.journal import Journal, append, drop_blobs, name_blobs, upsert
from flow_nexus_neural.engine.storage.rows import ClusterRow, SlotRow

CLUSTERS = st.sampled_from(["c1", "c2"])
JSON = st.dictionaries(
    st.text(max_size=5),
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    max_size=3,
)
OPERATIONS = st.one_of(
    st.tuples(st.just("slot"), CLUSTERS, st.integers(0, 2), st.integers(1, 9), JSON),
    st.tuples(st.just("entry"), CLUSTERS, JSON),
    st.tuples(st.just("blob"), st.integers(0, 3)),
    st.tuples(st.just("drop"), st.integers(0, 3)),
    st.tuples(st.just("reopen")),
)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.lists(OPERATIONS, max_size=12))
def test_a_journal_holds_what_a_dictionary_would(operations):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "state.db"
        journal = Journal(path)
        for cluster_id in ("c1", "c2"):
            journal.write(upsert(ClusterRow(cluster_id, "n", "now", None, {}, {})))
        slots, chains, blobs = {}, {"c1": [], "c2": []}, set()
        for kind, *fields in operations:
            if kind == "slot":
                cluster_id, number, incarnation, spec = fields
                row = SlotRow(
                    cluster_id, f"worker-{number}", "n", incarnation, None, "healthy", spec
                )
                journal.write(upsert(row))
                slots[cluster_id, row.slot] = row
            elif kind == "entry":
                cluster_id, detail = fields
                at = head(chains[cluster_id])
                body = {
                    "seq": at.next_seq,
                    "kind": "control",
                    "cluster_id": cluster_id,
                    "detail": detail,
                }
                chains[cluster_id].append(make_entry(at.prev_sha, body))
                journal.write(append(cluster_id, chains[cluster_id][-1]))
            elif kind == "blob":
                blobs.add(f"{fields[0]}" * 64)
                journal.write(name_blobs([(f"{fields[0]}" * 64, 1, "state")]))
            elif kind == "drop":
                blobs.discard(f"{fields[0]}" * 64)
                journal.write(drop_blobs([f"{fields[0]}" * 64]))
            else:
                journal.close()
                journal = Journal(path)
        stored = journal.load()
        journal.close()
    assert {(row.cluster_id, row.slot): row for row in stored.slots} == slots
    assert {name: list(chain) for name, chain in stored.ledgers.items()} == {
        name: chain for name, chain in chains.items() if chain
    }
    assert {blob.sha for blob in stored.blobs} == blobs
    assert stored.refused == {}
