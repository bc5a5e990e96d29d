import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from flow_nexus_neural.data.adapter import adapt
from flow_nexus_neural.data.prepare import DataRequest, prepare
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.data.synthetic import GENERATORS
from flow_nexus_neural.engine.reports import DatasetInfo
from flow_nexus_neural.errors import (
    DataTooSmall,
    InvalidArguments,
    InvalidDataset,
    LimitExceeded,
)
from flow_nexus_neural.settings import Settings


def excluded(data):
    return {item["name"]: item["reason"] for item in data.description.excluded_columns}


def market_rows(count, symbols=("BTC", "ETH")):
    """Price rows without lags: a random walk per symbol, hourly."""
    rng = np.random.Generator(np.random.PCG64(11))
    rows = []
    for symbol in symbols:
        price = 100 * np.exp(np.cumsum(0.01 * rng.standard_normal(count)))
        rows += [
            (
                symbol,
                f"2024-01-01T{0:02d}:00:00+00:00" if t == 0 else stamp(t),
                price[t],
                10.0 + t % 7,
            )
            for t in range(count)
        ]
    return rows


def stamp(hour):
    return str(np.datetime64("2024-01-01T00:00") + np.timedelta64(hour, "h")) + ":00Z"


def test_the_description_is_what_the_engine_reports(load):
    data = load("crypto_market_historical_data#rows=2000")
    info = DatasetInfo.model_validate(dataclasses.asdict(data.description))
    assert list(info.split.model_dump().values()) == [3158, 318, 0, 0, 198, 320, 6]
    assert (info.rows, info.target, info.symbols) == (4000, "next return > 0", ["BTC", "ETH"])
    assert info.columns == ["price", "volume", "volatility", "features[50]"]
    assert excluded(data) == {"timestamp": "time", "symbol": "routing"}
    assert data.schema.input.sequence_shape == (50, 4)


def test_digits_inline_are_standardised_like_scikit_learn_does(load):
    digits = load_digits()
    data = load({"X": digits.data.tolist(), "y": digits.target.tolist()})
    train, test = data.parts["train"], data.parts["test"]
    assert data.description.classes == list(range(10))
    assert (train.x.dtype, train.y.dtype, len(train), len(test)) == (
        np.float32,
        np.int64,
        1294,
        359,
    )
    places = {tuple(np.round(row, 4)): index for index, row in enumerate(scaled(data, digits.data))}
    raw = digits.data[[places[tuple(np.round(row, 4))] for row in train.x]]
    expected = np.clip(StandardScaler().fit_transform(raw), -6, 6)
    assert train.x == pytest.approx(expected, abs=1e-4)
    assert any("do not vary" in warning and "f0" in warning for warning in data.warnings)
    assert data.schema.input.flat_width == 64


def scaled(data, raw):
    return np.concatenate(
        [
            adapt(data.schema, raw[start : start + 1000].tolist()).x
            for start in range(0, len(raw), 1000)
        ]
    )


def test_the_statistics_come_from_training_rows_only(load):
    records = [{"t": t, "a": float(t % 5), "y": t % 2} for t in range(100)]
    plain = load(records, time_column="t")
    for record in records[80:]:
        record["a"] = 1e6
    assert load(records, time_column="t").schema.columns == plain.schema.columns
    records[0]["a"] = 1e6
    assert load(records, time_column="t").schema.columns != plain.schema.columns


def test_the_split_follows_the_seed(load, labelled):
    first, again, other = (load(labelled, seed=seed) for seed in (1, 1, 2))
    assert (first.parts["test"].x == again.parts["test"].x).all()
    assert (first.parts["test"].x != other.parts["test"].x).any()
    assert (load(labelled * 2, seed=1).schema.digest) != first.schema.digest


def test_a_schema_survives_json(load):
    for name in ("crypto_market_historical_data", "synthetic:sine", "sklearn:iris"):
        schema = load(name).schema
        copy = DataSchema.from_json(json.loads(json.dumps(schema.to_json())))
        assert copy == schema
        assert copy.digest == schema.digest


