"""What is trained on and what is predicted for are read the same way, whatever the columns are."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_nexus_neural.data.adapter import adapt
from flow_nexus_neural.data.prepare import DataRequest, prepare
from flow_nexus_neural.settings import Settings

HERE = Settings(state_dir=Path("/nonexistent"))
number = st.floats(-1e6, 1e6) | st.integers(-1_000, 1_000) | st.none()
columns = {
    "number": number,
    "text": st.sampled_from(["red", "green", "blue"]) | st.none(),
    "vector": st.lists(st.floats(-100, 100), min_size=3, max_size=3),
    "switch": st.booleans(),
}


@st.composite
def tables(draw):
    kinds = draw(st.lists(st.sampled_from(sorted(columns)), min_size=1, max_size=4))
    seed = draw(st.integers(0, 1 << 16))
    rows = draw(
        st.lists(st.tuples(*(columns[kind] for kind in kinds)), min_size=3, max_size=6).filter(
            lambda rows: len(set(map(repr, rows))) > 2
        )
    )
    noise = np.random.Generator(np.random.PCG64(seed))
    records = []
    for index in range(60):
        values = rows[int(noise.integers(len(rows)))]
        record = {f"c{place}": value for place, value in enumerate(values)}
        records.append({**record, "noise": float(noise.standard_normal()), "y": index % 2})
    return records


@settings(derandomize=True, max_examples=60, deadline=None)
@given(tables())
def test_every_row_of_the_data_reads_back_as_it_was_prepared(records):
    data = prepare(DataRequest(records), HERE)
    adapted = adapt(data.schema, records)
    prepared = np.concatenate([rows.x for rows in data.parts.values()])
    order = np.lexsort(prepared.T[::-1])
    again = np.lexsort(adapted.x.T[::-1])
    assert np.allclose(prepared[order], adapted.x[again], atol=1e-6)
    assert np.isfinite(prepared).all()
    assert np.abs(prepared).max() <= 6
    assert prepared.shape == (60, data.schema.input.flat_width)
    sizes = dict(data.description.split)
    assert sum(sizes.values()) == 60


@settings(derandomize=True, max_examples=30, deadline=None)
@given(tables(), st.integers(0, 1 << 62))
def test_the_same_request_gives_the_same_bytes(records, seed):
    first, again = (prepare(DataRequest(records, seed=seed), HERE) for _ in range(2))
    assert first.schema.digest == again.schema.digest
    assert first.description == again.description
    for part in first.parts:
        assert first.parts[part].x.tobytes() == again.parts[part].x.tobytes()
        assert first.parts[part].y.tobytes() == again.parts[part].y.tobytes()
