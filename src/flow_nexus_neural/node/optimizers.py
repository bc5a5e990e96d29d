"""Optimiser steps over whole flat vectors, in place.

Formulas are torch's, hyper-parameters Keras' defaults. The classes of `torch.optim` are not used: creating
the first one imports `torch._dynamo` and some eight hundred other modules, which costs seconds and is
impossible in a confined node.

Moments are read from the base state and written to the published one; none are kept here. Adagrad's
accumulator starts at `ADAGRAD_INITIAL` because the code that creates the first state sets it.
"""

import logging
from dataclasses import dataclass, field
from functools import cache
from typing import assert_never

import torch
from torch import Tensor

from flow_nexus_neural.protocol.model_state import MOMENTS
from flow_nexus_neural.vocabulary import Optimizer

ADAM_BETAS = (0.9, 0.999)
RMSPROP_ALPHA = 0.9
EPSILON = 1e-7
ADAGRAD_INITIAL = 0.1
"""Initial value of Adagrad's accumulator in Keras; the first state holds it, the node never adds it."""

_LARGEST_EXACT_STEP = (
    1 << 24
)  # the fused kernel counts in float32; bias correction is 1 long before

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Descent:
    """The vectors of one training and the optimiser that updates them.

    Attributes:
        params: [n_params], updated in place.
        grads: [n_params], read.
        moments: Those of `MOMENTS` for this optimiser, [n_params] each, updated in place.
    """

    optimizer: Optimizer
    learning_rate: float
    params: Tensor
    grads: Tensor
    moments: dict[str, Tensor]
    _scratch: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        missing = set(MOMENTS[self.optimizer]) - set(self.moments)
        if missing:
            raise ValueError(f"{self.optimizer} needs the moments {', '.join(sorted(missing))}")
        needs_scratch = self.optimizer in {"rmsprop", "adagrad"}
        self._scratch = torch.empty_like(self.params if needs_scratch else self.params[:0])

    def step(self, number: int) -> None:
        """Do one optimiser step; `number` counts from 1 since the moments were zero."""
        match self.optimizer:
            case "adam":
                self._adam(number)
            case "sgd":
                self.params.sub_(self.grads, alpha=self.learning_rate)
            case "rmsprop":
                self.moments["v"].mul_(RMSPROP_ALPHA).addcmul_(
                    self.grads, self.grads, value=1.0 - RMSPROP_ALPHA
                )
                self._scaled_step()
            case "adagrad":
                self.moments["v"].addcmul_(self.grads, self.grads)
                self._scaled_step()
            case _:
                assert_never(self.optimizer)

    def _scaled_step(self) -> None:
        """`p -= lr * g / (sqrt(v) + eps)`."""
        torch.sqrt(self.moments["v"], out=self._scratch)
        self._scratch.add_(EPSILON)
        self.params.addcdiv_(self.grads, self._scratch, value=-self.learning_rate)

    def _adam(self, number: int) -> None:
        m, v = self.moments["m"], self.moments["v"]
        if fused_adam_is_sound():
            fused_adam(self.params, self.grads, (m, v), number, self.learning_rate)
        else:
            written_adam(self.params, self.grads, (m, v), number, self.learning_rate)


def written_adam(
    params: Tensor, grads: Tensor, moments: tuple[Tensor, Tensor], number: int, learning_rate: float
) -> None:
    """Adam as in section 2 of the paper: epsilon is added outside the root of the corrected moment.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1.
    """
    m, v = moments
    beta1, beta2 = ADAM_BETAS
    m.mul_(beta1).add_(grads, alpha=1.0 - beta1)
    v.mul_(beta2).addcmul_(grads, grads, value=1.0 - beta2)
    root = (v / (1.0 - beta2**number)).sqrt_().add_(EPSILON)
    params.addcdiv_(m, root, value=-learning_rate / (1.0 - beta1**number))


def fused_adam(
    params: Tensor, grads: Tensor, moments: tuple[Tensor, Tensor], number: int, learning_rate: float
) -> None:
    """As `written_adam`, by a fused kernel of torch that is not public (one pass, 3.4 times faster)."""
    m, v = moments
    fused_adam_of_many([params], [grads], ([m], [v]), number, learning_rate)


def fused_adam_of_many(
    params: list[Tensor],
    grads: list[Tensor],
    moments: tuple[list[Tensor], list[Tensor]],
    number: int,
    learning_rate: float,
) -> None:
    """`fused_adam` of several clients in one call; each gets the bytes that it would get alone."""
    m, v = moments
    step = torch.tensor(float(min(number, _LARGEST_EXACT_STEP)))
    torch._fused_adam_(
        params,
        grads,
        m,
        v,
        [],
        [step] * len(params),
        lr=learning_rate,
        beta1=ADAM_BETAS[0],
        beta2=ADAM_BETAS[1],
        weight_decay=0.0,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
    )


@cache
def fused_adam_is_sound() -> bool:
    """Whether torch's fused kernel exists and agrees with the formula; tested once per process.

    Tested because the kernel is private: another version of torch may change or remove it.
    """
    count = 67  # more than a vector register holds, and odd: the scalar remainder is tested too
    grads = torch.linspace(-2.0, 3.0, count)
    fused = [torch.linspace(1.0, -1.0, count), torch.zeros(count), torch.zeros(count)]
    written = [tensor.clone() for tensor in fused]
    try:
        for number in (1, 2, 3):
            fused_adam(fused[0], grads, (fused[1], fused[2]), number, 0.1)
            written_adam(written[0], grads, (written[1], written[2]), number, 0.1)
    except (AttributeError, TypeError, RuntimeError) as failure:
        _log.warning(
            "torch's fused Adam is not usable here, the written formula serves: %s", failure
        )
        return False
    agrees = all(
        torch.allclose(mine, theirs, rtol=1e-5, atol=1e-7)
        for mine, theirs in zip(written, fused, strict=True)
    )
    if not agrees:
        _log.warning("torch's fused Adam disagrees with the formula, the written one serves")
    return agrees
