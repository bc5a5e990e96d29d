"""Finds leaks: features that almost equal the label, and test rows that also occur in training."""

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.table import Indices

SUSPICIOUS = 0.999


def suspicious_values(
    x: NDArray[np.float32], labels: NDArray[np.float64], n_classes: int | None
) -> NDArray[np.bool_]:
    """Find inputs that almost equal the label: |Pearson correlation| above 0.999 on training rows.

    Args:
        x: [rows, width] scaled training rows.
        labels: [rows] value or class index.
        n_classes: Number of classes for more than two; every class is then also tried against the rest.

    Returns:
        [width] bool.
    """
    outputs = [labels]
    if n_classes is not None and n_classes > 2:
        outputs.extend((labels == index).astype(np.float64) for index in range(n_classes))
    found = np.zeros(x.shape[1], dtype=np.bool_)
    total = np.zeros(x.shape[1])
    squares = np.zeros(x.shape[1])
    products = np.zeros((len(outputs), x.shape[1]))
    targets = np.stack([_standard(output) for output in outputs])
    for start in range(0, len(x), 65_536):
        block = x[start : start + 65_536].astype(np.float64)
        total += block.sum(axis=0)
        squares += (block**2).sum(axis=0)
        products += targets[:, start : start + 65_536] @ block
    spread = np.sqrt(np.maximum(squares / len(x) - (total / len(x)) ** 2, 0.0))
    varies = spread > 0
    correlation = np.abs(products[:, varies]) / len(x) / spread[varies]
    found[varies] = (correlation > SUSPICIOUS).any(axis=0)
    return found


def repeated_rows(x: NDArray[np.float32], train: Indices, test: Indices) -> int:
    """Number of test rows whose inputs also occur in train.

    Rows are compared by a 64-bit hash; an accidental match among a million rows is about as likely as
    one in ten million.
    """
    words = np.ascontiguousarray(x).view(np.uint32)
    hashes = np.full(len(words), 0x9E3779B97F4A7C15, dtype=np.uint64)
    for column in range(words.shape[1]):
        hashes ^= words[:, column]
        hashes *= np.uint64(0xBF58476D1CE4E5B9)
        hashes ^= hashes >> np.uint64(29)
    known = np.sort(hashes[train])
    asked = hashes[test]
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return int((known[place] == asked).sum())


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = values - values.mean()
    spread = float(np.sqrt((centred**2).mean()))
    scaled: NDArray[np.float64] = centred / spread if spread > 0 else centred
    return scaled
