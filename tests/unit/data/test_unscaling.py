"""Scaled rows come back in the data's own units, so that scaling them again gives the same rows."""

import numpy as np

from flow_nexus_neural.data.normalise import ColumnSpec
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.data.unscaling import unscaled
from flow_nexus_neural.protocol.plan import InputSpec

PRICE = ColumnSpec(
    name="price",
    kind="number",
    mean=(0.01,),
    sd=(0.2,),
    medians={"BTC": 50_000.0, "ETH": 3_000.0},
    pooled=(9.5, 1.5),
)
PLAIN = ColumnSpec(name="volume", kind="number", mean=(7.0,), sd=(3.0,))
SAME = ColumnSpec(name="constant", kind="number", mean=(4.0,), sd=(0.0,))


def schema(window=None):
    return DataSchema(
        input=InputSpec(vector_length=0, n_scalars=3, window=window),
        task="binary",
        classes=["down", "up"],
        columns=(PRICE, PLAIN, SAME),
        target="y",
        target_name="y",
        target_mean=0.0,
        target_sd=1.0,
        symbols=("BTC", "ETH"),
        time_ordered=True,
        target_is_return=False,
        horizon=0,
        outcome_names=(),
    )


def test_scaling_undoes_it_for_known_and_unknown_symbols():
    x = np.array([[0.5, -1.0, 0.0], [-2.0, 3.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
    symbols = ["ETH", "BTC", None]
    raw = unscaled(schema(), x, symbols)
    assert np.allclose(raw[0], [3000.0 * np.exp(0.5 * 0.2 + 0.01), 4.0, 4.0])
    again, _ = schema().scaler.scale(raw, symbols)
    assert np.allclose(again, x, atol=1e-6)


def test_each_step_of_a_window_has_the_symbol_of_its_row():
    x = np.full((2, 4, 3), 0.25, np.float32)
    raw = unscaled(schema(4), x, ["BTC", "ETH"])
    assert raw.shape == (2, 4, 3)
    assert np.allclose(raw[0, :, 0] / raw[1, :, 0], 50_000 / 3_000)
