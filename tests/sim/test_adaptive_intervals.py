"""Intervals of a series that gets wilder are widened by its outcomes, until nine of ten hold again."""

import numpy as np

from tests.sim.simulated import world


def series(rows, noise, seed):
    """Hours with one input and a value that follows it, more or less."""
    draw = np.random.Generator(np.random.PCG64(seed))
    x = np.round(draw.standard_normal(rows), 4)
    y = np.round(3.0 * x + noise * draw.standard_normal(rows), 4)
    hours = [f"{np.datetime64('2024-01-01T00:00:00') + 3600 * t}Z" for t in range(rows)]
    return hours, x, y


async def held(w, cluster, x, y):
    """Whether each value was in its interval, told one after the other, and the widths."""
    inside, widths = [], []
    for value, target in zip(x, y, strict=True):
        record = {"x": float(value), "expectedOutcome": float(target)}
        reply = await w.predict(cluster, record)
        assert reply.feedback_recorded == 1
        if reply.interval is None:  # only everything would do
            inside.append(True)
            continue
        (interval,) = reply.interval
        inside.append(interval.low <= target <= interval.high)
        widths.append(interval.high - interval.low)
    return np.array(inside), widths, reply


async def test_outcomes_widen_the_intervals_of_a_series_that_gets_wilder(tmp_path):
    hours, x, y = series(1500, 0.5, 1)
    data = {
        "columns": ["time", "x", "y"],
        "rows": [[h, float(a), float(b)] for h, a, b in zip(hours, x, y, strict=True)],
    }
    async with world(tmp_path / "engine") as w:
        cluster = await w.cluster(2, daa_enabled=True)
        status = await w.train(cluster, data, target="y", epochs=8, refit=False)
        assert status.training_status == "completed", status.training_error
        first = await w.predict(cluster, {"x": 0.5})
        assert (first.adapted_level, first.interval[0].level) == (None, 0.9)
        width = first.interval[0].high - first.interval[0].low
        _, x, y = series(200, 1.5, 2)
        inside, widths, last = await held(w, cluster, x, y)
        assert inside[:30].mean() < 0.75, "the series is not wilder, so nothing is shown"
        assert inside[100:].mean() > inside[:30].mean() + 0.1
        assert widths[-1] > 1.3 * width
        assert last.adapted_level > 0.93
    async with world(tmp_path / "engine") as w:  # what was learnt is durable
        assert (await w.predict(cluster, {"x": 0.5})).adapted_level > 0.93
