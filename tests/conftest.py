"""For every run of tests: one that has ended and cannot leave says where it hangs; fixtures of many tests."""

import faulthandler

import pytest

from flow_nexus_neural.coordination.training_strategy import Strategy
from flow_nexus_neural.engine.training import preparation
from tests.doubles.limits import HANG_S


def pytest_unconfigure(config):
    # After the last report only the interpreter's own end is left, which waits for threads without a limit.
    faulthandler.dump_traceback_later(HANG_S, exit=True)


@pytest.fixture
def workers_share(monkeypatch):
    """Trainings that are not federated are shared by all workers, however small they are."""
    shared = Strategy("local_sgd", "a test wants it")
    monkeypatch.setattr(preparation, "choose_strategy", lambda _effort: shared)
