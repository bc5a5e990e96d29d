import json

import numpy as np
import pytest

from flow_nexus_neural.data.adapter import adapt
from flow_nexus_neural.engine.reports import InputReport
from flow_nexus_neural.errors import InvalidRecord, NoKnownFeature


@pytest.fixture
def market(load):
    return load("crypto_market_historical_data").schema


@pytest.fixture
def plain(load, labelled):
    for index, record in enumerate(labelled):
        record["c"] = "xyz"[index % 3]
    return load(labelled).schema


@pytest.fixture
def windowed(load):
    records = [{"time": t, "a": t % 7, "b": t % 11, "y": t % 2} for t in range(400)]
    return load(records, window=4).schema


def ignored(adapted):
    return {item["name"]: item["reason"] for item in adapted.ignored}


def test_a_live_record_is_mapped_aligned_and_reported(market):
    adapted = adapt(
        market,
        '{"symbol":"btc","price":50210,"volume":1200,"timestamp":1790000000000,"features":[0.001,-0.002]}',
    )
    assert adapted.x.shape == (1, 53)
    assert adapted.symbols == ["BTC"]
    assert adapted.mapped == ["symbol", "features", "price", "volume"]
    assert adapted.imputed == ["features[0..47]", "volatility"]
    assert ignored(adapted) == {"timestamp": "time"}
    assert adapted.coverage == pytest.approx([4 / 53])
    assert (adapted.x[0, :48] == 0).all()
    lag = market.columns[0]
    assert adapted.x[0, 49] == pytest.approx((-0.002 - lag.mean[49]) / lag.sd[49], rel=1e-5)
    assert "48 of 50 steps of 'features' were imputed" in adapted.warnings


def test_test_data_with_a_made_up_trend_are_read_without_it(market):
    records = [
        {"price": 50_000 + 10 * i, "volume": 1e5, "volatility": 0.01, "trend": 1}
        for i in range(100)
    ]
    adapted = adapt(market, records)
    assert (adapted.is_list, adapted.mode, adapted.x.shape) == (True, "batch", (100, 53))
    assert ignored(adapted) == {"trend": "label-like"}
    assert adapted.imputed == ["features"]
    for record in records:
        record["trend"] = -1
    assert (adapt(market, records).x == adapted.x).all()


def test_calibration_data_fill_the_most_recent_steps(market):
    adapted = adapt(market, {"features": [0.001] * 10, "expectedOutcome": 1})
    assert adapted.imputed[0] == "features[0..39]"
    assert ignored(adapted) == {"expectedOutcome": "label-like"}


def test_the_report_has_the_fields_of_the_engine(market):
    adapted = adapt(market, {"price": 1e-9, "unknown": 2})
    report = InputReport(
        mode=adapted.mode,
        rows=len(adapted.x),
        mapped=adapted.mapped,
        imputed=adapted.imputed,
        ignored=adapted.ignored,
        coverage=float(adapted.coverage.mean()),
        ood=adapted.ood,
        clipped=adapted.clipped,
    )
    assert report.ood == ["price"]
    assert report.clipped == 1


def test_rows_of_the_data_themselves_are_adapted_to_what_was_trained_on(load):
    data = load("crypto_market_historical_data#rows=2000")
    from flow_nexus_neural.data.synthetic import GENERATORS

    table = GENERATORS["crypto_market_historical_data"].make(2_000, 20240101)
    names = ("price", "volume", "volatility", "features")
    records = [
        {
            "symbol": ("BTC", "ETH")[table.columns["symbol"].codes[row]],
            **{name: np.asarray(table.columns[name][row]).tolist() for name in names},
        }
        for row in (0, 1, 500, 2_000, 2_100)
    ]
    adapted = adapt(data.schema, json.dumps(records))
    train = data.parts["train"].x
    for row in adapted.x:
        assert (np.abs(train - row).max(axis=1) < 1e-5).any()
    assert (adapted.coverage == 1).all()
    assert (adapted.imputed, adapted.ignored, adapted.warnings) == ([], [], [])


def test_names_are_found_in_any_case_and_under_their_aliases(market):
    plain = adapt(market, {"price": 50_000, "volume": 1_000, "symbol": "BTC"})
    other = adapt(market, {"Close": "50000", "VOL": "1000.0", "Ticker": "btc"})
    assert (plain.x == other.x).all()
    both = adapt(market, {"close": 1, "price": 50_000, "volume": 1_000, "symbol": "BTC"})
    assert (both.x == plain.x).all()


