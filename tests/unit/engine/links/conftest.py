import pytest
from trio.testing import MockClock


@pytest.fixture
def anyio_backend():
    """Virtual time: a deadline passes when nothing else is left to do, however slow the machine is."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}
