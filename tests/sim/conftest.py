import logging

import pytest
import torch

from flow_nexus_neural.engine.training.roles import out_of_fold

torch.set_num_threads(1)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def nothing_out_of_fold(monkeypatch):
    """Roles stay untrained: each would take three more trainings, which most tests are not about."""
    monkeypatch.setattr(out_of_fold, "LEAST_ROWS", 1_000_000)


@pytest.fixture(autouse=True)
def no_incident(caplog):
    """Whatever a test does to it, nothing that nobody foresaw may happen inside the engine."""
    caplog.set_level(logging.ERROR)
    yield
    incidents = [r.getMessage() for r in caplog.records if "incident" in r.getMessage()]
    assert incidents == []