def test_single_steps_of_a_vector_may_be_named(market):
    named = adapt(market, {"features[48]": 0.01, "features_49": 0.02})
    listed = adapt(market, {"features": [0.01, 0.02]})
    assert (named.x == listed.x).all()
    assert ignored(adapt(market, {"features[50]": 1, "price": 1})) == {"features[50]": "unknown"}


def test_a_longer_vector_keeps_its_most_recent_values(market):
    long = adapt(market, {"features": [9.0] * 10 + [0.001] * 50})
    assert (long.x == adapt(market, {"features": [0.001] * 50}).x).all()
    assert any("last 50 of 60" in warning for warning in long.warnings)


def test_an_unknown_symbol_is_scaled_by_all_symbols_together(market):
    known, unknown, none = (
        adapt(market, {"price": 20_000, **extra})
        for extra in ({"symbol": "BTC"}, {"symbol": "DOGE"}, {})
    )
    assert unknown.x[0, 50] == none.x[0, 50] != known.x[0, 50]
    assert any("'DOGE' is unknown" in warning for warning in unknown.warnings)
    assert any("no symbol" in warning for warning in none.warnings)
    mean, sd = market.columns[1].pooled
    assert none.x[0, 50] == pytest.approx((np.log(20_000) - mean) / sd, rel=1e-5)


def test_values_far_away_are_clipped_counted_and_named(market):
    adapted = adapt(market, {"volatility": 1e300, "features": [1e6, -1e6], "symbol": "ETH"})
    assert (adapted.clipped, adapted.ood) == (3, ["features", "volatility"])
    assert np.abs(adapted.x).max() == 6
    assert adapted.coverage[0] > 0
    assert adapted.familiar[0] == 0


def test_a_price_that_cannot_be_counts_as_missing_and_is_named(market):
    adapted = adapt(market, {"price": 0, "volume": 5})
    assert adapted.ood[0] == "price"
    assert "price" in adapted.imputed
    assert any("must be above 0" in warning for warning in adapted.warnings)


def test_a_category_that_was_never_seen_is_named(plain):
    seen, unseen = adapt(plain, {"c": "y"}), adapt(plain, {"c": "q"})
    assert seen.ood == []
    assert unseen.ood == ["c"]
    assert any("no category 'q' (known: x, y, z)" in warning for warning in unseen.warnings)
    assert (seen.x != unseen.x).any()


def test_positional_records_are_read_in_stored_order(plain):
    row = [0.5, -0.25, 0, 1, 0]
    named = adapt(plain, {"a": 0.5, "b": -0.25, "c": "y"})
    for form in (row, {"features": row}):
        adapted = adapt(plain, form)
        assert not adapted.is_list
        assert (adapted.x == named.x).all()
    batch = adapt(plain, [row, row])
    assert (batch.is_list, batch.x.shape) == (True, (2, 5))
    assert adapt(plain, [row]).is_list


def test_a_known_name_beside_an_unknown_list_is_no_positional_record(plain):
    adapted = adapt(plain, {"a": 1, "features": [1, 2, 3]})
    assert ignored(adapted) == {"features": "unknown"}


def test_null_is_missing_and_becomes_the_mean(plain):
    adapted = adapt(plain, {"a": None, "b": 1, "c": ""})
    assert adapted.x[0, 0] == 0
    assert adapted.imputed[0] == "a"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ('{"a": NaN}', "NaN is not JSON"),
        ({"a": float("nan")}, "'a' is nan"),
        ({"a": float("inf")}, "'a' is inf"),
        ({"a": "-Infinity"}, "not a finite number"),
        ({"a": "nan"}, "not a finite number"),
        ({"a": "many"}, "'many'"),
        ({"a": 10**400}, "not a finite number"),
        ({"a": [1]}, "not a finite number"),
        ({"a": {"b": 1}}, "not a finite number"),
        ({"c": ["x"], "a": 1}, "'c' is a list"),
        ([], "empty list"),
        ("7", "is a number, not a record"),
        ("null", "is null, not a record"),
        ([1, 2], "2 numbers, the model reads 5"),
        ([[1, 2, 3, 4, 5], [1, 2]], "2 numbers"),
        ([{"a": 1}, 7], "record 1 is a number"),
        ([1, 2, float("nan"), 4, 5], "not a finite number"),
        ({"window": [{"a": 1}]}, "trained on single rows"),
        ([{"a": 1}] * 1001, "1001 records"),
        ("[" * 100_000, "not valid JSON"),
        (" " * 2_000_001, "characters"),
    ],
)
def test_input_that_cannot_be_read_is_refused_with_its_defect(plain, value, words):
    with pytest.raises(InvalidRecord, match=words) as caught:
        adapt(plain, value)
    assert "a, b, c[3]; for example {" in caught.value.hint
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", ["market", "plain", "windowed"])
def test_the_record_that_a_refusal_shows_can_be_predicted_for(request, name):
    schema = request.getfixturevalue(name)
    with pytest.raises(NoKnownFeature) as caught:
        adapt(schema, {"nothing": 1})
    adapted = adapt(schema, caught.value.hint.partition("for example ")[2])
    assert (adapted.ignored, adapted.ood, adapted.clipped) == ([], [], 0)
    assert np.isfinite(adapted.x).all()


