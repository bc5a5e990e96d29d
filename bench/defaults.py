"""What a training reaches that is given nothing but data, beside scikit-learn's defaults on the same rows.

python -m bench.defaults [--seeds 5] [--only NAME ...]

Every seed is a cluster of its own with its own split. The workers are deployed without layers, the training
gets a data set's name or rows and nothing else. scikit-learn's models are fitted on the same scaled rows: on
the training and the validation rows, of which ours uses the latter only to choose its best round. The
synthetic market is held against the majority class and against the exact filter of its hidden Markov model.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor

from bench.measure import load
from bench.server_process import RawServer, raw_server
from bench.table_data import TABLES
from flow_nexus_neural.data.prepare import DataRequest, PreparedData, prepare
from flow_nexus_neural.data.synthetic import GENERATORS, MARKETS, NEXT_RETURN
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.settings import Settings
from tests.unit.data.regime_filter import regime_filter

MARKET: Final = "crypto_market_historical_data"
BUNDLED: Final = ("digits", "breast_cancer", "wine", "diabetes")
OTHER_MARKETS: Final = tuple(f"{MARKET}#seed={seed}" for seed in (1, 2, 3, 4))
"""The same generator with other seeds: one series says little."""
NAMES: Final = (*BUNDLED, *TABLES, MARKET, *OTHER_MARKETS)
MARKET_WORKERS: Final = 3


@dataclass(frozen=True)
class Run:
    """One training: its score on test rows (accuracy, or R2), and what it took."""

    score: float
    rounds: int
    planned: int
    seconds: float
    cpu_s: float


def main() -> None:
    """Read the command line, train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=NAMES, default=NAMES)
    given = parser.parse_args()
    print(f"load average {load()}; scores are accuracy, or R2 for diabetes and price")
    with raw_server() as server:
        server.initialize()
        for name in given.only:
            dataset = _dataset(name)
            workers = MARKET_WORKERS if name.startswith(MARKET) else 1
            seeds = range(1, given.seeds + 1)
            runs = [_train(server, dataset, seed, workers) for seed in seeds]
            peers = [_peers(name, dataset, seed) for seed in seeds]
            print(_line(name, runs, peers), flush=True)


def _dataset(name: str) -> Any:
    if name in TABLES:
        return TABLES[name]()
    return name if name.startswith(MARKET) else f"sklearn:{name}"


def _train(server: RawServer, dataset: Any, seed: int, workers: int) -> Run:
    """Deploy, train and wait, with no argument that could be left out."""
    cluster_id = server.tool("neural_cluster_init", name=f"seed {seed}", seed=seed)["cluster_id"]
    server.tool("neural_node_deploy", cluster_id=cluster_id, count=workers)
    began_s, began_cpu_s = time.monotonic(), _cpu_s(server.process.pid)
    server.tool("neural_train_distributed", cluster_id=cluster_id, dataset=dataset)
    status = server.trained(cluster_id)
    seconds, cpu_s = time.monotonic() - began_s, _cpu_s(server.process.pid) - began_cpu_s
    server.tool("neural_cluster_terminate", cluster_id=cluster_id, delete_artifacts=True)
    training, r2 = status["training"], status["evaluation"]["r2"]
    score = float(status["global_accuracy"] if r2 is None else r2)
    return Run(score, training["current_round"], training["total_rounds"], seconds, cpu_s)


def _peers(name: str, dataset: Any, seed: int) -> dict[str, float]:
    """Scores of others on the same test rows, by name."""
    data = prepare(
        DataRequest(dataset=dataset, seed=seed64((seed, 0), 0, "", 0, "partition")), Settings()
    )
    return _market_peers(data, name) if name.startswith(MARKET) else _fitted_peers(data, seed)


def _fitted_peers(data: PreparedData, seed: int) -> dict[str, float]:
    train, select, test = (data.parts[part] for part in ("train", "select", "test"))
    x, y = np.concatenate([train.x, select.x]), np.concatenate([train.y, select.y])
    found: dict[str, float] = {}
    for model in _models(data.schema.task, seed):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that 200 iterations are few is part of their defaults
            found[type(model).__name__] = float(model.fit(x, y).score(test.x, test.y))
    return found


def _models(task: str, seed: int) -> list[BaseEstimator]:
    if task == "regression":
        return [LinearRegression(), MLPRegressor(random_state=seed)]
    return [LogisticRegression(), MLPClassifier(random_state=seed)]


def _market_peers(data: PreparedData, name: str) -> dict[str, float]:
    """The majority class, and the exact filter of the true model, on the test rows."""
    y, generator = data.parts["test"].y, GENERATORS[MARKET]
    _, _, seed = name.partition("#seed=")
    table, hits = generator.table(None, int(seed) if seed else None, 10**6), []
    rows = len(y) // len(MARKETS)  # the last ones of each symbol
    for index, market in enumerate(MARKETS):
        own = table.columns["symbol"].codes == index  # type: ignore[union-attr]
        lags: NDArray[np.float64] = table.columns["features"][own].astype(np.float64)  # type: ignore[index]
        returns = np.concatenate([lags[0, :-1], lags[:, -1]])
        up = table.columns[NEXT_RETURN][own] > 0  # type: ignore[index]
        forecast = regime_filter(returns, market)[lags.shape[1] - 1 :]
        hits.append(((forecast > 0.5) == up)[-rows:])
    return {"majority": float(max(y.mean(), 1 - y.mean())), "optimal filter": float(np.mean(hits))}


def _line(name: str, runs: list[Run], peers: list[dict[str, float]]) -> str:
    scores = [run.score for run in runs]
    others = ", ".join(
        f"{peer} {statistics.median(one[peer] for one in peers):.3f}" for peer in peers[0]
    )
    rounds = statistics.median(run.rounds for run in runs)
    return (
        f"{name}: {statistics.median(scores):.3f} ({min(scores):.3f} to {max(scores):.3f}); {others};"
        f" {rounds:g} of {runs[0].planned} rounds,"
        f" {statistics.median(run.seconds for run in runs):.1f} s,"
        f" {statistics.median(run.cpu_s for run in runs):.1f} s of processor time"
    )


def _cpu_s(pid: int) -> float:
    """Processor time of a process and of all below it, the ended ones that were waited for included."""
    return sum(_ticks(one) for one in _tree(pid)) / 100


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _tree(int(child))


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return sum(int(field) for field in fields[11:15])


if __name__ == "__main__":
    main()
