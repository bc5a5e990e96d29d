"""A price beside its own history of moves is no input of a model of its next move."""

import numpy as np
import pytest

from flow_nexus_neural.data.price_level import LEVEL, left_out, wandering_level

INPUTS = ("lags", "Close", "volume")


def test_the_level_is_left_out_beside_a_history_where_its_move_is_the_label():
    assert wandering_level(INPUTS, "lags", (), of_a_move=True) == "Close"


@pytest.mark.parametrize(
    ("features", "vector", "chosen", "of_a_move"),
    [
        (INPUTS, "lags", (), False),  # another label: a level may say much about it
        (("Close", "volume"), None, (), True),  # nothing else tells the moves
        (INPUTS, "lags", ("lags", "close"), True),  # somebody wants it
        (("lags", "volume"), "lags", (), True),
        (("price", "volume"), "price", (), True),  # a vector of prices is a history, not a level
    ],
)
def test_the_level_stays_in_every_other_case(features, vector, chosen, of_a_move):
    assert wandering_level(features, vector, chosen, of_a_move=of_a_move) is None


def rows(count=120):
    draw = np.random.Generator(np.random.PCG64(5))
    price = np.round(100 * np.exp(np.cumsum(0.01 * draw.standard_normal(count))), 4)
    lags = np.round(draw.standard_normal((count, 3)), 4)
    return [
        {"timestamp": 3_600_000 * hour, "price": price[hour], "features": lags[hour].tolist()}
        for hour in range(count)
    ]


def test_a_file_of_prices_with_lags_learns_from_the_lags_and_the_reply_says_why(load):
    data = load(rows())
    assert [spec.name for spec in data.schema.columns] == ["features"]
    assert {"name": "price", "reason": LEVEL} in data.description.excluded_columns
    assert left_out("price") in data.warnings


def test_who_names_the_price_gets_it(load):
    data = load(rows(), features=("features", "price"))
    assert [spec.name for spec in data.schema.columns] == ["features", "price"]


def test_a_price_that_is_itself_the_target_of_a_forecast_stays(load):
    data = load(rows(), target="price", horizon=1)
    assert [spec.name for spec in data.schema.columns] == ["features", "price"]


def test_the_market_of_the_document_is_learnt_without_its_price(load):
    for name in ("crypto_market_historical_data", "market_data_stream"):
        data = load(f"{name}#rows=200")
        assert [spec.name for spec in data.schema.columns] == ["features", "volume", "volatility"]
