"""Properties of the input adapter: it answers anything, and order and form never change a record."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flow_nexus_neural.data.adapter import adapt
from flow_nexus_neural.data.prepare import DataRequest, prepare
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.data.synthetic import GENERATORS
from flow_nexus_neural.errors import InvalidRecord, NeuralError, NoKnownFeature
from flow_nexus_neural.settings import Settings

HERE = Settings(state_dir=Path("/nonexistent"))
MARKET = prepare(
    DataRequest("crypto_market_historical_data#rows=200&features=features,price,volume,volatility"),
    HERE,
).schema
SEQUENCE = prepare(
    DataRequest("crypto_market_historical_data#rows=400&features=price,volatility&window=5"), HERE
).schema
NAMES = st.sampled_from(
    [
        "price",
        "Close",
        "volume",
        "volatility",
        "features",
        "features[3]",
        "symbol",
        "trend",
        "window",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=3), inner),
    max_leaves=12,
)
finite = st.floats(-1e9, 1e9)
records = st.fixed_dictionaries(
    {"price": st.floats(1e-3, 1e9)},
    optional={
        "volume": st.floats(1e-3, 1e9),
        "volatility": finite,
        "features": st.lists(finite, min_size=1, max_size=60),
        "symbol": st.sampled_from(["BTC", "ETH", "eth", "XRP"]),
        "trend": finite,
    },
)
few = settings(derandomize=True, max_examples=100, deadline=None)


@few
@given(JSON, st.sampled_from([MARKET, SEQUENCE]))
def test_any_json_gives_finite_input_or_one_of_two_errors(value, schema):
    for form in (value, json.dumps(value)):
        try:
            adapted = adapt(schema, form)
        except (InvalidRecord, NoKnownFeature):
            continue
        assert adapted.x.shape[1:] == schema.input.row_shape
        assert adapted.x.dtype == np.float32
        assert np.isfinite(adapted.x).all()
        assert np.abs(adapted.x).max() <= 6
        assert ((adapted.coverage > 0) & (adapted.coverage <= 1)).all()


@few
@given(st.lists(records, min_size=1, max_size=6))
def test_a_record_reads_the_same_alone_in_a_batch_and_as_text(batch):
    together = adapt(MARKET, batch)
    assert (adapt(MARKET, json.dumps(batch)).x == together.x).all()
    for index, record in enumerate(batch):
        alone = adapt(MARKET, dict(reversed(record.items())))
        assert (alone.x[0] == together.x[index]).all()
        assert alone.coverage[0] == together.coverage[index]
        assert alone.symbols[0] == together.symbols[index]


@few
@given(records)
def test_coverage_counts_the_inputs_that_were_given(record):
    given_inputs = sum(name in record for name in ("price", "volume", "volatility"))
    given_inputs += min(50, len(record.get("features", [])))
    assert adapt(MARKET, record).coverage[0] == given_inputs / 53


@few
@given(st.lists(finite, min_size=1, max_size=50))
def test_a_shorter_vector_fills_the_most_recent_steps_and_only_them(values):
    adapted = adapt(MARKET, {"features": values})
    padded = adapt(MARKET, {"features": [None] * (50 - len(values)) + values})
    assert (adapted.x == padded.x).all()
    assert (adapted.x[0, : 50 - len(values)] == 0).all()
    spec = MARKET.columns[0]
    expected = (values[-1] - spec.mean[-1]) / spec.sd[-1]
    assert math.isclose(adapted.x[0, 49], np.clip(expected, -6, 6), rel_tol=1e-4, abs_tol=1e-5)


def test_a_schema_read_back_from_json_adapts_the_same():
    copy = DataSchema.from_json(json.loads(json.dumps(MARKET.to_json())))
    record = {"price": 41_000.5, "symbol": "BTC", "features": [0.01, -0.02]}
    assert (adapt(copy, record).x == adapt(MARKET, record).x).all()


@few
@given(JSON)
def test_any_inline_value_gives_data_or_an_error_of_the_tree(value):
    for form in (value, json.dumps(value)):
        if isinstance(form, str) and form.strip()[:1] not in ("{", "["):
            continue
        if not isinstance(form, (str, dict, list)):
            continue
        with pytest.raises(NeuralError) as caught:
            prepare(DataRequest(form), HERE)
        assert len(str(caught.value)) < 1000


@few
@given(st.text(max_size=40))
def test_any_name_that_is_not_built_in_gives_an_error_of_the_tree(name):
    assume(not any(known in name for known in (*GENERATORS, "sklearn:")))
    with pytest.raises(NeuralError) as caught:
        prepare(DataRequest(name), HERE)
    assert len(str(caught.value)) < 1000
