"""A feed of synthetic hours. Not one number in it comes from a market."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

LAGS = 50
WARM_UP = 100
START_MS = 1_735_689_600_000
HOUR_MS = 3_600_000
STAY = 0.985
DRIFT = (0.0025, -0.0030, 0.0)
MOMENTUM = (0.10, 0.10, -0.40)
NOISE = (0.007, 0.010, 0.005)
START_PRICE = {"BTC": 50_000.0, "ETH": 3_000.0}
NOISE_SCALE = {"BTC": 1.0, "ETH": 1.3}


@dataclass(frozen=True)
class Tick:
    """One hour as a record for `neural_predict_distributed`, and what the next hour brought."""

    record: dict[str, Any]
    went_up: bool


@dataclass
class _Walk:
    regime: int = 2
    returns: list[float] = field(default_factory=lambda: [0.0])
    log_price: float = 0.0
    hours: int = 0


class SyntheticMarket:
    """Walks through an up, a down and a choppy regime, as the server's built-in data does.

    Each regime has its drift, its momentum and its Student-t noise. Another seed than the training data
    makes these hours new to the model.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._walks = {symbol: _Walk() for symbol in START_PRICE}
        for symbol in self._walks:
            for _ in range(WARM_UP):
                self._advance(symbol)

    def tick(self, symbol: str) -> Tick:
        """The current hour of a symbol; the walk then moves one hour on."""
        walk = self._walks[symbol]
        latest = walk.returns[-1]
        record = {
            "symbol": symbol,
            "price": round(START_PRICE[symbol] * float(np.exp(walk.log_price)), 2),
            "volume": round(
                1e4 * float(np.exp(0.4 * self._rng.standard_normal() + 40 * abs(latest))), 2
            ),
            "timestamp": START_MS + walk.hours * HOUR_MS,
            "features": [round(value, 8) for value in walk.returns[-LAGS:]],
        }
        self._advance(symbol)
        return Tick(record, went_up=walk.returns[-1] > 0)

    def _advance(self, symbol: str) -> None:
        walk = self._walks[symbol]
        if self._rng.random() > STAY:
            walk.regime = int(self._rng.integers(3))
        shock = float(self._rng.standard_t(5)) * (3 / 5) ** 0.5
        walk.returns.append(
            DRIFT[walk.regime]
            + MOMENTUM[walk.regime] * walk.returns[-1]
            + NOISE[walk.regime] * NOISE_SCALE[symbol] * shock
        )
        walk.log_price += walk.returns[-1]
        walk.hours += 1
