"""Fixtures of the data layer's tests."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from flow_nexus_neural.data.prepare import DataRequest, PreparedData, prepare
from flow_nexus_neural.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    root = tmp_path / "data"
    root.mkdir()
    return Settings(state_dir=tmp_path / "state", data_dir=root)


@pytest.fixture
def root(settings: Settings) -> Path:
    return settings.data_root


@pytest.fixture
def load(settings: Settings) -> Callable[..., PreparedData]:
    def run(dataset: object, **options: object) -> PreparedData:
        return prepare(DataRequest(dataset, **options), settings)

    return run


@pytest.fixture
def write_csv(root: Path) -> Callable[[str, Sequence[str], Sequence[Sequence[object]]], Path]:
    def run(name: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(rows)
        return path

    return run


@pytest.fixture
def labelled() -> list[dict[str, object]]:
    """60 records with two numbers and a label that depends on them."""
    rng = np.random.Generator(np.random.PCG64(7))
    records = []
    for _ in range(60):
        a, b = rng.standard_normal(2)
        records.append({"a": float(a), "b": float(b), "label": int(a + 0.5 * b > 0)})
    return records
