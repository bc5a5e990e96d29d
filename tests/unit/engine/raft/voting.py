"""Clusters under raft for unit tests, with the voters in reach."""

from contextlib import asynccontextmanager

from flow_nexus_neural.coordination.consensus.raft.applied import record
from flow_nexus_neural.engine.raft.gate import voters_of
from tests.unit.engine.running import running


@asynccontextmanager
async def voting(state_dir, workers=3, *, init=None, **more):
    """A running engine whose cluster is under raft; `w.group` are its voters."""
    init = {"consensus": "raft"} | (init or {})
    async with running(state_dir, workers, init=init, **more) as w:
        w.group = voters_of(w.cluster)
        await w.group.load()
        yield w


async def commit(w, version, parent=None, networks=None):
    """Let the voters agree on a record, by default without weights."""
    told = [network.digest for network in (networks or {}).values()]
    body = record(version, version - 1 if parent is None else parent, told)
    await w.group.commit(body, networks or {})
    await w.group.settle()


def led_by(w):
    return w.group.network.leader().name


async def elected(w, name):
    """Let a voter lead by keeping all others from being heard until it does."""
    group = w.group
    for _ in range(400):
        leader = group.network.leader()
        if leader is not None and leader.name == name:
            group.network.passes = lambda _message: True
            return
        group.network.passes = lambda m: m.kind not in {"prevote", "vote"} or m.sender == name
        if leader is not None:
            await w.kill(leader.name)
            await w.deploy(layers=None)
        await group._round({})
    raise AssertionError(f"{name} was not elected")
