import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from flow_nexus_neural.data.synthetic import (
    GENERATORS,
    MARKETS,
    NEXT_RETURN,
    regime_returns,
)
from flow_nexus_neural.errors import InvalidArguments
from tests.unit.data.regime_filter import regime_filter


def rng(seed):
    return np.random.Generator(np.random.PCG64(seed))


def test_the_best_possible_prediction_of_the_regime_model_is_where_it_is_documented():
    returns = regime_returns(20_001, MARKETS[0], rng(1))
    forecast, up = regime_filter(returns[:-1], MARKETS[0]), returns[1:] > 0
    assert np.mean((forecast > 0.5) == up) == pytest.approx(0.629, abs=0.008)
    assert roc_auc_score(up, forecast) == pytest.approx(0.669, abs=0.01)
    assert np.mean((forecast - up) ** 2) == pytest.approx(0.228, abs=0.003)


def test_a_learner_lands_between_the_majority_and_the_best_possible(load):
    data = load("crypto_market_historical_data#rows=20000&features=features,volatility")
    train, test = data.parts["train"], data.parts["test"]
    learner = LogisticRegression(C=0.01, max_iter=500).fit(train.x, train.y)
    learnt = learner.score(test.x, test.y)
    majority = max(np.mean(test.y), 1 - np.mean(test.y))
    table = GENERATORS["crypto_market_historical_data"].make(20_000, 20240101)
    best = []
    for index, market in enumerate(MARKETS):
        own = table.columns["symbol"].codes == index
        returns = np.diff(np.log(table.columns["price"][own]))
        forecast = regime_filter(returns, market)[-1600:]
        best.append(np.mean((forecast > 0.5) == table.columns[NEXT_RETURN][own][-1600:]))
    error = np.sqrt(0.25 / len(test))
    assert majority + 2 * error < learnt <= np.mean(best) + 2 * error
    assert data.description.synthetic
    assert any("synthetic" in warning for warning in data.warnings)


def test_shuffled_labels_leave_a_learner_at_chance(load):
    data = load("crypto_market_historical_data")
    train, test = data.parts["train"], data.parts["test"]
    learner = LogisticRegression(C=0.01, max_iter=500).fit(train.x, rng(5).permutation(train.y))
    score = roc_auc_score(rng(6).permutation(test.y), learner.predict_proba(test.x)[:, 1])
    assert abs(score - 0.5) < 0.12


def test_columns_of_the_market_agree_with_each_other():
    table = GENERATORS["crypto_market_historical_data"].make(300, 1)
    for symbol, market in enumerate(MARKETS):
        own = table.columns["symbol"].codes == symbol
        price, lags = table.columns["price"][own], table.columns["features"][own]
        returns = np.diff(np.log(price))
        assert lags[1:, -1] == pytest.approx(returns, abs=1e-6)
        assert (lags[1:, :-1] == lags[:-1, 1:]).all()
        assert (table.columns[NEXT_RETURN][own][:-1] == (returns > 0)).all()
        assert 0.1 < price[0] / market.first_price < 10
        assert (np.diff(table.columns["timestamp"][own]) == 3_600_000).all()


def test_a_seed_gives_the_same_market_and_another_seed_another():
    make = GENERATORS["market_data_stream"].make
    first, again, other = make(100, 1), make(100, 1), make(100, 2)
    assert (first.columns["price"] == again.columns["price"]).all()
    assert (first.columns["price"] != other.columns["price"]).any()
    stream = GENERATORS["market_data_stream"].table(100, None, 1_000)
    history = GENERATORS["crypto_market_historical_data"].table(100, None, 1_000)
    assert (stream.columns["price"] != history.columns["price"]).any()


def test_generators_leave_numpys_global_state_alone(load):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    for name in ("crypto_market_data", "synthetic:linear", "synthetic:xor", "synthetic:sine"):
        load(name)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_xor_defeats_a_line_and_linear_does_not(load):
    scores = {}
    for name in ("synthetic:xor", "synthetic:linear"):
        data = load(name)
        learner = LogisticRegression().fit(data.parts["train"].x, data.parts["train"].y)
        scores[name] = learner.score(data.parts["test"].x, data.parts["test"].y)
    assert scores["synthetic:xor"] < 0.65
    assert scores["synthetic:linear"] > 0.85


def test_too_few_rows_are_refused(load):
    with pytest.raises(InvalidArguments, match="'rows' is '5'"):
        load("synthetic:linear#rows=5")
