"""A training goes on by itself after its server was killed, and comes to the same weights to the byte."""

from tests.sim.killed import gone_on, undisturbed


def digests(versions):
    """Weights of every version, in order."""
    return [(entry["cohort"], entry["version"], entry["weights_digest"]) for entry in versions]


async def trained(w, *, workers=3, init=None, roles=(), **train):
    cluster = await w.cluster(workers, **(init or {}))
    for role in roles:
        await w.deploy(cluster, role)
    await w.start(cluster, **train)
    w.kills.armed = True
    status = await w.done(cluster)
    w.kills.armed = False
    assert status.training_status in ("completed", "early_stopped"), status.training_error
    return cluster, status, await w.versions(cluster)


def test_at_every_point_of_a_durable_write(tmp_path):
    (cluster, _, versions), left = undisturbed(tmp_path, trained, lambda _p, nth: nth in (2, 7))
    assert len(left) > 6
    for one in left:
        status, found = gone_on(one, cluster)
        assert (status.training_status, status.training_error) == ("completed", None), one
        assert digests(found) == digests(versions), one
