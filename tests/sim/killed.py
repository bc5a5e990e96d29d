"""What a server that is killed leaves behind: its state directory as it is at a point of a durable write."""

import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.doubles.seeded import run_seeded
from tests.sim.scheduled import UntimedService, scheduled_ports, scheduled_world

POINTS = (
    "before_write",
    "written",
    "synced",
    "renamed",
    "durable",
    "before_commit",
    "after_commit",
)


@dataclass(frozen=True)
class Left:
    """A state directory as a server left it that was killed at the nth arrival at a point."""

    path: Path
    point: str
    nth: int


class Kills:
    """A fail point that copies the state directory instead of ending the process.

    One run leaves a directory for every arrival that is wanted, and goes on: what it comes to is what all of
    them have to come to.
    """

    def __init__(self, state_dir, copies, wanted):
        self._state_dir, self._copies, self._wanted = state_dir, copies, wanted
        self._seen = dict.fromkeys(POINTS, 0)
        self.left = []
        self.armed = False

    def __call__(self, point):
        if not self.armed:
            return
        self._seen[point] += 1
        nth = self._seen[point]
        if self._wanted(point, nth):
            path = self._copies / f"{point}-{nth}"
            shutil.copytree(self._state_dir, path)
            self.left.append(Left(path, point, nth))


@asynccontextmanager
async def killable_world(state_dir, copies, wanted, *, seed=0, **settings):
    kills = Kills(state_dir, copies, wanted)
    ports = scheduled_ports(seed, fail_point=kills)
    async with scheduled_world(state_dir, ports=ports, seed=seed, **settings) as w:
        w.kills = kills
        yield w


def undisturbed(tmp_path, scenario, wanted, *, seed=0, **settings):
    """Run a scenario to its end; returns what it returns, and what servers killed in it would have left.

    The scenario gets a world and begins its training; it is armed when it does so.
    """

    async def run():
        opened = killable_world(tmp_path / "whole", tmp_path, wanted, seed=seed, **settings)
        async with opened as w:
            return await scenario(w), w.kills.left

    return run_seeded(run, seed=seed)


def gone_on(left, cluster, *, seed=7, service=UntimedService, **settings):
    """What a training comes to in the directory that a killed server left: the status, and all versions."""

    async def run():
        async with scheduled_world(left.path, service=service, seed=seed, **settings) as w:
            status = await w.done(cluster)
            return status, await w.versions(cluster)

    return run_seeded(run, seed=seed)
