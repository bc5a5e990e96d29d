"""The stage of the attacks, and the rules of who runs what."""

import sys

import pytest

from tests.security.harness import IS_ROOT, USERS
from tests.security.stage import Stage, revive

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]


@pytest.fixture(scope="session")
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
