"""Hedge: weights of experts that follow their losses, whatever the losses are.

Source: Freund and Schapire, "A decision-theoretic generalization of on-line learning and an application to
boosting", JCSS 55 (1997), with the rate sqrt(8 ln K / t) that needs no number of rounds in advance:
Cesa-Bianchi and Lugosi, "Prediction, Learning, and Games" (2006), theorem 2.3. Experts that give no answer in
a round are charged what the mixture lost in it, as specialists are: Freund, Schapire, Singer and Warmuth,
"Using and combining predictors that specialize", STOC 1997. Departures: experts may start with unequal
weights, and one that joins later starts from the loss of the mixture.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flow_nexus_neural.kernels.probabilities import Float64s, Floats, class_log_probabilities
from flow_nexus_neural.vocabulary import Task


@dataclass(frozen=True, slots=True)
class HedgeState:
    """What experts have lost so far.

    Attributes:
        rounds: Outcomes seen.
        losses: Sum of the losses of each expert, each loss in [0, 1].
        mixture: Sum of what their weighted mean lost.
    """

    rounds: int = 0
    losses: Mapping[str, float] = field(default_factory=dict)
    mixture: float = 0.0


def hedge_weights(state: HedgeState, prior: Mapping[str, float]) -> dict[str, float]:
    """The weights for the next round.

    With K experts and t the number of that round, w_k is proportional to
    prior_k exp(-sqrt(8 ln K / t) L_k). For equal priors, over T rounds the mixture loses at most what the
    best expert does + sqrt(2 T ln K) + sqrt(ln K / 8).

    Args:
        state: What was lost so far; experts that it does not know have lost what the mixture has.
        prior: Weight of every expert before the first round, >= 0, with a sum above 0.

    Returns:
        Weights that sum to 1; the prior itself, normalised, before the first round.
    """
    names = list(prior)
    start = np.array([prior[name] for name in names], dtype=np.float64)
    if (start < 0).any() or not start.sum() > 0:
        raise ValueError("weights must be >= 0 and one of them above 0")
    lost = np.array([state.losses.get(name, state.mixture) for name in names])
    rate = math.sqrt(8 * math.log(len(names)) / (state.rounds + 1))
    # Relative to the best that has weight at all, so that not all of them can underflow.
    gap = lost - lost[start > 0].min()
    shares = np.where(start > 0, start * np.exp(-rate * np.maximum(gap, 0.0)), 0.0)
    weights = shares / shares.sum()
    return {name: float(weight) for name, weight in zip(names, weights, strict=True)}


def after_outcome(
    state: HedgeState, prior: Mapping[str, float], losses: Mapping[str, float]
) -> HedgeState:
    """The state after one more outcome.

    Args:
        state: Before it.
        prior: Weight of every expert before the first round.
        losses: Of the experts that answered; clipped to [0, 1]. Those without an answer are charged what the
            mixture of the others lost.

    Raises:
        ValueError: Nobody of `prior` answered, or a loss is not a number.
    """
    weights = hedge_weights(state, prior)
    own = {name: min(1.0, max(0.0, losses[name])) for name in weights if name in losses}
    if not own or any(math.isnan(loss) for loss in losses.values()):
        raise ValueError("an outcome needs a loss of some expert")
    total = sum(weights[name] for name in own)
    mixed = (
        sum(weights[name] * loss for name, loss in own.items()) / total
        if total > 0
        else sum(own.values()) / len(own)
    )
    before = {name: state.losses.get(name, state.mixture) for name in {**state.losses, **prior}}
    return HedgeState(
        rounds=state.rounds + 1,
        losses={name: lost + own.get(name, mixed) for name, lost in before.items()},
        mixture=state.mixture + mixed,
    )


def outcome_losses(outputs: Sequence[Floats] | Floats, outcome: float, task: Task) -> Float64s:
    """What each of K experts lost by one outcome, in [0, 1].

    Classes: the Brier score as half the squared distance between the probabilities and the outcome, which is
    (p - y)^2 for two classes. Regression: the squared error of the standardised value, at most 1.

    Args:
        outputs: [K, O]: logits, or standardised values.
        outcome: Class index, or the standardised value.
        task: The learning task.
    """
    answers = np.asarray(outputs, dtype=np.float64)
    if task == "regression":
        errors: Float64s = np.minimum(np.abs(answers[:, 0] - outcome), 1.0) ** 2
        return errors
    p = np.exp(class_log_probabilities(answers))
    p[:, int(outcome)] -= 1.0
    losses: Float64s = np.clip((p**2).sum(axis=1) / 2, 0.0, 1.0)
    return losses
