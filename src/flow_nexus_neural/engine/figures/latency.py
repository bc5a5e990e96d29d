"""How long predictions took inside the server."""

import math

from flow_nexus_neural.artifacts.plots.figure import Axis, Chart, Figure, Reference, Series, Tone
from flow_nexus_neural.engine.figures.seen import Seen
from flow_nexus_neural.errors import NotAvailable

WANTED_MS = 100.0
BINS = 24
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def latency(seen: Seen) -> Figure:
    """A histogram of the last five minutes, at most a thousand calls, with the percentiles of status.

    Raises:
        NotAvailable: No prediction was made in that time, or by this process, or this is a copy, which has no
            times.
    """
    status, values = seen.status, seen.predict_ms
    if seen.copied is not None:
        raise NotAvailable(
            f"how long predictions of cluster {status.cluster_id} took is not stored: only the server that"
            " answered them knows it",
            hint="ask that server: neural_cluster_plot with kind latency, or its --dashboard PORT",
        )
    if not values:
        raise NotAvailable(
            f"no prediction of cluster {status.cluster_id} was timed in the last five minutes",
            hint="call neural_predict_distributed a few times, then plot again; times are kept by the"
            " running server alone",
        )
    width = _width(max(values))
    first = math.floor(min(values) / width)
    counts = [0] * (math.floor(max(values) / width) - first + 1)
    for value in values:
        counts[math.floor(value / width) - first] += 1
    bars = Series(
        "calls of predict",
        tuple((first + k) * width for k in range(len(counts))),
        tuple(float(count) for count in counts),
        "bars",
        width=width,
    )
    found = status.latency
    tones: tuple[tuple[str, float | None, Tone], ...] = (
        ("p50", found.p50, "third"),
        ("p95", found.p95, "second"),
        ("p99", found.p99, "truth"),
    )
    marks = [
        Reference(name, value, upright=True, tone=tone, unit="ms")
        for name, value, tone in tones
        if value is not None
    ]
    marks.append(Reference("wanted", WANTED_MS, upright=True, unit="ms"))
    chart = Chart(
        Axis("milliseconds inside the server", low=0, high=max(1.08 * WANTED_MS, *values)),
        Axis("calls", whole=True, low=0),
        (bars,),
        tuple(marks),
    )
    slow = sum(value > WANTED_MS for value in values)
    calls = "1 call" if len(values) == 1 else f"{len(values)} calls"
    note = f"{calls} in the last five minutes; {slow} took more than 100 ms. Percentiles: n = {found.n}."
    return Figure(f"Latency of predictions of {seen.subject}", (chart,), (note,))


def _width(longest: float) -> float:
    """Of a bin: 1, 2, 2.5 or 5 times a power of ten, so that there are about 24 of them."""
    rough = max(longest, 1e-3) / BINS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in STEPS if step * power >= rough)
