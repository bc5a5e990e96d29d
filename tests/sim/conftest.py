import logging

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(autouse=True)
def no_incident(caplog):
    """Whatever a test does to it, nothing that nobody foresaw may happen inside the engine."""
    caplog.set_level(logging.ERROR)
    yield
    incidents = [r.getMessage() for r in caplog.records if "incident" in r.getMessage()]
    assert incidents == []
