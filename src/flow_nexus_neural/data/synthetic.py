"""Generators of labelled synthetic data.

`crypto_regime` v1 is a hidden Markov model of hourly returns. Its exact forward filter is the best predictor
that exists for it, and the tests compare learners with it: a model that does better has seen the future. It
says nothing about real markets, whose direction is far less predictable.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.table import Column, Table, TextColumn, table_from
from flow_nexus_neural.errors import InvalidArguments, LimitExceeded
from flow_nexus_neural.vocabulary import MIN_ROWS

MARKET_ROWS = 6_000
"""Of each symbol, where no number is given: of fewer the rules of its hours are not learnt well enough."""
STEPS = 50
WARM_UP = 100
EWMA_DECAY = 0.94
HOUR_MS = 3_600_000
START_MS = 1_704_067_200_000
STAY = 0.985
DRIFT = np.array([0.0025, -0.0030, 0.0])
ECHO = np.array([0.10, 0.10, -0.40])
SPREAD = np.array([0.007, 0.010, 0.005])
DEGREES = 5.0
NEXT_RETURN = "next return > 0"


@dataclass(frozen=True)
class Market:
    """One symbol of `crypto_regime`: its first price, and its spread relative to the base setting."""

    symbol: str
    first_price: float
    spread_factor: float


MARKETS = (Market("BTC", 50_000.0, 1.0), Market("ETH", 3_000.0, 1.3))


@dataclass(frozen=True)
class Generator:
    """A built-in generator.

    Attributes:
        make: (rows, seed) to a table; rows are per symbol where there are symbols.
        target: Name of the label column.
        rows: Default number of rows.
        seed: Default seed.
        source: What `dataset_info.source` says.
        symbols: Number of symbols that each get `rows`.
    """

    make: Callable[[int, int], Table]
    target: str
    rows: int
    seed: int
    source: str
    symbols: int = 1

    def table(self, rows: int | None, seed: int | None, max_rows: int) -> Table:
        """Generate.

        Raises:
            InvalidArguments: If fewer than 30 rows are asked for.
            LimitExceeded: If more rows than the server allows are asked for.
        """
        wanted = self.rows if rows is None else rows
        if wanted < MIN_ROWS:
            raise InvalidArguments(
                f"rows={wanted} is below {MIN_ROWS}", hint=f"ask for {MIN_ROWS} rows or more"
            )
        if wanted * self.symbols > max_rows:
            raise LimitExceeded(
                f"rows={wanted} for {self.symbols} symbols exceeds the limit of {max_rows}",
                hint="ask for fewer with the suffix #rows=N, or raise --max-rows",
            )
        return self.make(wanted, self.seed if seed is None else seed)


def regime_returns(rows: int, market: Market, rng: np.random.Generator) -> NDArray[np.float64]:
    """[rows] returns of the three-state Markov regime (up, down, chop).

    `r_t = mu_z + phi_z r_(t-1) + s_z e_t`, e Student-t with 5 degrees of freedom scaled to variance 1. A
    regime stays with probability 0.985 and moves to one of the two others otherwise.
    """
    moves = np.where(rng.random(rows) < STAY, 0, rng.integers(1, 3, rows))
    moves[0] = rng.integers(0, 3)
    regime = np.cumsum(moves) % 3
    noise = rng.standard_t(DEGREES, rows) * np.sqrt((DEGREES - 2) / DEGREES)
    shock = DRIFT[regime] + market.spread_factor * SPREAD[regime] * noise
    echo = ECHO[regime]
    returns = np.empty(rows)
    previous = 0.0
    for step in range(rows):
        previous = shock[step] + echo[step] * previous
        returns[step] = previous
    return returns


def ewma_volatility(returns: NDArray[np.float64]) -> NDArray[np.float64]:
    """[rows] exponentially weighted standard deviation, decay 0.94; entry t includes return t."""
    variance = float(returns[0] ** 2)
    result = np.empty(len(returns))
    for step, value in enumerate(returns):
        variance = EWMA_DECAY * variance + (1 - EWMA_DECAY) * float(value) ** 2
        result[step] = variance
    volatility: NDArray[np.float64] = np.sqrt(result)
    return volatility


def lagged_returns(returns: NDArray[np.float64], steps: int = STEPS) -> NDArray[np.float32]:
    """[rows - steps + 1, steps] float32: the last `steps` returns of every row, oldest first."""
    windows = np.lib.stride_tricks.sliding_window_view(returns, steps)
    return np.ascontiguousarray(windows, dtype=np.float32)


def _crypto_regime(rows: int, seed: int) -> Table:
    parts = [
        _one_market(rows, market, np.random.Generator(np.random.PCG64([index, seed])))
        for index, market in enumerate(MARKETS)
    ]
    columns: dict[str, Column] = {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    }
    codes = np.repeat(np.arange(len(MARKETS), dtype=np.int32), rows)
    symbol = TextColumn(codes, tuple(market.symbol for market in MARKETS))
    return table_from({"symbol": symbol, **columns}, "crypto_regime")


def _one_market(
    rows: int, market: Market, rng: np.random.Generator
) -> dict[str, NDArray[np.floating]]:
    returns = regime_returns(WARM_UP + rows + 1, market, rng)
    price = market.first_price * np.exp(np.cumsum(returns))
    volume = 1e4 * np.exp(0.4 * rng.standard_normal(len(returns)) + 40 * np.abs(returns))
    kept = slice(WARM_UP, WARM_UP + rows)
    first_lag = WARM_UP - STEPS + 1
    return {
        "timestamp": START_MS + HOUR_MS * np.arange(rows, dtype=np.float64),
        "price": price[kept],
        "volume": volume[kept],
        "volatility": ewma_volatility(returns)[kept],
        "features": lagged_returns(returns[:-1])[first_lag : first_lag + rows],
        NEXT_RETURN: (returns[WARM_UP + 1 :] > 0).astype(np.float64),
    }


def _linear(rows: int, seed: int) -> Table:
    rng = np.random.Generator(np.random.PCG64(seed))
    inputs = rng.standard_normal((rows, 5))
    score = inputs @ np.array([1.5, -1.0, 0.5, 0.0, 0.0]) + 0.5 * rng.standard_normal(rows)
    return _plain(inputs, (score > 0).astype(np.float64), "linear")


def _xor(rows: int, seed: int) -> Table:
    rng = np.random.Generator(np.random.PCG64(seed))
    inputs = rng.uniform(-1, 1, (rows, 2))
    label = (inputs[:, 0] > 0) ^ (inputs[:, 1] > 0) ^ (rng.random(rows) < 0.05)
    return _plain(inputs, label.astype(np.float64), "xor")


def _sine(rows: int, seed: int) -> Table:
    rng = np.random.Generator(np.random.PCG64(seed))
    inputs = rng.uniform(-np.pi, np.pi, (rows, 1))
    return _plain(inputs, np.sin(inputs[:, 0]) + 0.1 * rng.standard_normal(rows), "sine")


def _plain(inputs: NDArray[np.float64], target: NDArray[np.float64], name: str) -> Table:
    columns: dict[str, Column] = {f"x{index}": inputs[:, index] for index in range(inputs.shape[1])}
    return table_from({**columns, "target": target}, name)


def _market(seed: int) -> Generator:
    source = "synthetic generator crypto_regime v1"
    return Generator(_crypto_regime, NEXT_RETURN, MARKET_ROWS, seed, source, len(MARKETS))


GENERATORS: dict[str, Generator] = {
    "crypto_market_historical_data": _market(20240101),
    "crypto_market_data": _market(20240101),
    "crypto_regime": _market(20240101),
    "market_data_stream": _market(20240102),
    "linear": Generator(_linear, "target", 2_000, 1, "synthetic generator linear v1"),
    "xor": Generator(_xor, "target", 2_000, 2, "synthetic generator xor v1"),
    "sine": Generator(_sine, "target", 2_000, 3, "synthetic generator sine v1"),
}
MARKET_NAMES = ("crypto_market_historical_data", "crypto_market_data", "market_data_stream")
