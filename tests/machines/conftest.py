"""Everything here needs Ray; `make ray` installs it and runs this."""

import os
import shutil
from importlib.util import find_spec

import pytest

from tests.machines.hosts import two_machines

REASON = "Ray is not installed: `make ray` runs this"
NOT_ROOT = "two machines need network namespaces, so root and the commands ip and nsenter"


def pytest_collection_modifyitems(items):
    mark = None
    if find_spec("ray") is None:
        mark = pytest.mark.skip(reason=REASON)
    elif os.geteuid() != 0 or not all(map(shutil.which, ("ip", "nsenter", "unshare"))):
        mark = pytest.mark.skip(reason=NOT_ROOT)
    for item in items:
        if mark is not None and "tests/machines/" in item.path.as_posix():
            item.add_marker(mark)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def machines():
    with two_machines() as found:
        yield found