def test_tasks_are_told_from_the_labels(load, labelled):
    def task(labels):
        records = [{"a": r["a"], "b": r["b"], "label": labels(i)} for i, r in enumerate(labelled)]
        data = load(records)
        return data.description.task, data.description.classes

    assert task(lambda i: [-1, 1][i % 2]) == ("binary", [-1, 1])
    assert task(lambda i: ["up", "down"][i % 2]) == ("binary", ["down", "up"])
    assert task(lambda i: ["Yes", "zero"][i % 2]) == ("binary", ["zero", "Yes"])
    assert task(lambda i: i % 2 == 0) == ("binary", [0, 1])
    assert task(lambda i: ["x", "z", "y"][i % 3]) == ("multiclass", ["x", "y", "z"])
    assert task(lambda i: i % 4) == ("multiclass", [0, 1, 2, 3])
    assert task(lambda i: i % 21) == ("regression", None)
    assert task(lambda i: (i % 4) / 3) == ("regression", None)


def test_a_regression_target_is_standardised_by_the_training_rows(load, labelled):
    data = load([{"a": r["a"], "y": 100 + 7 * r["b"]} for r in labelled])
    y = data.parts["train"].y
    assert (y.dtype, data.schema.n_outputs) == (np.float32, 1)
    assert (y.mean(), y.std()) == (pytest.approx(0, abs=1e-5), pytest.approx(1, abs=1e-5))
    values = y * data.schema.target_sd + data.schema.target_mean
    assert values.min() == pytest.approx(100, abs=30)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (lambda i: 1, "value 1 in every row"),
        (lambda i: None if i == 3 else i % 2, "missing or not finite in 1 of 60"),
        (lambda i: None if i == 3 else "ab"[i % 2], "missing in 1 of 60"),
        (lambda i: f"id{i}", "60 distinct values"),
        (lambda i: [1, 2, 3], "holds lists"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(load, labelled, label, words):
    records = [{"a": r["a"], "label": label(i)} for i, r in enumerate(labelled)]
    with pytest.raises(InvalidDataset, match=words):
        load(records)


def test_a_class_that_only_comes_after_the_training_time_is_refused(load):
    records = [{"t": t, "a": t % 7, "y": 0 if t < 90 else 1} for t in range(100)]
    with pytest.raises(InvalidDataset, match="1 of target 'y' does not occur in the training rows"):
        load(records, time_column="t")


def test_categories_become_one_input_per_training_level_and_missing_values_the_mean(load):
    records = [
        {"c": ["x", "y", "z"][i % 3] if i % 10 else None, "a": i if i % 7 else None, "y": i % 2}
        for i in range(90)
    ]
    data = load(records)
    assert data.description.columns == ["c", "a"]
    assert data.schema.input.flat_width == 4
    x = np.concatenate([data.parts["train"].x, data.parts["test"].x])
    lone = (x[:, :3] == 0).all(axis=1)
    assert lone.sum() == sum(1 for r in records if r["c"] is None)
    assert (x[:, 3] == 0).sum() >= sum(1 for r in records if r["a"] is None)
    assert np.isfinite(x).all()
    assert "22 values are missing and count as unknown: c 9, a 13" in data.warnings


def test_columns_that_are_no_features_are_listed_with_the_reason(load, labelled):
    for index, record in enumerate(labelled):
        record.update(
            {
                "id": f"row {index}",
                "trend": 1,
                "future_price": index,
                "nothing": None,
                "Unnamed: 0": index,
            }
        )
    data = load(labelled)
    assert excluded(data) == {
        "id": "text with 60 distinct values",
        "trend": "label-like",
        "future_price": "label-like",
        "nothing": "empty",
        "Unnamed: 0": "row number or id",
    }
    assert any("named like an outcome: 'trend', 'future_price';" in text for text in data.warnings)


def test_a_copy_of_the_target_is_left_out_unless_it_is_asked_for(load, labelled):
    for record in labelled:
        record["twin"] = 5.0 - 3 * record["label"]
    data = load(labelled)
    assert excluded(data) == {"twin": "suspected leak"}
    assert data.schema.input.flat_width == 2
    assert any("'twin' is left out" in warning for warning in data.warnings)
    kept = load(labelled, features=("a", "twin"))
    assert kept.description.columns == ["a", "twin"]
    assert any("may be a leak" in warning for warning in kept.warnings)
    with pytest.raises(InvalidDataset, match="every feature is almost the label"):
        load([{"twin": r["twin"], "label": r["label"]} for r in labelled])


def test_a_category_that_gives_one_class_away_is_left_out(load, labelled):
    for index, record in enumerate(labelled):
        record["label"] = index % 3
        record["code"] = "end" if index % 3 == 2 else "ab"[index % 2]
    assert excluded(load(labelled)) == {"code": "suspected leak"}


def test_test_rows_that_repeat_training_rows_are_reported(load, labelled):
    assert not any("same inputs" in warning for warning in load(labelled).warnings)
    assert any("same inputs" in warning for warning in load(labelled * 2).warnings)


def test_infinite_features_count_as_missing(load, root, labelled):
    lines = ["a,b,label"] + [f"{r['a']},{r['b']},{r['label']}" for r in labelled]
    lines[5] = "inf,-inf,1"
    (root / "a.csv").write_text("\n".join(lines) + "\n")
    data = load("a.csv")
    x = np.concatenate([data.parts["train"].x, data.parts["test"].x])
    assert np.isfinite(x).all()
    assert (x == 0).sum() == 2
    assert "2 values are infinite and count as unknown: a 1, b 1" in data.warnings


def test_the_users_market_file_gets_lags_and_loses_the_label_synthetic(load, write_csv):
    rows = market_rows(1_100)
    write_csv("crypto_market_historical_data.csv", ["symbol", "date", "close", "volume"], rows)
    data = load("crypto_market_historical_data")
    assert not data.description.synthetic
    assert data.description.columns == ["price", "volume", "volatility", "features[50]"]
    assert data.description.rows == 2 * (1_100 - 50 - 1)
    assert data.description.target == "next return > 0"
    assert any("100 rows without that history" in warning for warning in data.warnings)
    raw = np.log([row[2] for row in rows[:1_100]])
    first = data.parts["train"]
    lag = data.schema.columns[0]
    own = first.x[first.symbols == 0][0, :50] * np.array(lag.sd) + np.array(lag.mean)
    assert own == pytest.approx(np.diff(raw)[:50], abs=1e-5)


def test_prices_are_scaled_by_symbol_so_that_symbols_are_comparable(load):
    data = load("crypto_market_historical_data")
    train = data.parts["train"]
    price = train.x[:, 50]
    for symbol in (0, 1):
        assert abs(np.median(price[train.symbols == symbol])) < 1.5
    spec = data.schema.columns[1]
    assert spec.medians["BTC"] > 5 * spec.medians["ETH"]


def test_windows_stay_inside_a_part_and_a_symbol(load):
    records = [
        {"time": t, "symbol": name, "a": float(t + 10_000 * index), "y": (t // 2) % 2}
        for t in range(1_200)
        for index, name in enumerate("PQ")
    ]
    data = load(records, window=8)
    spec = data.schema.columns[0]
    assert data.schema.input.sequence_shape == (8, 1)
    seen = []
    for windows in data.parts.values():
        raw = np.round(windows.x[:, :, 0].astype(float) * spec.sd[0] + spec.mean[0])
        assert (np.diff(raw, axis=1) == 1).all()
        assert (raw[:, -1] // 10_000 == windows.symbols).all()
        assert ((raw[:, -1] % 10_000 // 2) % 2 == windows.y).all()
        seen.append(set(raw.ravel()))
    assert (
        sum(len(own) for own in seen)
        == len(set().union(*seen))
        == 2_400 - data.description.split["purged"]
    )
    assert data.description.split["purged"] == 3 * 2 * 7


def test_a_window_without_a_time_column_takes_the_order_of_rows_and_says_so(load):
    records = [{"a": float(i), "y": (i // 3) % 2} for i in range(200)]
    data = load(records, window=5)
    assert data.schema.time_ordered
    assert any("order of the rows" in warning for warning in data.warnings)
    steps = np.diff(data.parts["train"].x[:, :, 0], axis=1)
    assert (steps > 0).all()
    assert steps == pytest.approx(steps[0, 0], abs=1e-4)
    assert data.parts["train"].x.max() < data.parts["test"].x.min()


def test_windows_longer_than_a_select_part_leave_it_out_and_the_reply_says_so(load):
    records = [{"a": float(i), "y": (i // 3) % 2} for i in range(400)]
    short, long = load(records, window=8), load(records, window=17)
    assert len(short.parts["select"]) == 32 - 7 - 7
    # 32 rows of select, less 16 before the cut, hold no window of 17.
    assert len(long.parts["select"]) == 0
    assert len(long.parts["train"]) == 320 - 16 - 16
    assert not any("no validation loss" in text for text in short.warnings)
    assert any("no validation loss" in text for text in long.warnings)


def test_a_horizon_takes_the_label_from_later_rows_of_the_same_symbol(load):
    records = [
        {"time": t, "symbol": s, "v": float(t + 1000 * i), "w": float(t % 3)}
        for t in range(100)
        for i, s in enumerate("AB")
    ]
    data = load(records, target="v", horizon=3)
    assert data.description.columns == ["v", "w"]
    assert data.description.rows == 2 * 97
    train = data.parts["train"]
    spec = data.schema.columns[0]
    now = train.x[:, 0] * spec.sd[0] + spec.mean[0]
    later = train.y * data.schema.target_sd + data.schema.target_mean
    assert later == pytest.approx(now + 3, abs=0.02)


def test_sequences_are_scaled_by_channel(load):
    rng = np.random.Generator(np.random.PCG64(1))
    x = rng.standard_normal((100, 6, 2)) * [1, 50] + [0, 1000]
    y = (x[:, -1, 0] > 0).astype(int)
    data = load({"X": x.tolist(), "y": y.tolist()})
    train = data.parts["train"].x
    assert train.shape == (80, 6, 2)
    assert train.reshape(-1, 2).mean(axis=0) == pytest.approx([0, 0], abs=1e-4)
    assert train.reshape(-1, 2).std(axis=0) == pytest.approx([1, 1], abs=1e-3)
    assert (data.schema.input.window, data.schema.input.n_scalars) == (6, 2)


def test_clients_are_kept_and_each_is_in_train_and_test(load):
    rng = np.random.Generator(np.random.PCG64(1))
    clients = {}
    for name in ("bob", "ann", "cid"):
        x = rng.standard_normal((50, 3))
        clients[name] = {"X": x.tolist(), "y": (x[:, 0] > 0).astype(int).tolist()}
    data = load({"clients": clients})
    assert data.clients == ("ann", "bob", "cid")
    for part in ("train", "test"):
        assert set(data.parts[part].clients.tolist()) == {0, 1, 2}


def test_options_behind_the_name_are_arguments(load, write_csv):
    write_csv("a.csv", ["p", "q", "z"], [(i % 5, i % 3, i % 2) for i in range(60)])
    data = load("a.csv#target=q&features=p")
    assert (data.description.target, data.description.columns) == ("q", ["p"])
    with pytest.raises(InvalidArguments, match="target is 'z' as an argument and 'q'"):
        load("a.csv#target=q", target="z")
    for suffix in (
        "colour=1",
        "window=1",
        "folds=3",
        "split=odd",
        "rows=100",
        "target=",
        "horizon=x",
    ):
        with pytest.raises(InvalidArguments):
            load("a.csv#" + suffix)


def test_a_misspelt_column_gets_a_suggestion(load, labelled):
    for option in ({"target": "labell"}, {"features": ("a", "bb")}, {"time_column": "timme"}):
        with pytest.raises(InvalidArguments) as caught:
            load(labelled, **option)
        assert "columns: a, b, label" in caught.value.hint
    with pytest.raises(InvalidArguments) as caught:
        load(labelled, target="labell")
    assert "did you mean 'label'" in caught.value.hint


def test_a_target_too_large_to_scale_is_refused_as_that(load):
    records = [{"a": i % 7, "y": 1e300 * i} for i in range(60)]
    with pytest.raises(InvalidDataset, match=r"'y' has values as large as 5\.9e\+301"):
        load(records)


def test_dates_that_cannot_be_read_are_refused(load):
    records = [{"date": f"{1 + i % 12}/{1 + i % 11}/2024", "a": i, "y": i % 2} for i in range(60)]
    with pytest.raises(
        InvalidDataset, match="neither a number nor a date that can be read in one way"
    ):
        load(records)


def test_too_few_rows_and_too_short_parts_are_refused(load, labelled):
    with pytest.raises(DataTooSmall):
        load(labelled[:29])
    with pytest.raises(DataTooSmall, match="no run of 20 rows"):
        load(labelled, window=20)


def test_windows_that_would_not_fit_memory_are_refused(load):
    with pytest.raises(LimitExceeded, match="windows"):
        load("crypto_market_historical_data#rows=5000", window=256)


def test_very_wide_data_are_prepared_and_wider_ones_refused(load):
    x = np.random.Generator(np.random.PCG64(1)).standard_normal((40, 4_096)).round(2)
    y = (x[:, 0] > 0).astype(int).tolist()
    assert load({"X": x.tolist(), "y": y}).schema.input.flat_width == 4_096
    with pytest.raises(LimitExceeded, match="4097 columns"):
        load({"X": np.c_[x, x[:, 0]].tolist(), "y": y})


def test_steps_in_columns_become_a_vector_and_many_groups_do_not(load):
    records = [
        {**{f"lag[{k}]": float(i + k) for k in range(6)}, "s": i % 3, "y": i % 2} for i in range(60)
    ]
    data = load(records)
    assert data.description.columns == ["lag[6]", "s"]
    assert data.schema.input.sequence_shape == (6, 2)
    for record in records:
        record.update({f"other_{k}": float(k) for k in range(4)})
    assert load(records).schema.input.vector_length == 0


def test_a_million_rows_of_twenty_columns_fit_two_gigabytes(tmp_path):
    code = f"""
import resource
import numpy as np
from pathlib import Path
root = Path({str(tmp_path)!r})
x = np.random.Generator(np.random.PCG64(0)).standard_normal((1_000_000, 20), dtype=np.float32)
np.savez(root / "big.npz", X=x, y=(x[:, 0] > 0.5).astype(np.int8))
del x
from flow_nexus_neural.data.prepare import DataRequest, prepare
from flow_nexus_neural.settings import Settings
data = prepare(DataRequest("big.npz"), Settings(state_dir=root, data_dir=root))
assert len(data.parts["train"]) == 790_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(run.stdout) < 2_000


def test_preparing_needs_neither_scikit_learn_nor_pyarrow_nor_torch():
    code = (
        "import sys, flow_nexus_neural.data.prepare as p\n"
        "from flow_nexus_neural.settings import Settings\n"
        "from pathlib import Path\n"
        "p.prepare(p.DataRequest('synthetic:xor'), Settings(state_dir=Path('.')))\n"
        "print([m for m in ('sklearn', 'pyarrow', 'torch', 'pandas') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"


def test_the_request_is_what_the_engine_hands_over(tmp_path):
    settings = Settings(state_dir=tmp_path)
    data = prepare(DataRequest(dataset="synthetic:linear", seed=3), settings)
    parts = ["train", "select", "meta", "verify", "calib", "test"]
    assert list(data.parts) == parts
    for rows in data.parts.values():
        assert rows.x.flags["C_CONTIGUOUS"]
        assert (rows.x.dtype, rows.symbols.dtype, rows.clients.dtype) == ("f4", "i4", "i4")
        assert set(rows.clients.tolist()) | set(rows.symbols.tolist()) <= {-1}


def test_dates_in_a_column_of_another_name_are_the_time_and_it_is_said(load, labelled):
    for index, record in enumerate(labelled):
        record["day"] = str(np.datetime64("2024-01-01") + index)
    data = load(labelled)
    assert any("'day' is taken as the time" in warning for warning in data.warnings)
    assert (data.schema.time_ordered, excluded(data)) == (True, {"day": "time"})
    assert load(labelled, time_column="day").schema.time_ordered


def test_records_with_ever_new_keys_are_refused_before_they_fill_the_memory(load):
    records = [{f"k{index}_{key}": 1 for key in range(100)} for index in range(100)]
    with pytest.raises(LimitExceeded, match="columns after expansion"):
        load(records)


def test_a_column_that_claims_to_be_one_symbol_per_row_is_refused(load):
    records = [{"symbol": f"s{index}", "a": index % 5, "y": index % 2} for index in range(2_000)]
    with pytest.raises(LimitExceeded, match="2000 symbols"):
        load(records)


def test_walk_forward_and_embargo_are_options_of_any_ordered_data(load, write_csv):
    rows = [(t, (t * 7) % 11, (t // 3) % 2) for t in range(500)]
    write_csv("a.csv", ["time", "a", "y"], rows)
    data = load("a.csv#split=walk-forward&folds=4&embargo=5&horizon=2")
    assert data.description.rows == 498
    assert data.description.split["purged"] == 2 * (2 + 5)
    assert len(data.parts["test"]) == pytest.approx(498 / 5 - 5, abs=1)
    assert [fold.number for fold in data.folds] == [1, 2, 3]
    write_csv("b.csv", ["a", "y"], [row[1:] for row in rows])
    for suffix in ("split=walk_forward", "embargo=3"):
        with pytest.raises(InvalidArguments, match="time order"):
            load("b.csv#" + suffix)


def test_a_window_of_records_reads_as_the_same_window_of_the_data(load):
    name = "crypto_market_historical_data"
    data = load(f"{name}#rows=400", window=3)
    table = GENERATORS[name].make(400, 20240101)
    columns = ("price", "volume", "volatility", "features")
    for start in (0, 50, 410):
        rows = [
            {column: np.asarray(table.columns[column][row]).tolist() for column in columns}
            for row in range(start, start + 3)
        ]
        adapted = adapt(data.schema, {"symbol": "BTC" if start < 400 else "ETH", "window": rows})
        assert adapted.coverage.tolist() == [1.0]
        distance = np.abs(data.parts["train"].x - adapted.x[0]).max(axis=(1, 2))
        assert distance.min() < 1e-5


def walk(count=300, symbols=("A", "B")):
    """Rows of two series in time order with a number that names its row."""
    hours = [f"2024-01-{1 + t // 24:02d}T{t % 24:02d}:00:00Z" for t in range(count)]
    return {
        "columns": ["time", "symbol", "x", "value"],
        "rows": [
            [hours[t], symbol, float((7 * t) % 13), 1000.0 * k + t + 0.25 * (t % 3)]
            for t in range(count)
            for k, symbol in enumerate(symbols)
        ],
    }


@pytest.mark.parametrize("horizon", [0, 1, 3])
def test_the_last_known_label_is_that_of_the_row_whose_label_was_known(load, horizon):
    data = load(walk(), target="value", horizon=horizon or None)
    schema, values = data.schema, {}
    for (_, symbol, _, value), t in zip(walk()["rows"], np.arange(600) // 2, strict=True):
        values[symbol, int(t)] = value
    when = {value: key for key, value in values.items()}
    for part in ("train", "test"):
        rows = data.parts[part]
        assert len(rows.last) == len(rows.y)
        for y, last in zip(rows.y, rows.last, strict=True):
            label = y * schema.target_sd + schema.target_mean
            symbol, t = when[min(when, key=lambda v: abs(v - label))]
            known = values.get((symbol, t - max(1, horizon)))
            # A label of the future is not known before the first row has a past.
            if np.isnan(last):
                assert t - max(1, horizon) < horizon or known is None
            else:
                assert last * schema.target_sd + schema.target_mean == pytest.approx(
                    known, abs=0.01
                )


def test_rows_without_an_order_have_no_last_label(load, labelled):
    assert all(rows.last is None for rows in load(labelled).parts.values())


def test_the_task_may_be_said_where_the_values_suggest_another(load):
    grades = [{"a": float(k % 7), "grade": float(k % 5)} for k in range(60)]
    assert load(grades).description.task == "multiclass"
    numbers = load(grades, task="regression")
    assert (numbers.description.task, numbers.description.classes) == ("regression", None)
    halves = [{"a": float(k % 7), "half": (k % 5) / 2} for k in range(60)]
    assert load(halves).description.task == "regression"
    classes = load(halves, task="classification").description
    assert (classes.task, classes.classes) == ("multiclass", [0, 0.5, 1, 1.5, 2])
    binary = [{"a": float(k % 7), "on": k % 2} for k in range(60)]
    assert load(binary, task="regression").description.task == "regression"


def test_a_task_that_the_target_does_not_allow_is_refused(load):
    many = [{"a": float(k % 7), "v": float(k * k % 59)} for k in range(60)]
    with pytest.raises(
        InvalidDataset, match=r"task=classification, but target 'v' has \d+ distinct"
    ):
        load(many, target="v", task="classification")
    texts = [{"a": float(k % 7), "v": "ab"[k % 2]} for k in range(60)]
    with pytest.raises(InvalidDataset, match="task=regression, but target 'v' is text"):
        load(texts, target="v", task="regression")
    prices = [{"time": k, "close": 9.0 + k % 7} for k in range(60)]
    with pytest.raises(InvalidArguments, match="task=regression, but no target was named"):
        load(prices, task="regression")


def test_excluded_columns_are_named_with_the_reason(load, labelled):
    data = load(labelled, exclude=("b",))
    assert (data.description.columns, excluded(data)) == (["a"], {"b": "in exclude"})


def test_all_rows_are_there_in_order_with_those_at_cuts_where_they_are_to_be_trained_on(load):
    records = [
        {"time": t, "symbol": name, "a": float(t % 17), "y": (t // 2) % 2}
        for t in range(120)
        for name in "PQ"
    ]
    data = load(records, horizon=3)
    assert data.refit
    assert len(data.whole) == data.description.rows == 2 * 117
    assert data.whole.symbols.tolist() == [0, 1] * 117
    assert data.whole.y.tolist() == [((t + 3) // 2) % 2 for t in range(117) for _ in "PQ"]
    assert data.description.split["purged"] == 2 * 2 * 3
    start = 0
    for name in ("train", "select", "test"):
        rows = data.parts[name]
        assert np.array_equal(data.whole.x[start : start + len(rows)], rows.x)
        start += len(rows) + 2 * 3
        assert np.shares_memory(rows.x, data.whole.x)
    assert np.array_equal(data.whole.last[-4:], data.parts["test"].last[-4:])


def test_all_rows_of_data_with_test_rows_of_their_own_hold_these_too(load, labelled):
    x = [[row["a"], row["b"]] for row in labelled]
    y = [row["label"] for row in labelled]
    split = {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}
    plain, whole = load(split), load(split, refit=True)
    assert (plain.whole, plain.refit) == (None, False)
    assert (len(whole.whole), whole.refit) == (60, True)
    assert np.array_equal(whole.whole.x[40:], whole.parts["test"].x)
    for part, rows in plain.parts.items():
        assert np.array_equal(rows.x, whole.parts[part].x)
    with pytest.raises(
        InvalidArguments, match=r"test_size=0\.5 cuts test rows, but the data have 20"
    ):
        load(split, test_size=0.5)
    assert len(load(split, validation_size=0.25).parts["select"]) == 10


def test_rows_in_time_order_are_not_kept_twice_where_no_refit_is_wanted(load):
    records = [{"time": t, "a": t % 7, "y": t % 2} for t in range(60)]
    assert load(records, refit=False).whole is None
    assert not load(records, refit=False).refit