@pytest.mark.parametrize(
    "value", [{"q": 1}, {}, {"a": None}, [{"a": 1}, {"label": 1}], {"label": 1}]
)
def test_a_record_without_any_known_input_is_refused_with_the_inputs(plain, value):
    with pytest.raises(NoKnownFeature) as caught:
        adapt(plain, value)
    assert "a, b, c[3]" in caught.value.hint


def test_a_window_is_one_record_and_short_ones_are_padded_on_the_left(windowed):
    rows = [{"a": 1, "b": 2}, {"a": 3, "b": 4}, {"a": 5, "b": 6}, {"a": 2, "b": 1}]
    whole = adapt(windowed, {"window": rows})
    assert (whole.mode, whole.is_list, whole.x.shape) == ("window", False, (1, 4, 2))
    short = adapt(windowed, {"window": rows[2:]})
    assert (short.x[0, :2] == 0).all()
    assert (short.x[0, 2:] == whole.x[0, 2:]).all()
    assert short.coverage == pytest.approx([0.5])
    assert any(warning.endswith("padded with the mean") for warning in short.warnings)
    apart = adapt(windowed, rows)
    assert (apart.mode, apart.x.shape) == ("batch", (4, 4, 2))
    assert any('is {"window": [...]}' in warning for warning in apart.warnings)
    numbers = [[row["a"], row["b"]] for row in rows]
    for form in (
        numbers,
        {"window": numbers},
        [*numbers[0], *numbers[1], *numbers[2], *numbers[3]],
    ):
        assert (adapt(windowed, form).x == whole.x).all()
    batch = adapt(windowed, [{"window": rows}, {"window": rows[1:]}])
    assert (batch.is_list, batch.x.shape) == (True, (2, 4, 2))


def test_a_longer_window_keeps_its_last_rows(windowed):
    rows = [[9, 9]] * 3 + [[1, 2], [3, 4], [5, 6], [2, 1]]
    adapted = adapt(windowed, {"window": rows})
    assert (adapted.x == adapt(windowed, {"window": rows[3:]}).x).all()
    assert any("last 4 rows" in warning for warning in adapted.warnings)


def test_hostile_names_do_not_flood_the_report(plain):
    record = {"a": 1, **{f"{i}" * 300: i for i in range(1_000)}}
    adapted = adapt(plain, record)
    assert len(adapted.ignored) <= 64
    assert max(len(item["name"]) for item in adapted.ignored) <= 80


def test_halves_of_characters_never_reach_the_report(plain):
    adapted = adapt(plain, '{"a": 1, "\\ud800b": 2, "c": "\\udfff"}')
    for text in (*adapted.warnings, *(item["name"] for item in adapted.ignored)):
        text.encode()


def test_truth_is_read_from_words_as_it_was_in_training(load, labelled):
    for index, record in enumerate(labelled):
        record["open"] = "true" if index % 2 else "false"
    schema = load(labelled).schema
    assert schema.input.flat_width == 3
    for said, meant in (("true", True), ("False", 0)):
        assert (adapt(schema, {"open": said}).x == adapt(schema, {"open": meant}).x).all()


def test_lists_that_are_used_step_by_step_are_given_as_lists(load, labelled):
    for index, record in enumerate(labelled):
        record["u"] = [index % 3, index % 5]
        record["w"] = [index % 4, index % 7, index % 2]
    schema = load(labelled).schema
    listed = adapt(schema, {"u": [1, 2], "w": [3, 4, None]})
    named = adapt(schema, {"u[0]": 1, "u[1]": 2, "w[0]": 3, "w[1]": 4})
    assert (listed.x == named.x).all()
    assert listed.coverage == pytest.approx([4 / 7])
    with pytest.raises(InvalidRecord, match="'w' has 2 values, the model reads 3"):
        adapt(schema, {"u": [1, 2], "w": [1, 2]})
