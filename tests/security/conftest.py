"""The stage of the attacks, and the rules of who runs what."""

import sys
from pathlib import Path

import pytest

from tests.security.harness import IS_ROOT, USERS, has_landlock
from tests.security.stage import Stage, revive

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]


def pytest_collection_modifyitems(items):
    # Newer interpreters warn of every fork in a process with threads, which other tests may have started.
    quiet = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(quiet)


@pytest.fixture
def anyio_backend():
    """What attacks a node, and what withstands it, knows of no event loop."""
    return "asyncio"


@pytest.fixture(scope="module")
def whole_stage():
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def stage(whole_stage):
    revive(whole_stage)
    return whole_stage


@pytest.fixture(params=USERS)
def user(request):
    if request.param == "root" and not IS_ROOT:
        pytest.skip("the suite does not run as root: the variant that drops its ids was NOT tested")
    return request.param


@pytest.fixture
def needs_landlock():
    if not has_landlock():
        pytest.skip("this kernel has no Landlock: the level strict was NOT tested")
