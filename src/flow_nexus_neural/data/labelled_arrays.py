"""Inputs with labels as arrays: which keys hold them, and what shapes they may have."""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.json_text import json_kind
from flow_nexus_neural.data.table import (
    Column,
    Numbers,
    TextColumn,
    check_size,
    has_words,
    matrix_columns,
    numbers_from,
)
from flow_nexus_neural.errors import InvalidDataset

INPUT_KEYS = ("X", "x", "data", "features")
LABEL_KEYS = ("y", "labels", "targets", "target")
_PARTS: Final = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
_INPUT_WORDS: Final = frozenset({"x", "data", "features", "inputs", "images"})
_LABEL_WORDS: Final = frozenset({"y", "label", "labels", "target", "targets"})


def own_parts(keys: Iterable[object]) -> dict[str, tuple[str, str]]:
    """Keys such as `x_train, y_train, x_test, y_test`: inputs and labels of each part, train first.

    Empty if there are no training rows of this form.
    """
    found: dict[tuple[str, bool], str] = {}
    for key in map(str, keys):
        words = [word for word in re.split(r"[_\- ]+", key.lower()) if word]
        if len(words) != 2:
            continue
        for part, what in (words, words[::-1]):
            if part in _PARTS and what in _INPUT_WORDS | _LABEL_WORDS:
                found.setdefault((_PARTS[part], what in _LABEL_WORDS), key)
    parts = {
        part: (found[part, False], found[part, True])
        for part in ("train", "validation", "test")
        if (part, False) in found and (part, True) in found
    }
    return parts if "train" in parts else {}


def one_label_per_row(labels: Sequence[object], key: str, subject: str) -> Sequence[object]:
    """Labels of which each may be a list of one; a column vector, as numpy and Keras like it.

    Raises:
        InvalidDataset: If they are one-hot, or several per row.
    """
    if not labels or not all(isinstance(label, list) for label in labels):
        return labels
    widths = {len(label) for label in labels if isinstance(label, list)}
    if widths == {1}:
        return one_label_per_row(
            [label[0] for label in labels if isinstance(label, list)], key, subject
        )
    try:
        array = np.asarray(labels, dtype=np.float64)
    except (ValueError, TypeError):
        array = np.empty((len(labels), 0))
    raise _several_labels(array, key, subject)


def label_vector(labels: Column, key: str, subject: str) -> Column:
    """As `one_label_per_row`, of an array."""
    if isinstance(labels, TextColumn) or labels.ndim == 1:
        return labels
    if prod(labels.shape[1:]) == 1:
        return labels.reshape(len(labels))
    raise _several_labels(labels, key, subject)


def _several_labels(array: NDArray[Any], key: str, subject: str) -> InvalidDataset:
    flat = array.reshape(len(array), -1)
    one_hot = bool(flat.size) and bool(
        (((flat == 0) | (flat == 1)).all(axis=1) & (flat.sum(axis=1) == 1)).all()
    )
    if one_hot:
        return InvalidDataset(
            f"{subject}: '{key}' is one-hot, with {flat.shape[1]} values per row",
            hint=f"give the number of the class per row, in numpy {key}.argmax(axis=1)",
        )
    return InvalidDataset(
        f"{subject}: '{key}' has several labels per row (shape {list(array.shape)})"
        if flat.size
        else f"{subject}: a label in '{key}' is a list",
        hint="give one number, text or boolean per row",
    )


def flattening_note(shape: Sequence[int]) -> tuple[str, ...]:
    """What to say of inputs that were flattened; empty where they were not."""
    if len(_squeezed(shape)) <= 3:
        return ()
    return (f"inputs of shape {list(shape[1:])} are flattened to {prod(shape[1:])} columns",)


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape of more than three sizes without those that are 1, as images of one channel have."""
    sizes = list(shape)
    while len(sizes) > 3 and 1 in sizes[1:]:
        del sizes[sizes.index(1, 1)]
    return tuple(sizes)


def label_key(value: Mapping[str, object], inputs: str, subject: str) -> str:
    """Find the key that holds the labels.

    Raises:
        InvalidDataset: If there is none.
    """
    key = next((key for key in LABEL_KEYS if key in value), None)
    if key is None:
        raise InvalidDataset(
            f"{subject} has inputs in '{inputs}' but no labels",
            hint="add one of y, labels, targets, target with one label per row",
        )
    return key


def columns_of_matrix(
    inputs: Numbers, names: Sequence[str] | None, subject: str
) -> dict[str, Column]:
    """Columns of an input array: [rows], [rows, width], [rows, steps, channels]; more sizes are flattened.

    Raises:
        InvalidDataset: If the array is empty, or the names do not fit.
        LimitExceeded: If it is too wide.
    """
    if inputs.ndim == 1:
        inputs = inputs[:, None]
    if inputs.ndim > 3 and inputs.size:
        sizes = _squeezed(inputs.shape)
        inputs = inputs.reshape(sizes if len(sizes) == 3 else (len(inputs), -1))
    if inputs.ndim not in (2, 3) or 0 in inputs.shape:
        raise InvalidDataset(
            f"{subject}: inputs have shape {list(inputs.shape)}",
            hint="inputs are [rows, columns] or [rows, steps, channels] with at least one of each",
        )
    width = inputs.shape[-1]
    prefix = "f" if inputs.ndim == 2 else "c"
    labels = list(names) if names is not None else [f"{prefix}{index}" for index in range(width)]
    if len(labels) != width or len(set(labels)) != width:
        raise InvalidDataset(
            f"{subject}: {len(labels)} feature names for {width} columns, or a name given twice",
            hint="give one distinct name per column",
        )
    check_size(len(inputs), int(np.prod(inputs.shape[1:])), subject)
    if inputs.ndim == 3:
        return {name: inputs[:, :, index] for index, name in enumerate(labels)}
    return matrix_columns(inputs, labels)


def labels_column(values: Sequence[object], subject: str) -> Column:
    """A label column: numbers when all are, else text.

    Raises:
        InvalidDataset: If a label is a list or an object.
    """
    odd = next((value for value in values if isinstance(value, (list, dict))), None)
    if odd is not None:
        raise InvalidDataset(
            f"{subject}: a label is {json_kind(odd)}",
            hint="give one number, text or boolean per row",
        )
    numbers = numbers_from(values)
    if numbers is not None and not (np.isnan(numbers).all() and has_words(values)):
        return numbers
    levels: dict[str, int] = {}
    texts = ["" if value is None else str(value) for value in values]
    codes = [levels.setdefault(text, len(levels)) if text.strip() else -1 for text in texts]
    return TextColumn(np.asarray(codes, dtype=np.int32), tuple(levels))
