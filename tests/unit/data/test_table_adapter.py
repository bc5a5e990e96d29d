"""Rows of a table become the same network input as the same rows sent as records."""

import json
from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.data.adapter import adapt
from flow_nexus_neural.data.file_series import series_in_file
from flow_nexus_neural.data.resolve import resolve_file
from flow_nexus_neural.data.table_adapter import TableAdapter
from flow_nexus_neural.errors import InvalidRecord, NoKnownFeature

SAME = ("x", "coverage", "familiar", "symbols", "ood", "clipped", "is_list")


@pytest.fixture
def plain(load, labelled):
    for index, record in enumerate(labelled):
        record["c"] = "xyz"[index % 3]
    return load(labelled).schema


@pytest.fixture
def prices(load):
    def price(t):
        return (100 if t % 2 else 20) + t % 13

    rows = [
        {
            "symbol": "ab"[t % 2],
            "time": t // 2,
            "close": price(t),
            "volume": 5 + t % 7,
            "y": t % 3 % 2,
        }
        for t in range(400)
    ]
    return load(rows, target="y").schema


@pytest.fixture
def vectors(load):
    rows = [
        {"features": [(t * k % 17) / 17 for k in range(1, 7)], "z": t % 5, "y": t % 2}
        for t in range(200)
    ]
    return load(rows).schema


@pytest.fixture
def read(root, settings):
    def run(name, text, schema, times=()):
        (root / name).write_text(text)
        table = resolve_file(name, settings).table
        series = series_in_file(schema, table, times) if schema.input.window else None
        adapter = TableAdapter(schema, table, series)
        return adapter, adapter.read(np.arange(table.rows))

    return run


def as_json(records):
    return json.dumps(records)


def assert_same(found, expected):
    for name in SAME:
        mine, theirs = getattr(found, name), getattr(expected, name)
        if isinstance(mine, np.ndarray):
            assert mine.tobytes() == theirs.tobytes(), name
        else:
            assert mine == theirs, name
    assert {i["name"]: i["reason"] for i in found.ignored} == {
        i["name"]: i["reason"] for i in expected.ignored
    }


def test_numbers_categories_and_unknown_columns_are_those_of_records(plain, read):
    names = [spec.name for spec in plain.columns]
    records = [
        {
            names[0].upper(): 0.25 * i,
            names[1]: None if i == 2 else i,
            "c": "xyzw"[i],
            "more": i,
            "y": 1,
        }
        for i in range(4)
    ]
    assert plain.columns[-1].name == "c"
    _, rows = read("in.json", as_json(records), plain)
    assert_same(rows.adapted, adapt(plain, records))
    assert rows.usable.all()
    assert "'c' has no category 'w' (known: x, y, z)" in rows.adapted.warnings


def test_categories_that_look_like_numbers_are_the_same_in_every_spelling(load, read):
    words = ["1", "2", "many"]
    trained = [{"k": words[i % 3], "v": i % 7, "y": i % 2} for i in range(90)]
    schema = load(trained, target="y").schema
    assert schema.columns[[s.name for s in schema.columns].index("k")].kind == "levels"
    _, rows = read("in.csv", "k,v\n1,3\n2,4\n2,\n", schema)  # only numbers here
    expected = adapt(schema, [{"k": "1", "v": 3}, {"k": "2", "v": 4}, {"k": "2"}])
    assert_same(rows.adapted, expected)
    assert rows.adapted.ood == []


def test_prices_are_scaled_by_the_symbol_of_their_row(prices, read):
    records = [
        {"ticker": "A", "price": 25, "vol": 7},
        {"ticker": "b", "price": 109.5, "vol": 6},
        {"ticker": "new", "price": 60, "vol": 8},
        {"ticker": "a", "price": -1, "vol": 8},
    ]
    text = "ticker,price,vol\n" + "".join(
        f"{r['ticker']},{r['price']},{r['vol']}\n" for r in records
    )
    _, rows = read("in.csv", text, prices)
    assert_same(rows.adapted, adapt(prices, records))
    assert "symbol 'new' is unknown: pooled statistics are used" in rows.adapted.warnings
    assert "'close' must be above 0: 1 values count as missing" in rows.adapted.warnings


@pytest.mark.parametrize("steps", [6, 4, 9])
def test_lists_fill_the_most_recent_steps(vectors, read, steps):
    records = [{"features": [0.1 * i * k for k in range(steps)], "z": i} for i in range(5)]
    _, rows = read("in.json", as_json(records), vectors)
    assert_same(rows.adapted, adapt(vectors, records))


def test_a_step_in_a_column_of_its_own_is_that_step(vectors, read):
    text = "features[0],features[5],z\n0.5,0.25,1\n,0.125,2\n"
    _, rows = read("in.csv", text, vectors)
    expected = [{"features[0]": 0.5, "features[5]": 0.25, "z": 1}, {"features[5]": 0.125, "z": 2}]
    assert_same(rows.adapted, adapt(vectors, expected))


def test_rows_that_are_sequences_are_read_like_windows(load, root, settings):
    rng = np.random.Generator(np.random.PCG64(3))
    x, y = rng.standard_normal((80, 5, 2)).astype("f4"), np.arange(80) % 2
    np.savez(root / "train.npz", X=x, y=y)
    schema = load("train.npz").schema
    np.savez(root / "in.npz", X=x[:7])
    table = resolve_file("in.npz", settings).table
    rows = TableAdapter(schema, table, None).read(np.arange(7))
    expected = adapt(schema, [{"window": window.tolist()} for window in x[:7].astype("f8")])
    assert rows.adapted.x.tobytes() == expected.x.tobytes()


