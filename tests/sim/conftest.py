import logging

import pytest
import torch

from flow_nexus_neural.coordination import rounds
from flow_nexus_neural.engine.nodes import supervision

torch.set_num_threads(1)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def impatient(monkeypatch):
    """Frozen and late nodes are noticed in a second or two, so that tests need not wait as long as people."""
    monkeypatch.setattr(supervision, "SILENCE_S", 0.4)
    monkeypatch.setattr(supervision, "PING_S", 0.6)
    monkeypatch.setattr(supervision, "MIN_GRACE_S", 0.6)
    monkeypatch.setattr(supervision, "FIRST_STEP_S", 0.6)
    monkeypatch.setattr(rounds, "FIRST_SLACK_S", 0.8)
    monkeypatch.setattr(rounds, "LEAST_S", 0.8)


@pytest.fixture(autouse=True)
def no_incident(caplog):
    """Whatever a test does to it, nothing that nobody foresaw may happen inside the engine."""
    caplog.set_level(logging.ERROR)
    yield
    incidents = [r.getMessage() for r in caplog.records if "incident" in r.getMessage()]
    assert incidents == []
