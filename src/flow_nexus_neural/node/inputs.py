"""Turns stored rows into the input of a network: flat, as a sequence, with features dropped."""

import torch
from torch import Tensor

from flow_nexus_neural.protocol.plan import InputSpec


def flat_view(rows: Tensor) -> Tensor:
    """[n, *row_shape] -> [n, flat_width]."""
    return rows.flatten(1)


def sequence_view(rows: Tensor, spec: InputSpec) -> Tensor:
    """[n, *row_shape] -> [n, steps, channels]: channel 0 is the vector, each scalar is a constant channel."""
    if spec.window is not None:
        return rows
    if not spec.vector_length:
        return rows[:, None]
    steps, channels = spec.sequence_shape
    sequence = rows.new_empty(rows.shape[0], steps, channels)
    sequence[:, :, 0] = rows[:, :steps]
    sequence[:, :, 1:] = rows[:, None, steps:]
    return sequence


def drop_features(rows: Tensor, spec: InputSpec, rate: float, noise: torch.Generator) -> Tensor:
    """Set whole features of single rows to 0, their mean after scaling, with probability `rate`.

    The vector column is one feature, each scalar is one; of a window each channel is one, over all steps.
    Unlike in dropout, the rest is not scaled up: the rows imitate records in which a feature is missing.

    Args:
        rows: [n, *row_shape].
        spec: Says where the features lie.
        rate: Probability, in [0, 1).
        noise: Generator of the mask.
    """
    if spec.window is not None:
        kept = torch.rand(rows.shape[0], 1, spec.n_scalars, generator=noise) >= rate
        return rows * kept
    groups = spec.n_scalars + (1 if spec.vector_length else 0)
    kept = torch.rand(rows.shape[0], groups, generator=noise) >= rate
    if spec.vector_length:
        vector = kept[:, :1].expand(-1, spec.vector_length)
        kept = torch.cat((vector, kept[:, 1:]), dim=1)
    return rows * kept
