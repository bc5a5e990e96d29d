"""Clusters whose workers know opposite halves of the truth, so that only who combines them can be right."""

import numpy as np

from tests.sim.simulated import world

__all__ = ["BTC", "ETH", "opposed", "opposed_cluster", "world"]

OF_BTC = ({"type": "dense", "units": 8, "activation": "relu"}, {"type": "dense", "units": 1})
OF_ETH = ({"type": "dense", "units": 9, "activation": "relu"}, {"type": "dense", "units": 1})
AGGREGATOR = (
    {"type": "dense", "units": 32, "activation": "relu"},
    {"type": "batch_normalization"},
    {"type": "dense", "units": 16, "activation": "relu"},
    {"type": "dense", "units": 1, "activation": "linear"},
)
VALIDATOR = (
    {"type": "dense", "units": 16, "activation": "relu"},
    {"type": "dense", "units": 1, "activation": "sigmoid"},
)
SERVER = ({"type": "dense", "units": 32, "activation": "relu"}, {"type": "dense", "units": 16})
LAYERS = {"aggregator": AGGREGATOR, "validator": VALIDATOR, "parameter_server": SERVER}
BTC, ETH = {"symbol": "BTC", "a": 1.5, "b": 0.0}, {"symbol": "ETH", "a": 1.5, "b": 0.0}


def opposed(rows=2000, seed=4, *, shuffled=False, task="binary"):
    """One signal on which BTC rises and ETH falls; `shuffled` labels have nothing to do with it."""
    draw = np.random.Generator(np.random.PCG64(seed))
    x = np.round(draw.standard_normal((rows, 2)), 4)
    symbols = np.arange(rows) % 2
    value = x[:, 0] * np.where(symbols, -1, 1) + 0.7 * draw.standard_normal(rows)
    if shuffled:
        draw.shuffle(value)
    labels = {
        "binary": lambda: (value > 0).astype(int).tolist(),
        "multiclass": lambda: np.digitize(value, [-0.5, 0.5]).tolist(),
        "regression": lambda: np.round(5 + 2 * value, 4).tolist(),
    }[task]()
    names = ["BTC", "ETH"]
    return {
        "columns": ["symbol", "a", "b", "y"],
        "rows": [
            [names[k], float(a), float(b), y]
            for k, (a, b), y in zip(symbols, x, labels, strict=True)
        ],
    }


async def opposed_cluster(w, *roles, outputs=1, **more):
    """Two workers who see BTC only, two who see ETH only, and nodes of these roles."""
    cluster = await w.cluster(0, **more)
    for layers, tag in ((OF_BTC, "btc_analysis"), (OF_ETH, "eth_analysis")) * 2:
        own = (*layers[:-1], {"type": "dense", "units": outputs})
        await w.deploy(cluster, layers=own, capabilities=[tag])
    for role in roles:
        await w.deploy(cluster, role, layers=LAYERS[role])
    return cluster


async def trained(w, cluster, data=None, **more):
    """Train on the signal alone: which symbol a record is of, only aggregators get to know."""
    options = {"target": "y", "features": ["a", "b"], "epochs": 2, "batch_size": 32} | more
    status = await w.train(cluster, opposed() if data is None else data, **options)
    assert status.training_status == "completed", status.training_error
    return status
