"""Columns made of a few values."""

import numpy as np

from flow_nexus_neural.data.table import TextColumn


def text(*values):
    levels = tuple(dict.fromkeys(value for value in values if value is not None))
    codes = [-1 if value is None else levels.index(value) for value in values]
    return TextColumn(np.array(codes, dtype=np.int32), levels)


def numbers(*values):
    return np.array(values, dtype=np.float64)
