"""The product whose trainings stand still before a round, as long as a test wants.

Arguments are those of the product. The file named by the environment variable HELD says after which round;
where it is not there, nothing stands still.
"""

import os
import sys
from contextlib import contextmanager
from pathlib import Path

import anyio

from flow_nexus_neural.__main__ import main
from flow_nexus_neural.engine.training.rounds import Rounds

COMMAND = (sys.executable, "-m", "tests.doubles.held_server")
ROOT = Path(__file__).parents[2]
_LOOK_S = 0.01
_work = Rounds.work


def last_round():
    """After which round nothing goes on now."""
    try:
        return int(Path(os.environ["HELD"]).read_text())
    except FileNotFoundError:
        return sys.maxsize


async def _held_work(self, number):
    while number > last_round():  # noqa: ASYNC110  # a file sets no event
        await anyio.sleep(_LOOK_S)
    return await _work(self, number)


@contextmanager
def held_after(folder, n_rounds, monkeypatch):
    """Trainings of servers started here stand still after a round; gives what lets them go on."""
    held = folder / "held"
    held.write_text(str(n_rounds))
    monkeypatch.setenv("HELD", str(held))
    try:
        yield held.unlink
    finally:
        held.unlink(missing_ok=True)


if __name__ == "__main__":
    Rounds.work = _held_work
    sys.exit(main())
