"""A disk that refuses costs a running training time, and nothing else; the twin of `fault.test_full_disk`.

The training waits, says so, and goes on from its last committed round to the weights of an undisturbed one.
"""

import errno

import pytest

from flow_nexus_neural.engine.storage.verification import verify
from tests.doubles.fail_points import FILES, JOURNAL, disk_is_full
from tests.doubles.seeded import run_seeded
from tests.doubles.tables import cells
from tests.sim.scheduled import scheduled_world
from tests.sim.test_resuming import MODES, trained, what


def no_room():
    return OSError(errno.ENOSPC, "No space left on device")


async def in_world(place, mode, refusals):
    """What a training comes to whose disk refuses: by point, after how many writes and how often."""
    given = dict(MODES[mode])
    more = {"modes": given.pop("modes")} if "modes" in given else {}
    async with scheduled_world(place, **more) as w:
        w.kills = Refusing(w.disk, refusals)
        _, status, versions = await trained(w, **given)
        assert all(w.disk.is_done(point) for point in refusals)
        times = None if status.training.resumed is None else status.training.resumed.times
    assert verify(place).damages == []
    return what(status, versions), times


class Refusing:
    """The disk refuses from when the training has begun."""

    def __init__(self, disk, refusals):
        self._disk, self._refusals = disk, refusals

    @property
    def armed(self):
        return False

    @armed.setter
    def armed(self, value):
        if value:
            for point, (after, times) in self._refusals.items():
                failure = disk_is_full() if point == JOURNAL else no_room()
                self._disk.refuse(point, failure, after=after, times=times)


TELLING = ("scaffold", "raft", "gossip", "folds and refit")


@pytest.mark.parametrize("mode", cells(MODES, telling=TELLING))
def test_a_training_whose_disk_was_full_comes_to_the_same_in_every_mode(tmp_path, mode):
    expected, never = run_seeded(in_world, tmp_path / "whole", mode, {})
    assert never is None
    refusals = {JOURNAL: (1, 3), FILES: (3, 2)}
    found, times = run_seeded(in_world, tmp_path / "full", mode, refusals)
    assert times >= 2
    assert found == expected