def test_windows_are_made_of_the_rows_before_in_time_and_of_the_same_symbol(load, read):
    rows = [
        {"symbol": "ab"[t % 2], "time": t, "v": t % 11, "w": t % 5, "y": t % 3 % 2}
        for t in range(400)
    ]
    schema = load(rows, target="y", window=3).schema
    part = rows[:8]
    mixed = [part[i] for i in (5, 0, 7, 2, 1, 6, 3, 4)]
    text = "symbol,time,v,w\n" + "".join(
        f"{r['symbol']},{r['time']},{r['v']},{r['w']}\n" for r in mixed
    )
    _, found = read("in.csv", text, schema, times=("time",))
    assert found.whole.tolist() == [r["time"] >= 4 for r in mixed]
    for place, row in enumerate(mixed):
        if row["time"] < 4:
            continue
        window = [rows[row["time"] - 4], rows[row["time"] - 2], row]
        record = {
            "symbol": row["symbol"],
            "window": [{"v": r["v"], "w": r["w"]} for r in window],
        }
        expected = adapt(schema, record)
        assert found.adapted.x[place].tobytes() == expected.x[0].tobytes()


def test_missing_words_and_infinite_numbers_are_unknown(plain, read):
    first, second = (spec.name for spec in plain.columns[:2])
    adapter, rows = read("in.csv", f"{first},{second},c\nNA,1,x\ninf,2,\n-,3,none\n,,\n", plain)
    expected = adapt(plain, [{second: 1, "c": "x"}, {second: 2}, {second: 3}, {second: 1}])
    assert rows.adapted.x[:3].tobytes() == expected.x[:3].tobytes()
    assert rows.known.tolist() == [True, True, True, False]
    assert f"'{first}': 1 infinite values count as unknown" in rows.adapted.warnings
    assert adapter.warnings == []


def test_a_column_of_decimal_commas_is_read_as_a_whole_and_that_is_said(plain, read):
    first = plain.columns[0].name
    text = f"{first};c\n" + "".join(f"{i},{i}5;x\n" for i in range(30))
    adapter, rows = read("in.csv", text, plain)
    expected = adapt(plain, [{first: float(f"{i}.{i}5"), "c": "x"} for i in range(30)])
    assert rows.adapted.x.tobytes() == expected.x.tobytes()
    assert f"'{first}' is read with decimal commas" in adapter.warnings


def test_the_mark_that_the_model_learnt_decides_what_a_text_means(load, read):
    trained = [{"v": f"1.{i:03},5", "w": i % 7, "y": i % 2} for i in range(60)]
    schema = load(trained, target="y").schema
    assert schema.columns[0].decimal == ","
    _, rows = read("in.csv", 'v,w\n"1.030,5",2\n"1.031,5",3\n', schema)
    assert_same(rows.adapted, adapt(schema, [{"v": "1.030,5", "w": 2}, {"v": 1031.5, "w": 3}]))
    adapter, _ = read("points.csv", "v,w\n1.030,2\n", schema)
    assert "'v' is read with decimal points here; the model learnt it with decimal commas" in (
        adapter.warnings
    )


def test_a_few_cells_that_are_no_numbers_are_unknown_and_many_are_refused(load, read):
    trained = [{"v": f"1.{i:03},5", "w": i % 7, "y": i % 2} for i in range(60)]
    schema = load(trained, target="y").schema

    def text(odd):
        return "v,w\n" + "".join(f'"{"odd" if i < odd else f"{i},5"}",{i}\n' for i in range(40))

    adapter, rows = read("few.csv", text(2), schema)
    assert "row 0: 'v' is 'odd'" in adapter.warnings[0]
    assert "2 such cells of 'v' count as unknown" in adapter.warnings[0]
    assert (rows.adapted.coverage[:2] < 1).all()
    with pytest.raises(InvalidRecord, match="row 0: 'v' is 'odd'"):
        read("many.csv", text(9), schema)


def test_what_cannot_be_the_input_is_refused_with_the_inputs(vectors, read):
    with pytest.raises(NoKnownFeature, match="it has: a, b") as refusal:
        read("in.csv", "a,b\n1,2\n", vectors)
    assert "inputs: features" in refusal.value.hint
    for text in ("features,z\n1,2\n", "features,z\nword,2\n"):
        with pytest.raises(InvalidRecord, match="'features'"):
            read("in.csv", text, vectors)


def test_rows_can_be_read_in_any_parts(prices, read):
    text = "symbol,close,volume\n" + "".join(
        f"{'ab'[i % 2]},{20 + i},{5 + i % 3}\n" for i in range(20)
    )
    adapter, whole = read("in.csv", text, prices)
    parts = [adapter.read(np.arange(i, min(i + 6, 20))) for i in range(0, 20, 6)]
    assert np.concatenate([p.adapted.x for p in parts]).tobytes() == whole.adapted.x.tobytes()
    assert whole.usable.all()
    assert replace(whole, known=whole.known & False).usable.sum() == 0
