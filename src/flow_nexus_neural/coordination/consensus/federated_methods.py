"""Methods of federated optimisation: what a mean of the clients' updates becomes, and what clients add.

They trust their clients as federated averaging does. The server's step is about the parameters; running
statistics and the client optimiser's moments are averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, Self, runtime_checkable

import numpy as np

from flow_nexus_neural.coordination.consensus.averaging import FederatedAveraging
from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy, Combined, Vectors
from flow_nexus_neural.kernels.server_steps import (
    ADAPTIVITY,
    Float32s,
    Moved,
    Rates,
    SecondMoment,
    adagrad_second_moment,
    adam_second_moment,
    adaptive_step,
    equal_mean_step,
    momentum_step,
    yogi_second_moment,
)

PROXIMAL_MU: Final = "proximal_mu"
SERVER_RATE: Final = "server_learning_rate"
SERVER_MOMENTUM: Final = "server_momentum"
OPTIONS: Final = (PROXIMAL_MU, SERVER_RATE, SERVER_MOMENTUM)
"""Arguments of a training that belong to these methods."""

PARAMS = "params"
MOMENTUM = "server_m"
SECOND_MOMENT = "server_v"
"""Names of the vectors that a method keeps from round to round, among the arrays of a state."""

_MEAN = FederatedAveraging()


@runtime_checkable
class FederatedMethod(AggregationPolicy, Protocol):
    """A policy for rounds of clients that are trusted, with options of its own.

    `combine` finds the vectors that it keeps among the arrays of `base`, from the second round on, and
    returns the next ones among its vectors.
    """

    @property
    def options(self) -> Mapping[str, float]:
        """The arguments of a training that it takes, with the values in force."""
        ...

    @property
    def client_optimizer(self) -> str | None:
        """The only optimiser with which clients may train; None for any."""
        ...

    def with_options(self, options: Mapping[str, float]) -> Self:
        """The same method with other values of some of its options."""
        ...


@dataclass(frozen=True)
class _Method:
    """What all of them share."""

    name: str
    aliases: tuple[str, ...]
    options: Mapping[str, float]
    client_optimizer: str | None = None

    def with_options(self, options: Mapping[str, float]) -> Self:
        """See `FederatedMethod`."""
        return replace(self, options={**self.options, **options})


@dataclass(frozen=True)
class FedProx(_Method):
    """Federated averaging of clients that are held near the state from which they start.

    Each client adds `proximal_mu` (w - w_base) to its gradient (`node.trainer`). The default, 0.01, is one of
    the four values that the paper tries (0.001, 0.01, 0.1, 1). Source: Li et al., "Federated Optimization in
    Heterogeneous Networks", MLSys 2020, algorithm 2. Departure: the paper samples clients by rows and takes
    their plain mean; here they are sampled in turn and weighed by rows, which has the same expectation.
    """

    def combine(self, base: Vectors, updates: Sequence[Vectors], rows: Sequence[int]) -> Combined:
        """Average each array; see `policy.AggregationPolicy`."""
        return _MEAN.combine(base, updates, rows)


@dataclass(frozen=True)
class FedAvgM(_Method):
    """Federated averaging with momentum at the server; see `kernels.server_steps.momentum_step`.

    Defaults: momentum 0.9, one of the values that the paper tries, and a server learning rate of 1, which is
    its update as written. A lasting change counts 1 / (1 - momentum) times in the end.
    """

    def combine(self, base: Vectors, updates: Sequence[Vectors], rows: Sequence[int]) -> Combined:
        """Move the parameters by the momentum, average the rest; see `policy.AggregationPolicy`."""
        start = base[PARAMS]
        moved = momentum_step(
            start,
            [update[PARAMS] for update in updates],
            rows,
            base.get(MOMENTUM, np.zeros_like(start)),
            Rates(self.options[SERVER_RATE], self.options[SERVER_MOMENTUM]),
        )
        return _with_moved(_mean_of_others(base, updates, rows), moved)


@dataclass(frozen=True)
class AdaptiveFedOpt(_Method):
    """FedAdam, FedYogi or FedAdagrad; see `kernels.server_steps.adaptive_step`.

    Defaults: beta1 (`server_momentum`) 0.9, beta2 0.99 and tau 0.001 are those of the paper's experiments. It
    tunes the server learning rate for each task; 0.01 is the choice of this project. FedAdagrad has no
    momentum in the experiments, though in the algorithm: `server_momentum: 0` gives that.
    """

    second_moment: SecondMoment = adam_second_moment

    def combine(self, base: Vectors, updates: Sequence[Vectors], rows: Sequence[int]) -> Combined:
        """Move the parameters adaptively, average the rest; see `policy.AggregationPolicy`."""
        start = base[PARAMS]
        least = np.full_like(start, ADAPTIVITY**2)
        moved = adaptive_step(
            start,
            [update[PARAMS] for update in updates],
            rows,
            (base.get(MOMENTUM, np.zeros_like(start)), base.get(SECOND_MOMENT, least)),
            Rates(self.options[SERVER_RATE], self.options[SERVER_MOMENTUM]),
            self.second_moment,
        )
        return _with_moved(_mean_of_others(base, updates, rows), moved)


@dataclass(frozen=True)
class Scaffold(_Method):
    """Gradient steps of clients corrected by control variates; the server's step is their plain mean.

    What corrects them, and the control variates, are kept by `engine.training.control_variates`. Each client
    counts once, whatever its rows, since c in the paper is the plain mean of all c_i; running statistics are
    averaged the same way. The server learning rate of 1 is that of the paper's experiments.

    Source: Karimireddy et al., ICML 2020, algorithm 1 with option II.
    """

    def combine(self, base: Vectors, updates: Sequence[Vectors], rows: Sequence[int]) -> Combined:
        """Move the parameters by the plain mean change; see `policy.AggregationPolicy`."""
        made = _mean_of_others(base, updates, [1] * len(rows))
        params = equal_mean_step(
            base[PARAMS],
            [update[PARAMS] for update in updates],
            learning_rate=self.options[SERVER_RATE],
        )
        return replace(made, vectors={**made.vectors, PARAMS: params})


def _mean_of_others(base: Vectors, updates: Sequence[Vectors], rows: Sequence[int]) -> Combined:
    """The mean of everything but the parameters."""
    others = [{name: array for name, array in one.items() if name != PARAMS} for one in updates]
    return _MEAN.combine(base, others, rows)


def _with_moved(mean: Combined, moved: Moved) -> Combined:
    kept: dict[str, Float32s] = {MOMENTUM: moved.momentum}
    if moved.second_moment is not None:
        kept[SECOND_MOMENT] = moved.second_moment
    return replace(mean, vectors={**mean.vectors, PARAMS: moved.params, **kept})


_ADAPTIVE = {SERVER_RATE: 1e-2, SERVER_MOMENTUM: 0.9}

FEDPROX = FedProx("fedprox", ("fed_prox",), {PROXIMAL_MU: 1e-2})
FEDAVGM = FedAvgM("fedavgm", ("fed_avg_m",), {SERVER_RATE: 1.0, SERVER_MOMENTUM: 0.9})
FEDADAM = AdaptiveFedOpt("fedadam", ("fed_adam",), _ADAPTIVE, second_moment=adam_second_moment)
FEDYOGI = AdaptiveFedOpt("fedyogi", ("fed_yogi",), _ADAPTIVE, second_moment=yogi_second_moment)
FEDADAGRAD = AdaptiveFedOpt(
    "fedadagrad", ("fed_adagrad",), _ADAPTIVE, second_moment=adagrad_second_moment
)
SCAFFOLD = Scaffold("scaffold", (), {SERVER_RATE: 1.0}, client_optimizer="sgd")
METHODS: Final = (FEDPROX, FEDAVGM, FEDADAM, FEDYOGI, FEDADAGRAD, SCAFFOLD)
