"""A connect during a training also deals the rows of dead workers anew."""

from tests.sim.simulated import blobs, world

TRAIN_ROWS = 96  # of 120


def rows_of_the_living(status):
    return sum(node.rows for node in status.nodes if node.healthy)


async def test_connecting_during_a_training_gives_the_rows_of_a_dead_worker_to_living_ones(
    tmp_path,
):
    async with world(tmp_path) as w:
        cluster = await w.cluster(3, topology="mesh")
        await w.start(cluster, blobs(120), epochs=400, partition="iid", min_nodes_per_round=1)
        await w.rounds(cluster, 2)
        assert rows_of_the_living(await w.status(cluster)) == TRAIN_ROWS
        w.kill("worker-1")
        status = await w.until(cluster, lambda s: s.failed_nodes == 1)
        assert rows_of_the_living(status) < TRAIN_ROWS
        report = await w.connect(cluster, "ring")
        assert report.rebalanced.moved_shards > 0
        two_rounds_later = (await w.status(cluster)).training.current_round + 2
        await w.rounds(cluster, two_rounds_later)
        assert rows_of_the_living(await w.status(cluster)) == TRAIN_ROWS
