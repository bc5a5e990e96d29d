"""Steps of federated optimisation at the server: the mean change of the clients is treated as a gradient."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.folding import BLOCK
from flow_nexus_neural.kernels.probabilities import Float64s, Floats

Float32s = NDArray[np.float32]
LARGEST = float(np.finfo(np.float32).max)
SECOND_MOMENT_DECAY = 0.99
"""beta2 of Adam and Yogi, as in the experiments of Reddi et al."""
ADAPTIVITY = 1e-3
"""tau, as in the experiments of Reddi et al.; the second moment starts at its square."""

SecondMoment = Callable[[Float64s, Float64s], Float64s]
"""The next second moment, from the former one and the squared mean change."""


@dataclass(frozen=True)
class Rates:
    """How far the server moves: its learning rate, and the share of the former momentum that is kept."""

    learning_rate: float
    decay: float


@dataclass(frozen=True)
class Moved:
    """What a step made: the new parameters, and what the next step starts from; each [d] float32."""

    params: Float32s
    momentum: Float32s
    second_moment: Float32s | None


def mean_change(base: Floats, vectors: Sequence[Floats], rows: Sequence[int]) -> Float64s:
    """[d] float64: the mean of the vectors, each weighted by its rows, minus the base.

    The differences are averaged, so that vectors equal to the base change nothing at all.
    """
    total = float(sum(rows))
    if not vectors or len(rows) != len(vectors) or min(rows) < 0 or total <= 0:
        raise ValueError(f"{len(vectors)} contributions do not fit the row counts {list(rows)}")
    start = base.astype(np.float64)
    change = np.zeros_like(start)
    for vector, count in zip(vectors, rows, strict=True):
        change += (vector - start) * (count / total)
    return change


def within_float32(values: Float64s) -> Float32s:
    """Rounded to float32, clipped to its finite range."""
    return np.clip(values, -LARGEST, LARGEST).astype(np.float32)


def momentum_step(
    base: Float32s,
    vectors: Sequence[Floats],
    rows: Sequence[int],
    momentum: Float32s,
    rates: Rates,
) -> Moved:
    """FedAvgM: m <- decay m + D, w <- w + learning_rate m, where D is the weighted mean change.

    Args:
        base: [d] parameters that the clients started from.
        vectors: n times [d], the clients' parameters, finite, in slot order.
        rows: n counts from the engine's own records.
        momentum: [d], zero before the first step.
        rates: Of the server.

    Source: Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification", arXiv 1909.06335 (2019), section 3.3, with a server learning rate, which is 1 there.
    """

    def one(change: Float64s, former: Float64s, _second: Float64s) -> tuple[Float64s, ...]:
        kept = rates.decay * former + change
        return rates.learning_rate * kept, kept

    return _stepped(base, vectors, rows, (momentum, None), one)


def adam_second_moment(former: Float64s, square: Float64s) -> Float64s:
    """FedAdam: v <- beta2 v + (1 - beta2) D^2."""
    return SECOND_MOMENT_DECAY * former + (1 - SECOND_MOMENT_DECAY) * square


def yogi_second_moment(former: Float64s, square: Float64s) -> Float64s:
    """FedYogi: v <- v - (1 - beta2) D^2 sign(v - D^2)."""
    yogi: Float64s = former - (1 - SECOND_MOMENT_DECAY) * square * np.sign(former - square)
    return yogi


def adagrad_second_moment(former: Float64s, square: Float64s) -> Float64s:
    """FedAdagrad: v <- v + D^2."""
    return former + square


def adaptive_step(
    base: Float32s,
    vectors: Sequence[Floats],
    rows: Sequence[int],
    moments: tuple[Float32s, Float32s],
    rates: Rates,
    second_moment: SecondMoment,
) -> Moved:
    """FedAdam, FedYogi, FedAdagrad: m <- beta1 m + (1 - beta1) D, w <- w + learning_rate m / (sqrt(v) + tau).

    There is no bias correction, as in the paper; v starts at tau^2, the least that it allows. Flower 1.42
    starts v at 0, corrects the bias with a round number that begins at 1, so that its first step of FedAdam
    is 0.742 learning rates long, and leaves float32 for float64. Here vectors stay float32: each step is
    computed in float64 and rounded once.

    Args:
        base: As in `momentum_step`, like the next two.
        vectors: n times [d].
        rows: n counts.
        moments: m, zero before the first step, and v, `ADAPTIVITY` squared; [d] each.
        rates: Of the server; the share that is kept is beta1.
        second_moment: One of those above.

    Source: Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2. Departure: D weighs
    clients by rows, as federated averaging does; the algorithm has their plain mean.
    """

    def one(change: Float64s, former: Float64s, second: Float64s) -> tuple[Float64s, ...]:
        kept = rates.decay * former + (1 - rates.decay) * change
        spread = second_moment(second, np.square(change))
        return rates.learning_rate * kept / (np.sqrt(spread) + ADAPTIVITY), kept, spread

    return _stepped(base, vectors, rows, moments, one)


def equal_mean_step(base: Float32s, vectors: Sequence[Floats], *, learning_rate: float) -> Float32s:
    """SCAFFOLD's server step: w <- w + learning_rate (1/|S|) sum of the changes, each client counted once.

    Source: Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020,
    algorithm 1, line 16.
    """
    each_once = [1] * len(vectors)
    none = np.zeros_like(base)
    return momentum_step(base, vectors, each_once, none, Rates(learning_rate, 0.0)).params


def client_control(
    correction: Floats, base: Floats, params: Floats, *, steps: int, learning_rate: float
) -> Float32s:
    """SCAFFOLD's next control variate of a client: c_i - c + (x - y_i) / (K learning_rate), option II.

    Args:
        correction: [d], c - c_i as the client added it to every gradient.
        base: [d], the parameters x that it started from.
        params: [d], the parameters y_i after its steps.
        steps: K, at least 1.
        learning_rate: Of the client.

    Returns:
        [d] float32, finite: the mean gradient of its K steps.

    Source: as `equal_mean_step`, algorithm 1, line 12.
    """
    moved = base.astype(np.float64) - params
    return within_float32(moved / (steps * learning_rate) - correction)


def server_control(controls: Sequence[Floats], n_clients: int, length: int) -> Float64s:
    """SCAFFOLD's control variate of the server: c = (1/N) sum of all c_i, where a client without one has 0.

    This is algorithm 1, line 17, c <- c + (|S|/N) mean of the changes, written without history: both start
    at 0 and change by (1/N) sum over S of the changes of c_i. NVFlare 2.9 has no factor |S|/N: it moves c
    N/|S| times too far in a round in which not all clients train.

    Args:
        controls: [length] each, of the clients that have trained.
        n_clients: N, all clients, at least as many.
        length: Coordinates.
    """
    total = np.zeros(length, dtype=np.float64)
    for control in controls:
        total += control
    return total / n_clients


def _stepped(
    base: Float32s,
    vectors: Sequence[Floats],
    rows: Sequence[int],
    moments: tuple[Float32s, Float32s | None],
    one: Callable[[Float64s, Float64s, Float64s], tuple[Float64s, ...]],
) -> Moved:
    """Apply a rule to every coordinate, in blocks: its work arrays are float64 and there are several."""
    former, second = moments
    if any(vector.shape != base.shape for vector in (*vectors, former)):
        raise ValueError(f"vectors differ in shape: {[vector.shape for vector in vectors]}")
    params, momentum = np.empty_like(base), np.empty_like(base)
    spread = None if second is None else np.empty_like(base)
    for start in range(0, base.size, BLOCK):
        here = slice(start, start + BLOCK)
        change = mean_change(base[here], [vector[here] for vector in vectors], rows)
        known = (former if second is None else second)[here].astype(np.float64)
        step, kept, *new_spread = one(change, former[here].astype(np.float64), known)
        params[here] = within_float32(base[here] + step)
        momentum[here] = within_float32(kept)
        if spread is not None:
            spread[here] = within_float32(new_spread[0])
    return Moved(params, momentum, spread)
