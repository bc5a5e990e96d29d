"""Gradients of single rows, clipped and summed: what DP-SGD adds noise to.

All rows of a chunk at once where the layers can take a set of weights for each row; row by row elsewhere.
"""

import logging
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from flow_nexus_neural.node.layer import Noise
from flow_nexus_neural.node.losses import Loss
from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.weights import Weights, parts_of, views_of

CHUNK_VALUES = 1 << 22
"""Of the gradients of all rows of a chunk: 16 MB."""

_log = logging.getLogger(__name__)


class ExampleGradients:
    """The gradients of the rows of one training.

    Args:
        network: Without running statistics.
        weights: Read anew at each call.
        loss: Mean over the rows of a batch.

    Raises:
        ValueError: The network has running statistics, to which a row adds unclipped, or frozen layers.
    """

    def __init__(self, network: Network, weights: Weights, loss: Loss) -> None:
        if network.plan.n_buffers:
            raise ValueError(
                "single rows cannot be protected in a network with running statistics or frozen layers"
            )
        self._network, self._loss = network, loss
        self._views = views_of(weights.params.detach(), network.plan.trainable)
        at_once = not network.row_by_row and rows_at_once_is_sound()
        self._chunk = max(1, CHUNK_VALUES // network.plan.n_params) if at_once else 1

    def clipped_sum(
        self, x: Tensor, y: Tensor, clip_norm: float, noise: Noise
    ) -> tuple[Tensor, float]:
        """The sum of the rows' gradients, each shortened to an L2 norm of `clip_norm` at most.

        Args:
            x: [n, *row_shape] float32; n may be 0.
            y: [n].
            clip_norm: > 0.
            noise: For dropout; each row gets a mask of its own.

        Returns:
            [n_params] float32, and the sum of the rows' losses. A gradient that is not finite counts as zero.

        Source: Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, algorithm 1, with
        min(1, C / norm) in place of 1 / max(1, norm / C), which is the same.
        """
        total = torch.zeros(self._network.plan.n_params)
        into = list(views_of(total, self._network.plan.trainable).values())
        entered, loss = self._network.entered(x), 0.0
        for start in range(0, len(x), self._chunk):
            part = slice(start, start + self._chunk)
            gradients, of_rows = self._gradients(entered[part], y[part], noise)
            loss += of_rows
            add_clipped(gradients, clip_norm, into)
        return total, loss

    def _gradients(self, x: Tensor, y: Tensor, noise: Noise) -> tuple[Sequence[Tensor], float]:
        """Of each trainable tensor [n, *shape], and the sum of the losses."""
        n, network = len(x), self._network
        # A leaf for every row, without memory of its own: what reaches it is the gradient of that row.
        leaves = {
            name: view.expand(n, *view.shape).requires_grad_() for name, view in self._views.items()
        }
        names = list(leaves)

        def one(row: Tensor, *tensors: Tensor) -> Tensor:
            views = dict(zip(names, tensors, strict=True))
            layers = [parts_of(layer, views) for layer in network.plan.layers]
            return network.through(row[None], layers, noise)[0]

        if n == 1:
            outputs = one(x[0], *(leaf[0] for leaf in leaves.values()))[None]
        else:
            outputs = over_rows(one, n)(x, *leaves.values())
        loss = self._loss(outputs, y) * n
        gradients = torch.autograd.grad(
            loss, list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        return gradients, float(loss.item())


def add_clipped(gradients: Sequence[Tensor], clip_norm: float, into: Sequence[Tensor]) -> None:
    """Add rows' gradients, shortened to `clip_norm`, to tensors.

    Args:
        gradients: [n, *shape] each; together those of n rows.
        clip_norm: > 0.
        into: [*shape] each; changed.
    """
    squares = sum(
        torch.linalg.vector_norm(g.flatten(1), dim=1, dtype=torch.float64).square()
        for g in gradients
    )
    norms = torch.as_tensor(squares).sqrt()
    finite = norms.isfinite()
    factors = torch.where(finite, (clip_norm / norms).clamp_(max=1.0), 0.0).to(torch.float32)
    sound = bool(finite.all())
    for gradient, total in zip(gradients, into, strict=True):
        flat = gradient.flatten(1)
        flat = flat if sound else torch.where(finite[:, None], flat, 0.0)
        total.add_((factors @ flat).view(total.shape))


def over_rows(one: Callable[..., Tensor], n: int) -> Callable[..., Tensor]:
    """`one` for each of n rows at once, every argument [n, ...].

    `torch.func.vmap` does this too, but its first call imports eight hundred modules, for 2 s in the process
    from which all nodes are forked. These are the functions of torch's core on which it rests; they are not
    public, so `rows_at_once_is_sound` tests them.
    """
    from torch._C._functorch import (
        _add_batch_dim,
        _remove_batch_dim,
        _vmap_decrement_nesting,
        _vmap_increment_nesting,
    )

    def all_rows(*arguments: Tensor) -> Tensor:
        level = _vmap_increment_nesting(n, "error")
        try:
            batched = [_add_batch_dim(argument, 0, level) for argument in arguments]
            result: Tensor = _remove_batch_dim(one(*batched), level, n, 0)
            return result
        finally:
            _vmap_decrement_nesting()

    return all_rows


@cache
def rows_at_once_is_sound() -> bool:
    """Whether torch's functions behind `over_rows` exist and agree with a loop; tested once per process."""
    weights = torch.linspace(-1.0, 1.0, 12).view(3, 4)
    rows = torch.linspace(-2.0, 3.0, 20).view(5, 4)

    def one(row: Tensor, kernel: Tensor) -> Tensor:
        return torch.nn.functional.linear(row[None], kernel).tanh()[0]

    leaf = weights.expand(5, 3, 4).requires_grad_()
    try:
        (at_once,) = torch.autograd.grad(over_rows(one, 5)(rows, leaf).sum(), leaf)
    except (ImportError, TypeError, RuntimeError) as failure:
        _log.warning("torch cannot batch weights here, rows are taken one by one: %s", failure)
        return False
    alone = weights.clone().requires_grad_()
    looped = [torch.autograd.grad(one(row, alone).sum(), alone)[0] for row in rows]
    agrees = torch.allclose(at_once, torch.stack(looped), rtol=1e-5, atol=1e-7)
    if not agrees:
        _log.warning("torch's batched weights disagree with a loop, rows are taken one by one")
    return agrees
